/**
 * When a running worker must be replaced because of its age, requests or memory, and when its memory must be sampled
 * again. Measuring happens elsewhere.
 */
import type { LimitKind } from "../event.ts";
import type { LimitsPolicy } from "../spec.ts";

/** `value` spread evenly over value·(1 ± ratio); `random` is 0 … 1. */
export function jittered(value: number, ratio: number, random: number): number {
  return value * (1 + ratio * (2 * random - 1));
}

/** Lifespan of a worker that starts now, in milliseconds; undefined is unlimited. */
export function decideLifespanMs(limits: LimitsPolicy, random: number): number | undefined {
  return limits.lifespanMs === undefined ? undefined : jittered(limits.lifespanMs, limits.jitterRatio, random);
}

/** Requests that a worker that starts now may serve, at least 1; undefined is unlimited. */
export function decideRequestBudget(limits: LimitsPolicy, random: number): number | undefined {
  return limits.requests === undefined
    ? undefined
    : Math.max(1, Math.round(jittered(limits.requests, limits.jitterRatio, random)));
}

/** Consecutive samples above the soft limit before a worker is replaced: a short spike does no harm. */
export const MEMORY_SAMPLES = 2;

export interface MemoryVerdict {
  /** Consecutive samples above the soft limit, this one included. */
  readonly samplesAbove: number;
  /** The limit that was reached, if any. */
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

/** Time between two samples of a worker that is far from its limits, and of one that is near. */
export const FAR_SAMPLE_MS = 5000;
export const NEAR_SAMPLE_MS = 2000;

/** A worker is near a limit from this share of it on. */
const NEAR_RATIO = 0.75;

/** Time between two samples that count as consecutive above the soft limit. */
export const CONFIRM_MS = 1000;

/** Growth that may begin at any time, in bytes per millisecond. A worker that could pass its hard limit unseen is near it. */
const SUDDEN_GROWTH = 40e3;

/** Shortest time between two samples, however fast the memory grows. */
export const LEAST_SAMPLE_MS = 50;

/**
 * Milliseconds until the memory of a worker that has `bytes` now should be looked at again, so that a hard limit is noticed
 * in time: half the way to it at the present growth (bytes a millisecond, 0 where it shrinks). A soft limit may be
 * passed by a second's growth; above it the next look confirms.
 */
export function decideSampleDelayMs(limits: LimitsPolicy, bytes: number, growthPerMs: number): number {
  const { memoryBytes = Number.POSITIVE_INFINITY, memoryHardBytes = Number.POSITIVE_INFINITY } = limits;
  const isNear =
    bytes >= NEAR_RATIO * Math.min(memoryBytes, memoryHardBytes) ||
    memoryHardBytes - bytes < SUDDEN_GROWTH * FAR_SAMPLE_MS;
  const usualMs = isNear ? NEAR_SAMPLE_MS : FAR_SAMPLE_MS;
  const softMs = bytes > memoryBytes ? CONFIRM_MS : Math.max(CONFIRM_MS, (memoryBytes - bytes) / growthPerMs);
  const hardMs = Math.max(LEAST_SAMPLE_MS, (memoryHardBytes - bytes) / growthPerMs / 2);
  // Without growth both are infinite; 0 / 0 at a limit itself is no number.
  return Math.min(usualMs, Number.isNaN(softMs) ? CONFIRM_MS : softMs, Number.isNaN(hardMs) ? LEAST_SAMPLE_MS : hardMs);
}
