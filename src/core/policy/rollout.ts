/**
 * Rolling replacement of single workers: when a successor takes over from its predecessor, and when a replacement is
 * abandoned. core/pool/replacements.ts carries the verdicts out.
 */
import type { Instant } from "../../base/time.ts";
import type { ReplaceReason } from "../event.ts";
import type { Incarnation, Slot } from "../identity.ts";
import type { PoolSpec, RolloutPolicy, Share } from "../spec.ts";
import type { WorkerState } from "../worker/state.ts";

/** A successor that was started before its predecessor stops. */
export interface Replacement {
  readonly old: Slot;
  readonly oldIncarnation: Incarnation;
  readonly successor: Slot;
  /** The incarnation that must become ready; a later one means that it crashed. */
  readonly successorIncarnation: Incarnation;
  /** What the successor was launched with, and when. */
  readonly revision: number;
  readonly startedAt: Instant;
  readonly cause: ReplaceReason;
  readonly reason: string;
}

export type ReplacementVerdict =
  | { readonly kind: "wait" }
  | { readonly kind: "take-over" }
  | { readonly kind: "abort"; readonly reason: string }
  /**
   * The predecessor no longer serves. If it exited by itself, the successor takes its place. If an operator stopped it, the
   * successor is stopped too.
   */
  | { readonly kind: "obsolete" };

/** Decides about a replacement, given the two slots as they are now. */
export function decideReplacement(
  replacement: Replacement,
  old: WorkerState,
  successor: WorkerState,
): ReplacementVerdict {
  if (successor.incarnation > replacement.successorIncarnation || successor.phase === "backoff") {
    return { kind: "abort", reason: successor.reason };
  }
  const waitsToRestart = successor.phase === "queued" && successor.isRestart;
  if (waitsToRestart || successor.phase === "down" || successor.phase === "stopping") {
    return { kind: "abort", reason: successor.reason };
  }
  const oldRuns = old.incarnation === replacement.oldIncarnation && (old.phase === "ready" || old.phase === "unready");
  if (!oldRuns) return { kind: "obsolete" };
  return successor.phase === "ready" ? { kind: "take-over" } : { kind: "wait" };
}

type Shares = Pick<RolloutPolicy, "maxSurge" | "maxUnavailable">;

/** How many workers a rollout may have above `replicas`: rounded up, and 1 if no worker may be unavailable either. */
export function maxSurgeOf({ maxSurge, maxUnavailable }: Shares, replicas: number): number {
  const surge = countOf(maxSurge, replicas, Math.ceil);
  return surge === 0 && countOf(maxUnavailable, replicas, Math.floor) === 0 ? 1 : surge;
}

/** How many of `replicas` may be unavailable during a rollout, rounded down. */
export function maxUnavailableOf({ maxUnavailable }: Pick<Shares, "maxUnavailable">, replicas: number): number {
  return countOf(maxUnavailable, replicas, Math.floor);
}

function countOf(share: Share, replicas: number, round: (value: number) => number): number {
  return typeof share === "number" ? share : round((share.percent * replicas) / 100);
}

/** How many replacements may run at once, by starting first (surge) and by stopping first (in place). */
export interface RolloutRoom {
  readonly surge: number;
  readonly inPlace: number;
}

/**
 * How many more replacements may start. `missing` replicas are not ready for any reason: a crash uses up the
 * unavailability that a planned replacement would have used.
 */
export function decideRoom(
  { rollout, replicas }: Pick<PoolSpec, "rollout" | "replicas">,
  surging: number,
  missing: number,
): RolloutRoom {
  return {
    surge: Math.max(0, maxSurgeOf(rollout, replicas) - surging),
    inPlace: Math.max(0, maxUnavailableOf(rollout, replicas) - missing),
  };
}
