/**
 * How many workers of a pool may be replaced for a failed liveness probe at once. When all fail together the cause is
 * seldom in the workers (a database is gone), and killing them all would only add an outage: so a few are replaced, and
 * the next ones when their successors have proved to be better, or after a cool-down. A replacement counts until then
 * also when nobody else fails at the moment: probes are jittered, so a common fault shows one worker after the other.
 */
import { after, type Instant } from "../base/time.ts";
import type { Slot } from "./identity.ts";
import type { ProbePolicy } from "./probe.ts";

/** Share of the replicas that may be replaced at once where the pool allows no unavailability. */
const DEFAULT_SHARE = 0.25;

/** What bounds the replacements of one pool. */
export interface LivenessCap {
  readonly replicas: number;
  /** Of the rollout policy; 0 means that a quarter of the replicas is the bound. */
  readonly maxUnavailable: number;
  /** Time after which a replacement no longer holds back others though its successor has proved nothing. */
  readonly coolDownMs: number;
}

/** What a pool remembers: when workers were replaced without a proof so far that it was of use, oldest first. */
export interface LivenessHistory {
  readonly unproved: readonly Instant[];
}

export const NO_REPLACEMENTS: LivenessHistory = { unproved: [] };

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
  const unproved = history.unproved.filter((replacedAt) => at < after(replacedAt, cap.coolDownMs));
  const most = maxReplacedAtOnce(cap);
  const replace = failing.slice(0, Math.max(0, most - unproved.length));
  const waiting = failing.length - replace.length;
  const retryAt = waiting === 0 ? undefined : after(unproved[0] ?? at, cap.coolDownMs);
  const reason =
    waiting === 0
      ? "liveness failed"
      : `liveness of ${failing.length} workers failed, at most ${most} at once are replaced: ${waiting} must wait`;
  return { replace, history: { unproved: [...unproved, ...replace.map(() => at)] }, retryAt, reason };
}

/**
 * A worker that was spawned at `spawnedAt` has passed its liveness probe for the first time. If that is after a
 * replacement then replacing helps, and the oldest such one no longer holds back others.
 */
export function acceptProof(history: LivenessHistory, spawnedAt: Instant): LivenessHistory {
  const [oldest, ...others] = history.unproved;
  return oldest === undefined || spawnedAt < oldest ? history : { unproved: others };
}

/** A cool-down in which a successor can boot and its liveness fail as that of its predecessor did. */
export function livenessCoolDownMs(liveness: ProbePolicy, startup: ProbePolicy | undefined): number {
  const bootMs = startup === undefined ? 0 : startup.initialDelayMs + startup.failureThreshold * startup.periodMs;
  const judgementMs = (liveness.failureThreshold + 1) * liveness.periodMs + liveness.timeoutMs;
  return Math.max(liveness.initialDelayMs, Number.isFinite(bootMs) ? bootMs : 0) + judgementMs;
}
