/**
 * How many workers of a pool may be replaced for a failed liveness probe at once. When all fail together the cause is
 * seldom in the workers (a database is gone), and killing them all would only add an outage: so a few are replaced, and
 * the next ones when their successors have proved to be better, or after a cool-down. A replacement counts until then
 * also when nobody else fails at the moment: probes are jittered, so a common fault shows one worker after the other.
 * A proof may also mean that the cause is gone; then those who wait are well too, and each is asked once more before the
 * next ones go.
 */
import { after, type Instant, instant } from "../../base/time.ts";
import type { Slot } from "../identity.ts";
import type { ProbePolicy } from "./probe.ts";

/** Share of the replicas that may be replaced at once where the pool allows no unavailability. */
const DEFAULT_SHARE = 0.25;

/** With a smaller share of the replicas ready, those that have to wait for their replacement serve on. */
const PANIC_SHARE = 0.5;

/**
 * Whether so few are ready that who fails its liveness and has to wait shall serve: that most fail at once is seldom
 * their fault, and better all of them than nobody, or a few with all the requests.
 */
export function isPanic(ready: number, replicas: number): boolean {
  return ready < replicas * PANIC_SHARE;
}

/** What bounds the replacements of one pool. */
export interface LivenessCap {
  readonly replicas: number;
  /** Of the rollout policy; 0 means that a quarter of the replicas is the bound. */
  readonly maxUnavailable: number;
  readonly pacing: LivenessPacing;
}

/** How long replacements hold back others. */
export interface LivenessPacing {
  /** After a replacement whose successor has proved nothing. */
  readonly coolDownMs: number;
  /** After a proof: time in which everybody who fails has been asked once more. */
  readonly recheckMs: number;
}

/** A replacement that holds back others. */
interface Holding {
  readonly replacedAt: Instant;
  /** The first moment at which it no longer does. */
  readonly until: Instant;
  readonly isProved: boolean;
}

/** What a pool remembers: replacements that hold back others, oldest first. */
export interface LivenessHistory {
  readonly holding: readonly Holding[];
}

export const NO_REPLACEMENTS: LivenessHistory = { holding: [] };

export interface LivenessDecision {
  /** Slots to replace now, in the order they were given. */
  readonly replace: readonly Slot[];
  readonly history: LivenessHistory;
  /** When to ask again because some had to wait; undefined where none had to. */
  readonly retryAt: Instant | undefined;
  readonly reason: string;
}

/** Workers of a pool that may be replaced for liveness at the same time, at least 1. */
export function maxReplacedAtOnce({ replicas, maxUnavailable }: LivenessCap): number {
  return Math.max(1, maxUnavailable > 0 ? maxUnavailable : Math.floor(replicas * DEFAULT_SHARE));
}

/**
 * Decides which of the workers whose liveness fails at `at` are replaced now. `failing` is all of them, those that are
 * to go first in front, without those that are being replaced already; ask again whenever that list changes.
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
  const reason =
    waiting === 0
      ? "liveness failed"
      : `liveness of ${failing.length} workers failed, at most ${most} at once are replaced: ${waiting} must wait`;
  return { replace, history: { holding }, retryAt, reason };
}

/**
 * A worker that was spawned at `spawnedAt` has passed its liveness probe for the first time, at `at`. If that is after a
 * replacement then replacing helps, and the oldest such one soon no longer holds back others.
 */
export function acceptProof(
  history: LivenessHistory,
  spawnedAt: Instant,
  at: Instant,
  { recheckMs }: LivenessPacing,
): LivenessHistory {
  // A replacement that holds back nobody any more must not use up the proof.
  const holding = history.holding.filter(({ until }) => at < until);
  const oldest = holding.find(({ isProved }) => !isProved);
  if (oldest === undefined || spawnedAt < oldest.replacedAt) return history;
  const until = instant(Math.min(after(at, recheckMs), oldest.until));
  const proved = { ...oldest, until, isProved: true };
  return { holding: holding.map((each) => (each === oldest ? proved : each)) };
}

/** A cool-down in which a successor can boot and its liveness fail as that of its predecessor did. */
export function livenessPacing(liveness: ProbePolicy, startup: ProbePolicy | undefined): LivenessPacing {
  const bootMs = startup === undefined ? 0 : startup.initialDelayMs + startup.failureThreshold * startup.periodMs;
  const judgementMs = (liveness.failureThreshold + 1) * liveness.periodMs + liveness.timeoutMs;
  return {
    coolDownMs: Math.max(liveness.initialDelayMs, Number.isFinite(bootMs) ? bootMs : 0) + judgementMs,
    recheckMs: liveness.periodMs + liveness.timeoutMs,
  };
}
