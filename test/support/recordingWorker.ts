/**
 * A worker that records what reaches it. It reads HTTP/1 without normalizing it, appends each request as a line of JSON to
 * the file RECORD, and answers with the bytes that the file ANSWERS contains for the request's X-Row header. It listens on
 * PORT, or on the Unix socket given as last argument.
 */
import { appendFileSync, readFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";

/** Names and values as received, in order. */
export type HeaderList = readonly (readonly [name: string, value: string])[];

/** A request as it arrived. */
export interface SeenRequest {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly headers: HeaderList;
  readonly body: string;
  readonly trailers: HeaderList;
}

/** The answer to a request. Texts are latin1. */
export interface ScriptedAnswer {
  readonly response: string;
  /** Sent when the headers have arrived, before the body is read. */
  readonly interim?: string;
  /** The response is sent when the headers have arrived, and the body is read afterwards. */
  readonly isEarly?: boolean;
  /** The connection is closed after the response. */
  readonly isClosing?: boolean;
  /** After the response all received bytes are echoed. */
  readonly isEcho?: boolean;
}

const EMPTY_LINE = "\r\n\r\n";

/** The lines of a block of headers. */
export function parseHeaders(lines: readonly string[]): HeaderList {
  return lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).replaceAll(/^[ \t]+|[ \t]+$/gu, "")] as const;
  });
}

/** The value of the first header with this name, ignoring case. */
export function headerOf(headers: HeaderList, name: string): string | undefined {
  return headers.find(([each]) => each.toLowerCase() === name)?.[1];
}

/** Parses a chunked body and what follows it; undefined if it is not complete. */
export function parseChunks(text: string): { body: string; trailers: HeaderList; rest: string } | undefined {
  let body = "";
  for (let at = 0; ; ) {
    const end = text.indexOf("\r\n", at);
    if (end < 0) return undefined;
    const size = Number.parseInt(text.slice(at, end), 16);
    at = end + 2;
    if (size === 0) {
      if (text.startsWith("\r\n", at)) return { body, trailers: [], rest: text.slice(at + 2) };
      const last = text.indexOf(EMPTY_LINE, at);
      if (last < 0) return undefined;
      const trailers = parseHeaders(text.slice(at, last).split("\r\n"));
      return { body, trailers, rest: text.slice(last + EMPTY_LINE.length) };
    }
    if (text.length < at + size + 2) return undefined;
    body += text.slice(at, at + size);
    at += size + 2;
  }
}

function serve(socket: Socket, answers: Readonly<Record<string, ScriptedAnswer>>, record: string): void {
  let text = "";
  let head: { request: Omit<SeenRequest, "body" | "trailers">; answer: ScriptedAnswer } | undefined;
  let isEcho = false;
  const send = (bytes: string) => socket.write(Buffer.from(bytes, "latin1"));
  const advance = (): boolean => {
    if (head === undefined) {
      const end = text.indexOf(EMPTY_LINE);
      if (end < 0) return false;
      const [first = "", ...lines] = text.slice(0, end).split("\r\n");
      const [method = "", target = "", version = ""] = first.split(" ");
      const headers = parseHeaders(lines);
      text = text.slice(end + EMPTY_LINE.length);
      const answer = answers[headerOf(headers, "x-row") ?? ""] ?? { response: "HTTP/1.1 500 No Row\r\n\r\n" };
      head = { request: { method, target, version, headers }, answer };
      if (answer.interim !== undefined) send(answer.interim);
      if (answer.isEarly === true) send(answer.response);
    }
    const { request, answer } = head;
    let parts: { body: string; trailers: HeaderList; rest: string } | undefined;
    if (/chunked/iu.test(headerOf(request.headers, "transfer-encoding") ?? "")) parts = parseChunks(text);
    else {
      const length = Number(headerOf(request.headers, "content-length") ?? 0);
      if (text.length >= length) parts = { body: text.slice(0, length), trailers: [], rest: text.slice(length) };
    }
    if (parts === undefined) return false;
    head = undefined;
    text = parts.rest;
    const seen: SeenRequest = { ...request, body: parts.body, trailers: parts.trailers };
    appendFileSync(record, `${JSON.stringify(seen)}\n`);
    if (answer.isEarly !== true) send(answer.response);
    if (answer.isClosing === true) socket.end();
    isEcho = answer.isEcho === true;
    return true;
  };
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    if (isEcho) socket.write(chunk);
    else {
      text += chunk.toString("latin1");
      while (advance());
    }
  });
}

if (process.argv[1] === import.meta.filename) {
  const { RECORD = "", ANSWERS = "", PORT } = process.env;
  const answers = JSON.parse(readFileSync(ANSWERS, "utf8")) as Record<string, ScriptedAnswer>;
  const server = createServer((socket) => serve(socket, answers, RECORD));
  if (PORT === undefined) server.listen(process.argv.at(-1), () => process.stdout.write("listening\n"));
  else server.listen(Number(PORT), "127.0.0.1", () => process.stdout.write("listening\n"));
}
