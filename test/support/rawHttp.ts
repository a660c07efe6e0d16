/** A client that sends bytes unchanged and reads an HTTP/1 response without normalizing it. */
import { connect, type Socket } from "node:net";
import { type HeaderList, headerOf, parseChunks, parseHeaders } from "./recordingWorker.ts";

/** Where a server listens. */
export type ServerPlace = { readonly port: number } | { readonly path: string };

/** A response as it arrived. Texts are latin1. */
export interface GotAnswer {
  /** Status lines and headers of the interim responses. */
  readonly interim: readonly { readonly status: string; readonly headers: HeaderList }[];
  /** Status code and reason phrase. */
  readonly status: string;
  readonly version: string;
  readonly headers: HeaderList;
  readonly body: string;
  readonly trailers: HeaderList;
}

export interface RawRequest {
  /** Latin1. */
  readonly text: string;
  /** Sent when the first interim response has arrived. */
  readonly afterInterim?: string;
  /** Sent when the response is complete. The same bytes must then be echoed. */
  readonly afterAnswer?: string;
}

/**
 * Sends a request over a connection of its own and returns the response. Rejects if the connection ends before the
 * response is complete, or if it is not complete within 20 s.
 */
export async function exchange(
  place: ServerPlace,
  { text, afterInterim, afterAnswer }: RawRequest,
): Promise<GotAnswer> {
  const socket: Socket = connect("port" in place ? { ...place, host: "127.0.0.1" } : place);
  let received = "";
  let isInterimAnswered = false;
  let isEnded = false;
  const isHead = text.startsWith("HEAD ");
  try {
    return await new Promise<GotAnswer>((done, fail) => {
      const timer = setTimeout(
        () => fail(new Error(`no answer, only ${JSON.stringify(received.slice(0, 500))}`)),
        20_000,
      );
      const finish = (answer: GotAnswer) => {
        clearTimeout(timer);
        done(answer);
      };
      let answer: GotAnswer | undefined;
      let echoed = "";
      const look = () => {
        if (answer !== undefined) return;
        const parsed = parseAnswer(received, isHead, isEnded);
        if (afterInterim !== undefined && !isInterimAnswered && parsed.interim > 0) {
          isInterimAnswered = true;
          socket.write(Buffer.from(afterInterim, "latin1"));
        }
        if (parsed.answer === undefined) {
          if (isEnded) fail(new Error(`the connection ended after ${JSON.stringify(received.slice(0, 500))}`));
          return;
        }
        answer = parsed.answer;
        if (afterAnswer === undefined) finish(answer);
        else socket.write(Buffer.from(afterAnswer, "latin1"));
      };
      socket.on("data", (chunk) => {
        if (answer !== undefined) {
          echoed += chunk.toString("latin1");
          if (echoed === afterAnswer) finish({ ...answer, body: echoed });
          return;
        }
        received += chunk.toString("latin1");
        look();
      });
      const ended = () => {
        isEnded = true;
        look();
      };
      socket.on("end", ended);
      socket.on("error", ended);
      socket.write(Buffer.from(text, "latin1"));
    });
  } finally {
    socket.destroy();
  }
}

function parseAnswer(text: string, isHead: boolean, isEnded: boolean): { interim: number; answer?: GotAnswer } {
  const interim: { status: string; headers: HeaderList }[] = [];
  let left = text;
  for (;;) {
    const end = left.indexOf("\r\n\r\n");
    if (end < 0) return { interim: interim.length };
    const [first = "", ...lines] = left.slice(0, end).split("\r\n");
    const [, version = "", status = ""] = /^(\S+) (.*)$/u.exec(first) ?? [];
    const headers = parseHeaders(lines);
    left = left.slice(end + 4);
    if (/^1(?!01)/u.test(status)) {
      interim.push({ status, headers });
      continue;
    }
    const answer = { interim, status, version, headers };
    const length = headerOf(headers, "content-length");
    if (isHead || /^(?:101|204|304)/u.test(status))
      return { interim: interim.length, answer: { ...answer, body: "", trailers: [] } };
    if (/chunked/iu.test(headerOf(headers, "transfer-encoding") ?? "")) {
      const parts = parseChunks(left);
      if (parts === undefined) return { interim: interim.length };
      return { interim: interim.length, answer: { ...answer, body: parts.body, trailers: parts.trailers } };
    }
    if (length !== undefined ? left.length < Number(length) : !isEnded) return { interim: interim.length };
    const body = length === undefined ? left : left.slice(0, Number(length));
    return { interim: interim.length, answer: { ...answer, body, trailers: [] } };
  }
}
