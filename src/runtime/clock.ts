/** The real clock: monotonic instants and timers. */
import { monotonicMs } from "../base/monotonic.ts";
import { type Instant, instant } from "../base/time.ts";

/** Longest delay that a Node.js timer supports. Longer delays are cut to it, and the driver rearms the timer. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Reads the time and schedules wake-ups. */
export interface Clock {
  now(): Instant;
  /** Calls `wake` at or soon after `at`, unless disposed first. May call it early if `at` is weeks away. */
  wakeAt(at: Instant, wake: () => void): Disposable;
  /** Calls `go` in the next turn of the event loop, after the callbacks that are due in that turn. */
  nextTurn(go: () => void): void;
}

/** The system's monotonic clock. */
export const systemClock: Clock = {
  now: () => instant(monotonicMs()),
  wakeAt(at, wake) {
    const timer = setTimeout(wake, Math.min(Math.max(0, Math.ceil(at - monotonicMs())), MAX_TIMER_MS));
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
  nextTurn: setImmediate,
};
