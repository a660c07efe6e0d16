/**
 * How many workers of a pool may be replaced for a failed liveness probe at once. If all fail together, the cause is
 * seldom in the workers (a database is down), and killing them all would add an outage. So a few are replaced. The next
 * ones follow when a successor has passed its liveness probe, or after a cool-down. A replacement counts until then even
 * if no other worker fails yet: probes are jittered, so a common fault shows in one worker after the other. A proof may
 * also mean that the cause is gone, so every other failing worker is probed once more before the next replacement.
 */
import { after, type Instant, instant } from "../../base/time.ts";
import type { Slot } from "../identity.ts";
import type { ProbePolicy } from "./probe.ts";

/** Share of the replicas that may be replaced at once if the pool allows no unavailability. */
const DEFAULT_SHARE = 0.25;

/** With a smaller share of the replicas ready, workers that wait for their replacement keep serving. */
const PANIC_SHARE = 0.5;

/**
 * Whether so few workers are ready that those whose liveness fails keep serving until they are replaced. That most fail at
 * once is seldom their fault, and all of them serve better than none, or than a few with all the requests.
 */
export function isPanic(ready: number, replicas: number): boolean {
  return ready < replicas * PANIC_SHARE;
}

/** Limits of the replacements of one pool. */
export interface LivenessCap {
  readonly replicas: number;
  /** Of the rollout policy; 0 means a quarter of the replicas. */
  readonly maxUnavailable: number;
  readonly pacing: LivenessPacing;
}

/** How long replacements hold back others. */
export interface LivenessPacing {
  /** After a replacement whose successor has not passed its liveness probe. */
  readonly coolDownMs: number;
  /** After a proof: the time in which every failing worker is probed once more. */
  readonly recheckMs: number;
}

/** A replacement that holds back others. */
interface Holding {
  readonly replacedAt: Instant;
  /** From this instant on it no longer does. */
  readonly until: Instant;
  readonly isProved: boolean;
}

/** Replacements that hold back others, oldest first. */
export interface LivenessHistory {
  readonly holding: readonly Holding[];
}

export const NO_REPLACEMENTS: LivenessHistory = { holding: [] };

export interface LivenessDecision {
  /** Slots to replace now, in the order they were given. */
  readonly replace: readonly Slot[];
  readonly history: LivenessHistory;
  /** When to decide again because some must wait; undefined if none must. */
  readonly retryAt: Instant | undefined;
}

/** Workers of a pool that may be replaced for liveness at the same time, at least 1. */
export function maxReplacedAtOnce({ replicas, maxUnavailable }: LivenessCap): number {
  return Math.max(1, maxUnavailable > 0 ? maxUnavailable : Math.floor(replicas * DEFAULT_SHARE));
}

/**
 * Decides which of the workers whose liveness fails are replaced now. `failing` is all of them, the most urgent first,
 * without those that are being replaced already. Decide again whenever that list changes.
 */
export function decideLivenessReplacements(
  history: LivenessHistory,
  failing: readonly Slot[],
  at: Instant,
  cap: LivenessCap,
): LivenessDecision {
  const most = maxReplacedAtOnce(cap);
  const held = history.holding.filter(({ until }) => at < until);
  const replace = failing.slice(0, Math.max(0, most - held.length));
  const until = after(at, cap.pacing.coolDownMs);
  const holding = [...held, ...replace.map(() => ({ replacedAt: at, until, isProved: false }))];
  const waiting = failing.length - replace.length;
  const retryAt = waiting === 0 ? undefined : instant(Math.min(...holding.map((each) => each.until)));
  return { replace, history: { holding }, retryAt };
}

/**
 * A worker that was spawned at `spawnedAt` has passed its liveness probe for the first time, at `at`. If it was spawned
 * after a replacement, replacing helps, and the oldest such replacement soon no longer holds back others.
 */
export function acceptProof(
  history: LivenessHistory,
  spawnedAt: Instant,
  at: Instant,
  { recheckMs }: LivenessPacing,
): LivenessHistory {
  // A replacement that no longer holds back others must not use up the proof.
  const holding = history.holding.filter(({ until }) => at < until);
  const oldest = holding.find(({ isProved }) => !isProved);
  if (oldest === undefined || spawnedAt < oldest.replacedAt) return history;
  const until = instant(Math.min(after(at, recheckMs), oldest.until));
  const proved = { ...oldest, until, isProved: true };
  return { holding: holding.map((each) => (each === oldest ? proved : each)) };
}

/** A cool-down in which a successor can boot and fail its liveness as its predecessor did. */
export function livenessPacing(liveness: ProbePolicy, startup: ProbePolicy | undefined): LivenessPacing {
  const bootMs = startup === undefined ? 0 : startup.initialDelayMs + startup.failureThreshold * startup.periodMs;
  const judgementMs = (liveness.failureThreshold + 1) * liveness.periodMs + liveness.timeoutMs;
  return {
    coolDownMs: Math.max(liveness.initialDelayMs, Number.isFinite(bootMs) ? bootMs : 0) + judgementMs,
    recheckMs: liveness.periodMs + liveness.timeoutMs,
  };
}
