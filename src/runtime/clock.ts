/** The real clock: monotonic instants and timers. */
import { monotonicMs } from "../base/monotonic.ts";
import { type Instant, instant } from "../base/time.ts";

/** Longest wait a timer of Node.js takes; longer ones are cut, the driver arms them again. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Tells the time and wakes up. */
export interface Clock {
  now(): Instant;
  /** Calls `wake` at `at` or soon after, unless disposed before; may wake early where `at` is weeks away. */
  wakeAt(at: Instant, wake: () => void): Disposable;
  /** Calls `go` in the next turn of the event loop, after what is due in it. */
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
