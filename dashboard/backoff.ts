/** How long to wait before the controller is asked again. Pure. */

const FIRST_MS = 500;
const LAST_MS = 10_000;

/** Milliseconds to wait after so many failures in a row, 1 or more: each twice the one before, up to 10 s. */
export function backoffMs(failures: number): number {
  return Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 10));
}
