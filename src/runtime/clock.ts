/** The real clock: monotonic instants and timers. */
import { monotonicMs } from "../base/monotonic.ts";
import { type Clock as BaseClock, instant } from "../base/time.ts";

/** Longest delay that a Node.js timer supports. Longer delays are cut to it, and the driver rearms the timer. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The clock of the driver, which also yields to other work. */
export interface Clock extends BaseClock {
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
