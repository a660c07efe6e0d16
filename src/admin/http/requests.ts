/** What route handlers read from a request: its body, the worker it names, bounded numbers. */
import { ControllerError } from "../../base/errors.ts";
import type { Slot } from "../../core/identity.ts";
import type { PoolView } from "../../core/view.ts";
import type { Action, Bounds } from "../api.ts";
import type { Call } from "./route.ts";

/** The worker that a request names, as the only one of `slots`. @throws ControllerError WORKER_UNKNOWN */
export function findWorker(
  call: Call,
  action: Action | "dump" | "profile",
): { readonly pool: PoolView; readonly slots: readonly [Slot] } {
  const id = call.segment("worker");
  for (const pool of call.controller.view().pools) {
    const worker = pool.workers.find((each) => each.id === id);
    if (worker !== undefined) return { pool, slots: [worker.slot] };
  }
  throw new ControllerError("WORKER_UNKNOWN", `Cannot ${action} worker "${id}": no such worker`);
}

/** A JSON object with no keys but these. @throws ControllerError REQUEST_INVALID that describes the expected body */
export function parseBody(text: string, known: readonly string[], example: string): object {
  const expected = `expected a JSON object such as ${example}`;
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ControllerError("REQUEST_INVALID", `The body is ${text === "" ? "empty" : "not JSON"}, ${expected}`);
  }
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw new ControllerError("REQUEST_INVALID", `The body is not an object, ${expected}`);
  const unknown = Object.keys(body).find((key) => !known.includes(key));
  if (unknown !== undefined)
    throw new ControllerError("REQUEST_INVALID", `The body has an unknown key ${shorten(unknown)}, ${expected}`);
  return body;
}

/** A whole number within bounds; the default if absent. @throws ControllerError REQUEST_INVALID */
export function wholeNumber(name: string, value: unknown, bounds: Bounds): number {
  if (value === undefined) return bounds.default;
  if (typeof value === "number" && Number.isInteger(value) && value >= bounds.least && value <= bounds.most)
    return value;
  throw new ControllerError(
    "REQUEST_INVALID",
    `${name}: expected a whole number from ${bounds.least} to ${bounds.most}, got ${shorten(value)}`,
  );
}

/** A received value, shortened for a message. */
export function shorten(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
