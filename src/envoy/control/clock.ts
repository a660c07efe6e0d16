/** The time source for the control of Envoy. */
import type { Instant } from "../../base/time.ts";

/** Provides the current time and timers. */
export interface Clock {
  now(): Instant;
  /** Calls `wake` at `at` or soon after, unless disposed first. */
  wakeAt(at: Instant, wake: () => void): Disposable;
}
