/**
 * The gRPC health protocol (grpc.health.v1.Health/Check over HTTP/2 without TLS). Loaded on the first gRPC probe,
 * because node:http2 costs memory. The two messages are small enough to encode and decode by hand: field 1 of the
 * request is the service name, field 1 of the response is the status.
 */
import { type ClientHttp2Session, connect, constants } from "node:http2";
import { connect as connectSocket } from "node:net";
import type { AttemptOutcome } from "../../core/policy/probe.ts";
import { Attempt, connectOptions, type NetworkMethod, outcomeOfError } from "./attempt.ts";

/** A valid response is 7 bytes; anything longer than this is not a health status. */
const MAX_ANSWER_BYTES = 4096;

/** Length of the message prefix: one byte for the compression flag (0: not compressed) and four for the length. */
const FRAME_BYTES = 5;

const SERVING = 1;
const STATUS_NAMES = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"] as const;

/** The gRPC codes that health checks commonly return; other codes are reported by number. */
const CODE_NAMES: Readonly<Record<string, string>> = {
  "5": "NOT_FOUND: the service is not known to the worker",
  "12": "UNIMPLEMENTED: the worker does not speak the health protocol",
  "14": "UNAVAILABLE",
};

/** A framed HealthCheckRequest; undefined checks the server as a whole. */
export function encodeHealthRequest(service: string | undefined): Buffer {
  const name = Buffer.from(service ?? "");
  const length: number[] = [];
  for (let rest = name.length; length.length === 0 || rest > 0; rest >>>= 7)
    length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
  const message = name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, ...length]), name]);
  const frame = Buffer.alloc(FRAME_BYTES);
  frame.writeUInt32BE(message.length, 1);
  return Buffer.concat([frame, message]);
}

/** The status in a framed HealthCheckResponse; undefined if it is invalid. No field means status 0, UNKNOWN. */
export function decodeHealthStatus(frame: Buffer): number | undefined {
  if (frame.length < FRAME_BYTES || frame[0] !== 0 || frame.readUInt32BE(1) !== frame.length - FRAME_BYTES)
    return undefined;
  if (frame.length === FRAME_BYTES) return 0;
  const [tag, status] = frame.subarray(FRAME_BYTES);
  return tag === 0x08 && frame.length === FRAME_BYTES + 2 && status !== undefined && status < 0x80 ? status : undefined;
}

export interface GrpcSettings {
  /** undefined checks the server as a whole. */
  readonly service: string | undefined;
}

/** Checks the health of `service`; SERVING is success. */
export const attemptGrpc: NetworkMethod<GrpcSettings>["attempt"] = (address, { service }, timeoutMs, settle) => {
  const attempt = new Attempt(timeoutMs, settle);
  const socket = connectSocket(connectOptions(address));
  attempt.releaseBy(() => socket.destroy());
  socket.on("error", (error) => attempt.end(outcomeOfError(error)));
  // Not before: the session's error for a failed connection hides which side caused it.
  socket.once("connect", () => {
    const session = connect("http://localhost", { createConnection: () => socket });
    attempt.releaseBy(() => session.destroy());
    session.on("error", (error) => attempt.end(outcomeOfError(error)));
    session.on("close", () => attempt.fail("connection closed"));
    ask(session, service, attempt);
  });
  return attempt;
};

function ask(session: ClientHttp2Session, service: string | undefined, attempt: Attempt): void {
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_AUTHORITY]: "localhost",
    [constants.HTTP2_HEADER_PATH]: "/grpc.health.v1.Health/Check",
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
    [constants.HTTP2_HEADER_TE]: "trailers",
    [constants.HTTP2_HEADER_USER_AGENT]: "monoceros-probe",
  });
  const chunks: Buffer[] = [];
  let bytes = 0;
  let httpStatus: number | undefined;
  let code: string | undefined;
  stream.on("error", (error) => attempt.end(outcomeOfError(error)));
  stream.on("response", (headers) => {
    httpStatus = headers[":status"];
    code = textOf(headers["grpc-status"]);
  });
  stream.on("trailers", (trailers) => {
    code = textOf(trailers["grpc-status"]) ?? code;
  });
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) attempt.fail("the response is too long");
    else chunks.push(chunk);
  });
  stream.on("end", () => attempt.end(judge(httpStatus, code, Buffer.concat(chunks))));
  stream.end(encodeHealthRequest(service));
}

function judge(httpStatus: number | undefined, code: string | undefined, answer: Buffer): AttemptOutcome {
  const failure = (reason: string): AttemptOutcome => ({ kind: "failure", reason });
  if (httpStatus !== 200) return failure(`HTTP ${httpStatus ?? "without status"}`);
  if (code !== "0") return failure(code === undefined ? "no gRPC status" : `gRPC status ${CODE_NAMES[code] ?? code}`);
  const status = decodeHealthStatus(answer);
  if (status === undefined) return failure("the response is not a health status");
  return status === SERVING ? { kind: "success" } : failure(STATUS_NAMES[status] ?? `health status ${status}`);
}

/** The value of a header, short and without control characters: it comes from the worker. */
function textOf(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === "string" ? value.replaceAll(/[^\w]/gu, "").slice(0, 10) : undefined;
}
