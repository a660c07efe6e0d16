/**
 * Reads one HTTP/1.1 response from the bytes of a connection: where it ends, whether it is complete, and whether the
 * connection may be reused. It keeps the head and the first bytes of the body for error messages.
 */

/** State of the response after the bytes so far. */
export type ReadState = "more" | "done" | "malformed";

const HEAD_END = Buffer.from("\r\n\r\n");
/** Bytes of the body that are kept. */
const KEPT_BODY_BYTES = 512;
const HEAD_LIMIT_BYTES = 65_536;
const EMPTY = Buffer.alloc(0);

type Part = "head" | "sized" | "untilClose" | "chunkSize" | "chunkData" | "chunkEnd" | "trailer" | "end";

export class ResponseReader {
  /** Whether any byte has arrived. */
  hasBegun = false;
  /** 0 until the head is complete. */
  status = 0;
  /** Status line and headers as received, latin1. */
  head = "";
  bodyBytes = 0;
  /** Whether the server leaves the connection open after this response. */
  isKeptAlive = false;
  #part: Part = "head";
  #pending: Buffer = EMPTY;
  #missing = 0;
  #line = "";
  #kept: Buffer[] = [];
  #keptBytes = 0;

  /** Resets the reader for the next response. */
  reset(): void {
    this.hasBegun = false;
    this.status = 0;
    this.head = "";
    this.bodyBytes = 0;
    this.isKeptAlive = false;
    this.#part = "head";
    this.#pending = EMPTY;
    this.#line = "";
    this.#kept = [];
    this.#keptBytes = 0;
  }

  /** The first bytes of the body as text. */
  get body(): string {
    return Buffer.concat(this.#kept).toString("utf8", 0, KEPT_BODY_BYTES);
  }

  /** The value of a header (lower-case name); undefined if absent. */
  header(name: string): string | undefined {
    return new RegExp(`^${name}:[ \\t]*([^\\r\\n]*?)[ \\t]*\\r?$`, "imu").exec(this.head)?.[1];
  }

  /** Reads more bytes. Bytes after the end of the response are malformed, because requests are not pipelined. */
  push(chunk: Buffer): ReadState {
    this.hasBegun = true;
    if (this.#part !== "head") return this.#readBody(chunk);
    const bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const end = bytes.indexOf(HEAD_END);
    if (end < 0) {
      this.#pending = bytes;
      return bytes.length > HEAD_LIMIT_BYTES ? "malformed" : "more";
    }
    this.#pending = EMPTY;
    this.head = bytes.toString("latin1", 0, end);
    const rest = bytes.subarray(end + HEAD_END.length);
    if (!this.#readHead()) return "malformed";
    // 100 and 103 precede the final response.
    if (this.status < 200 && this.status !== 101) {
      this.status = 0;
      this.#part = "head";
      return rest.length === 0 ? "more" : this.push(rest);
    }
    return this.#readBody(rest);
  }

  /** Whether the server's FIN at this point is the proper end of the response. */
  isEndedByClose(): boolean {
    return this.#part === "untilClose" || this.#part === "end";
  }

  #readHead(): boolean {
    const line = /^HTTP\/1\.([01]) (\d{3})(?: |\r|$)/u.exec(this.head);
    if (line === null) return false;
    this.status = Number(line[2]);
    const connection = this.header("connection")?.toLowerCase() ?? "";
    this.isKeptAlive = line[1] === "1" ? !connection.includes("close") : connection.includes("keep-alive");
    const length = this.header("content-length");
    if (this.status === 204 || this.status === 304) this.#part = "end";
    else if (this.header("transfer-encoding")?.toLowerCase().includes("chunked") === true) this.#part = "chunkSize";
    else if (length !== undefined) {
      if (!/^\d+$/u.test(length)) return false;
      this.#missing = Number(length);
      this.#part = this.#missing === 0 ? "end" : "sized";
    } else {
      this.#part = "untilClose";
      this.isKeptAlive = false;
    }
    return true;
  }

  #readBody(chunk: Buffer): ReadState {
    let at = 0;
    while (at < chunk.length) {
      switch (this.#part) {
        case "untilClose":
          this.#keep(chunk.subarray(at));
          return "more";
        case "sized":
        case "chunkData": {
          const part = chunk.subarray(at, at + this.#missing);
          this.#keep(part);
          at += part.length;
          this.#missing -= part.length;
          if (this.#missing === 0) this.#part = this.#part === "sized" ? "end" : "chunkEnd";
          break;
        }
        case "chunkSize":
        case "chunkEnd":
        case "trailer": {
          const end = chunk.indexOf(10, at);
          this.#line += chunk.toString("latin1", at, end < 0 ? chunk.length : end);
          if (end < 0) return "more";
          at = end + 1;
          if (!this.#readLine(this.#line.replace(/\r$/u, ""))) return "malformed";
          this.#line = "";
          break;
        }
        default:
          return "malformed";
      }
    }
    return this.#part === "end" ? "done" : "more";
  }

  #readLine(line: string): boolean {
    if (this.#part === "chunkEnd") {
      this.#part = "chunkSize";
      return line === "";
    }
    if (this.#part === "trailer") {
      if (line === "") this.#part = "end";
      return true;
    }
    const size = /^([\da-f]+)(?:;.*)?$/iu.exec(line)?.[1];
    if (size === undefined) return false;
    this.#missing = Number.parseInt(size, 16);
    this.#part = this.#missing === 0 ? "trailer" : "chunkData";
    return true;
  }

  #keep(bytes: Buffer): void {
    this.bodyBytes += bytes.length;
    if (this.#keptBytes >= KEPT_BODY_BYTES) return;
    this.#kept.push(bytes);
    this.#keptBytes += bytes.length;
  }
}
