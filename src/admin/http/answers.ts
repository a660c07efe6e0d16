/** Non-streaming responses of the fronts: JSON documents and errors with a code. */
import { type ServerResponse, STATUS_CODES } from "node:http";
import type { ControllerError, ErrorCode } from "../../base/errors.ts";
import type { ApiError } from "../api.ts";

/** HTTP statuses of errors that a request can cause; any other error is a conflict with the current state. */
const STATUSES: Partial<Record<ErrorCode, number>> = {
  REQUEST_INVALID: 400,
  WORKER_UNKNOWN: 404,
  PROCESS_UNKNOWN: 404,
  POOL_UNKNOWN: 404,
  OPERATION_UNKNOWN: 404,
};

/** A JSON document with a newline. */
function toText(body: object): string {
  return `${JSON.stringify(body)}\n`;
}

function errorBody(code: ErrorCode, message: string): ApiError {
  return { error: { code, message } };
}

/** A complete raw response, for a connection on which no request could be parsed. */
export function rawError(status: number, code: ErrorCode, message: string): string {
  const text = toText(errorBody(code, message));
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(text)}`,
    "connection: close",
  ];
  return `${head.join("\r\n")}\r\n\r\n${text}`;
}

/** A JSON document. */
export function sendJson(response: ServerResponse, status: number, body: object): void {
  const text = toText(body);
  response
    .writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) })
    .end(text);
}

/** Sends an error; does nothing if the response has already started. */
export function sendError(response: ServerResponse, status: number, code: ErrorCode, message: string): void {
  if (response.headersSent) return;
  sendJson(response, status, errorBody(code, message));
}

/** Sends an error with the HTTP status of its code. */
export function sendFailure(response: ServerResponse, { code, message }: ControllerError): void {
  sendError(response, STATUSES[code] ?? 409, code, message);
}
