/** Delay before the next request to a controller that does not respond. Pure. */

const FIRST_MS = 500;
const LAST_MS = 10_000;

/** Delay in milliseconds after this number of failures in a row, at least 1: it doubles each time, up to 10 s. */
export function backoffMs(failures: number): number {
  return Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 10));
}
