/** Decides when to report that a worker is still not ready. Pure. */
import type { Instant } from "../base/time.ts";

/** Before this a start is normal and not reported. */
const FIRST_REPORT_MS = 1000;

/** After this, changes are reported less often, and as warnings. */
export const SLOW_TO_READY_MS = 10_000;

/** State of one wait. */
export interface Wait {
  readonly since: Instant;
  /** The last report; undefined before the first. */
  readonly reported: { readonly text: string; readonly at: Instant } | undefined;
}

/** Whether `text` is to be reported at `now`: when it is new, and once more when the wait becomes a long one. */
export function isReportDue({ since, reported }: Wait, text: string, now: Instant): boolean {
  const waitedMs = now - since;
  if (reported === undefined) return waitedMs >= FIRST_REPORT_MS;
  const isLong = waitedMs >= SLOW_TO_READY_MS;
  if (isLong && reported.at - since < SLOW_TO_READY_MS) return true;
  return text !== reported.text && now - reported.at >= (isLong ? SLOW_TO_READY_MS : FIRST_REPORT_MS);
}
