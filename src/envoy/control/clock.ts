/** Time as the control of Envoy needs it. */
import type { Instant } from "../../base/time.ts";

/** Tells the time and wakes up. */
export interface Clock {
  now(): Instant;
  /** Calls `wake` at `at` or soon after, unless disposed before. */
  wakeAt(at: Instant, wake: () => void): Disposable;
}
