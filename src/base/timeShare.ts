/**
 * Limits repeated work to a share of the time, but allows short bursts: after a pause, `burstMs` of work may run
 * without waiting. Times are monotonic milliseconds.
 */
export class TimeShare {
  readonly #share: number;
  readonly #burstMs: number;
  /** When all work so far would have ended had it run at exactly the share. */
  #paidAtMs = Number.NEGATIVE_INFINITY;

  /** `share` is above 0 and at most 1. */
  constructor(share: number, burstMs: number) {
    this.#share = share;
    this.#burstMs = burstMs;
  }

  /** Records work done from `startMs` to `endMs`. */
  spend(startMs: number, endMs: number): void {
    this.#paidAtMs = Math.max(this.#paidAtMs, startMs) + (endMs - startMs) / this.#share;
  }

  /** How long the next work must wait, in milliseconds; 0 if it may begin. */
  waitMs(nowMs: number): number {
    return Math.max(0, this.#paidAtMs - this.#burstMs / this.#share - nowMs);
  }
}
