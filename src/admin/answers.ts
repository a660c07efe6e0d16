/** Answers of the fronts that are no stream: JSON documents and errors with a code. */
import type { ServerResponse } from "node:http";
import { type ControllerError, ERROR_CODES, type ErrorCode } from "../base/errors.ts";
import type { ApiError } from "./api.ts";

/** HTTP statuses of errors that a request can meet; any other one is a conflict with what is going on. */
const STATUSES: Partial<Record<ErrorCode, number>> = {
  REQUEST_INVALID: 400,
  WORKER_UNKNOWN: 404,
  POOL_UNKNOWN: 404,
  OPERATION_UNKNOWN: 404,
};

/** A JSON document with a newline. */
export function sendJson(response: ServerResponse, status: number, body: object): void {
  const text = `${JSON.stringify(body)}\n`;
  response
    .writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) })
    .end(text);
}

/** An error; nothing where the answer has begun already. */
export function sendError(response: ServerResponse, status: number, code: ErrorCode, message: string): void {
  if (response.headersSent) return;
  sendJson(response, status, {
    error: { code, message: `${message} (${ERROR_CODES[code].meaning})` },
  } satisfies ApiError);
}

/** An error with the status of its code. */
export function sendFailure(response: ServerResponse, { code, message }: ControllerError): void {
  sendError(response, STATUSES[code] ?? 409, code, message);
}
