/** When a worker has to be replaced although it runs: age, requests, memory. Feeding the numbers is not done here. */
import type { LimitKind } from "./event.ts";
import type { LimitsPolicy } from "./spec.ts";

/** `value` spread evenly over value·(1 ± ratio); `random` is 0 … 1. */
export function jittered(value: number, ratio: number, random: number): number {
  return value * (1 + ratio * (2 * random - 1));
}

/** Milliseconds a worker born now may live; undefined is for ever. */
export function decideLifespanMs(limits: LimitsPolicy, random: number): number | undefined {
  return limits.lifespanMs === undefined ? undefined : jittered(limits.lifespanMs, limits.jitterRatio, random);
}

/** Requests a worker born now may serve, at least 1; undefined is without end. */
export function decideRequestBudget(limits: LimitsPolicy, random: number): number | undefined {
  return limits.requests === undefined
    ? undefined
    : Math.max(1, Math.round(jittered(limits.requests, limits.jitterRatio, random)));
}

/** Samples in a row above the soft limit that it takes to recycle: one spike that is freed again does no harm. */
export const MEMORY_SAMPLES = 2;

export interface MemoryVerdict {
  /** Samples in a row above the soft limit, this one included. */
  readonly samplesAbove: number;
  /** The limit that is reached, if one is. */
  readonly limit: Extract<LimitKind, "memory" | "memory_hard"> | undefined;
}

/** Folds one sample of a worker's memory; `samplesAbove` is the count that the previous sample returned. */
export function decideMemory(limits: LimitsPolicy, samplesAbove: number, bytes: number): MemoryVerdict {
  if (limits.memoryHardBytes !== undefined && bytes > limits.memoryHardBytes) {
    return { samplesAbove: samplesAbove + 1, limit: "memory_hard" };
  }
  if (limits.memoryBytes === undefined || bytes <= limits.memoryBytes) return { samplesAbove: 0, limit: undefined };
  const above = samplesAbove + 1;
  return { samplesAbove: above, limit: above >= MEMORY_SAMPLES ? "memory" : undefined };
}
