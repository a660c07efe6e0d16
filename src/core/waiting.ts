/** Decides when to report that a worker is not ready, and describes where it listens. Pure. */
import type { Instant } from "../base/time.ts";

/** A shorter start is normal and not reported. */
const FIRST_REPORT_MS = 1000;

/** After a longer start, changes are reported less often, and as warnings. */
export const SLOW_TO_READY_MS = 10_000;

/** State of one wait. */
export interface Wait {
  readonly since: Instant;
  /** The last report; undefined before the first. */
  readonly reported: { readonly text: string; readonly at: Instant } | undefined;
}

/** Whether to report `text` at `now`: when it is new, and once more when the wait becomes long. */
export function isReportDue({ since, reported }: Wait, text: string, now: Instant): boolean {
  const waitedMs = now - since;
  if (reported === undefined) return waitedMs >= FIRST_REPORT_MS;
  const isLong = waitedMs >= SLOW_TO_READY_MS;
  if (isLong && reported.at - since < SLOW_TO_READY_MS) return true;
  return text !== reported.text && now - reported.at >= (isLong ? SLOW_TO_READY_MS : FIRST_REPORT_MS);
}

/** Matches attempts that found no listener. */
const NO_LISTENER = /connection refused|\(ENOENT\)|nothing listens on/u;

/**
 * Where the processes of a worker listen, as the end of a sentence about its last attempt `text`. A listener at the address of
 * an attempt that found none has opened since.
 */
export function describeListening(text: string, listening: readonly string[]): string {
  if (listening.length === 0) return "; none of its processes is listening";
  const opened = NO_LISTENER.test(text) ? listening.find((address) => mentions(text, address)) : undefined;
  return opened === undefined
    ? `; its processes listen on ${listening.join(", ")}`
    : `; its process opened its listener on ${opened} after this attempt`;
}

/** Whether an attempt used an address. Attempts use 127.0.0.1, which a listener on all addresses also serves. */
function mentions(text: string, address: string): boolean {
  const asked = address.replace(/^(?:0\.0\.0\.0|\[::\]):/u, "127.0.0.1:");
  const at = text.indexOf(asked);
  return at >= 0 && !/[\w.-]/u.test(text[at + asked.length] ?? " ");
}
