/**
 * Points in time and durations. An Instant is monotonic, so it never jumps with the wall clock; a duration is a plain
 * number of milliseconds whose name ends in Ms.
 */

declare const instantBrand: unique symbol;

/** Monotonic milliseconds since an arbitrary start (fractions allowed). Comparable only within one process. */
export type Instant = number & { readonly [instantBrand]: true };

/** Provides the current time and timers. */
export interface Clock {
  now(): Instant;
  /** Calls `wake` at or soon after `at`, unless disposed first. May call it early if `at` is weeks away. */
  wakeAt(at: Instant, wake: () => void): Disposable;
}

/** Marks a number of monotonic milliseconds as an Instant; for clocks and tests. */
export function instant(ms: number): Instant {
  return ms as Instant;
}

/** The instant `ms` milliseconds after `at` (before it if `ms` is negative). */
export function after(at: Instant, ms: number): Instant {
  return (at + ms) as Instant;
}

/** The later of two instants. */
export function later(one: Instant, other: Instant): Instant {
  return one > other ? one : other;
}
