/** Answers whose every byte can be checked, and a ledger of which process executed which request. */

import { openSync, writeSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";

/** The body that belongs to a request: blocks with its id and their own offset, so that no two parts are equal. */
export function echoBody(id: number, bytes: number): Buffer {
  const prefix = `${id.toString(36).padStart(8, "0")}:`;
  const body = Buffer.allocUnsafe(Math.ceil(bytes / 16) * 16);
  for (let at = 0; at < body.length; at += 16)
    body.write(`${prefix}${at.toString(36).padStart(6, "0")}\n`, at, "latin1");
  return body.subarray(0, bytes);
}

/**
 * The route `/echo?id=&size=&ms=`: the body of `id` with `size` bytes after `ms`; 422 if a body was sent that is not the
 * one of `id`. With a ledger each request is one line in that file, and one on stdout before it, both numbered: a reader
 * can tell whether a request ran twice, and whether log lines are missing.
 */
export function makeEcho(ledgerPath: string | undefined) {
  const ledger = ledgerPath === undefined ? undefined : openSync(ledgerPath, "a");
  const by = `${process.env["MULTIPROCESS_WORKER_ID"]}.${process.env["MONOCEROS_INCARNATION"]}`;
  let lines = 0;
  const note = (id: number): void => {
    if (ledger === undefined) return;
    const nth = ++lines;
    // Of both forms, and some in two pieces: what the annotator does must not matter.
    if (nth % 3 === 0) process.stdout.write(`ledger ${by} ${nth}\n`);
    else if (nth % 3 === 1) process.stdout.write(`${JSON.stringify({ ledger: by, nth, id })}\n`);
    else {
      process.stdout.write(`{"ledger":"${by}",`);
      process.stdout.write(`"nth":${nth},"pad":"${"x".repeat((nth * 37) % 5000)}"}\n`);
    }
    writeSync(ledger, `${id} ${by} ${nth}\n`);
  };
  return (request: IncomingMessage, response: ServerResponse, query: URLSearchParams): void => {
    const id = Number(query.get("id") ?? 0);
    note(id);
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const sent = Buffer.concat(chunks);
      if (!sent.equals(echoBody(id, sent.length))) {
        response.writeHead(422).end(`the body of request ${id} is not its own\n`);
        return;
      }
      const body = echoBody(id, Number(query.get("size") ?? 0));
      response.setHeader("content-length", body.length);
      setTimeout(() => response.end(body), Number(query.get("ms") ?? 0));
    });
  };
}
