/** Replaces due workers one by one: a successor starts first, or the worker restarts in place, as the rollout policy allows. */
import type { ReplaceReason } from "../event.ts";
import type { Slot } from "../identity.ts";
import { decideLivenessReplacements } from "../policy/massFailure.ts";
import { proofDueAt } from "../policy/proof.ts";
import {
  decideReplacement,
  decideRoom,
  maxSurgeOf,
  maxUnavailableOf,
  type Replacement,
  type RolloutRoom,
} from "../policy/rollout.ts";
import { type Due, isStarting, type ReadyState, type UnreadyState, type WorkerState } from "../worker/state.ts";
import type { PoolDraft } from "./draft.ts";
import { countsAgainst, isExclusive, type RunningOperation } from "./order.ts";
import { dueOf, isHung, isInUse, isStandby } from "./roster.ts";
import { countRenewingStandby, findFreshStandby } from "./standby.ts";

// Replacements under way

/** Continues a replacement: the predecessor stops once its successor is ready, and stays if the successor fails. */
export function followReplacement(draft: PoolDraft, replacement: Replacement): void {
  const { roster } = draft;
  const { old, successor, cause } = replacement;
  const verdict = decideReplacement(replacement, roster.at(old), roster.at(successor));
  if (verdict.kind === "wait") return;
  if (verdict.kind === "take-over") {
    if (mayGoOn(draft, cause)) finish(draft, replacement);
    return;
  }
  forget(draft, replacement);
  if (verdict.kind === "abort") abort(draft, replacement, verdict.reason);
  // The failure of a successor ends the replacement; it does not count against the slot or the pool.
  release(draft, successor);
  if (verdict.kind === "obsolete" && hasRestarted(roster.at(old))) {
    // The predecessor crashed, and the successor is further than the next process of its slot.
    const reason = `${replacement.reason}, ${draft.spec.name}-${successor} takes its place`;
    draft.send(old, { kind: "stop", order: { cause, reason, next: "down" } });
    release(draft, old);
  } else if (verdict.kind === "abort" || isInUse(roster.at(old))) stopSuccessor(draft, successor);
}

function finish(draft: PoolDraft, replacement: Replacement): void {
  const { old, successor, cause, reason } = replacement;
  const { name: pool } = draft.spec;
  forget(draft, replacement);
  stopOld(draft, old, { cause, reason }, successor);
  countRollout(draft, "finished");
  draft.emit({ kind: "rollout_finished", pool, reason: `${pool}-${successor} took over from ${pool}-${old}` });
}

function stopOld(draft: PoolDraft, old: Slot, { cause, reason }: Pick<Due, "cause" | "reason">, by: Slot): void {
  const why = `${reason}, replaced by ${draft.spec.name}-${by}`;
  draft.send(old, { kind: "stop", order: { cause, reason: why, next: "down" } });
}

function abort(draft: PoolDraft, replacement: Replacement, reason: string): void {
  const { old, successor, cause, startedAt, revision } = replacement;
  const failure = `successor ${draft.spec.name}-${successor} ${reason}`;
  emitAborted(draft, replacement, failure);
  draft.send(old, { kind: "reprieve", random: draft.random });
  const rollout = rolloutOf(draft, cause);
  if (rollout !== undefined && countsAgainst(rollout, startedAt, revision)) draft.failures.set(rollout.id, failure);
}

/** Ends replacements whose successors were launched with an outdated specification. */
export function abandonOutdated(draft: PoolDraft, reason: string): void {
  for (const replacement of draft.replacements.filter(({ revision }) => revision !== draft.spec.revision)) {
    forget(draft, replacement);
    emitAborted(draft, replacement, reason);
    stopSuccessor(draft, replacement.successor);
  }
}

/** Ends the replacement that started last, because the pool has too many workers. Whether there was one. */
export function abandonLast(draft: PoolDraft): boolean {
  const last = draft.replacements.at(-1);
  if (last === undefined) return false;
  forget(draft, last);
  stopSuccessor(draft, last.successor);
  return true;
}

function forget(draft: PoolDraft, replacement: Replacement): void {
  draft.replacements = draft.replacements.filter((each) => each !== replacement);
}

function emitAborted(draft: PoolDraft, { old }: Replacement, reason: string): void {
  const { name: pool } = draft.spec;
  countRollout(draft, "aborted");
  draft.emit({ kind: "rollout_aborted", pool, reason: `${pool}-${old} stays: ${reason}` });
}

function countRollout(draft: PoolDraft, end: "finished" | "aborted"): void {
  const { rollouts } = draft.tally;
  draft.tally = { ...draft.tally, rollouts: { ...rollouts, [end]: rollouts[end] + 1 } };
}

function stopSuccessor(draft: PoolDraft, successor: Slot): void {
  const reason = "its replacement was abandoned";
  draft.send(successor, { kind: "stop", order: { cause: "rollout", reason, next: "down" } });
  release(draft, successor);
}

/** A successor that is down is not a missing replica: its slot is free for the next one. */
function release(draft: PoolDraft, slot: Slot): void {
  const worker = draft.roster.at(slot);
  if (worker.phase === "down" && worker.kind !== "held") draft.send(slot, { kind: "release" });
}

/** Whether a predecessor that exited by itself has no serving process: it restarts, or gave up. */
function hasRestarted(worker: WorkerState): boolean {
  if (worker.phase === "stopping") return worker.order.cause !== "operator";
  const hasFailed = worker.phase === "down" && (worker.kind === "gave-up" || worker.kind === "failed");
  return isStarting(worker) || worker.phase === "backoff" || hasFailed;
}

/** The operation that replaces workers for `cause`. */
function rolloutOf({ running }: PoolDraft, cause: ReplaceReason): RunningOperation | undefined {
  return cause === "rollout" ? running.find(isExclusive) : undefined;
}

/** Whether a replacement may stop a predecessor: in a rollout, the first new workers must prove themselves before. */
function mayGoOn(draft: PoolDraft, cause: ReplaceReason): boolean {
  const rollout = rolloutOf(draft, cause);
  return rollout === undefined || isProved(draft, rollout);
}

/** Whether one of the new workers of an operation has proved that it stays up. */
export function isProved(draft: PoolDraft, { order, startedAt }: RunningOperation): boolean {
  if (!isExclusive({ order })) return true;
  const dueAt = proofDueAt(draft.roster.workers, startedAt, draft.spec, draft.at);
  draft.lookAgainAt(dueAt);
  return dueAt === undefined;
}

// New replacements

/** Replaces due workers while there is room. */
export function replaceDue(draft: PoolDraft): void {
  const { census } = draft.roster;
  if (census.due === 0) return;
  if (census.hung > 0) replaceHung(draft);
  while (hasRoom(draft)) {
    const worker = findMostUrgent(draft);
    if (worker?.due === undefined || !replace(draft, worker, worker.due)) return;
  }
}

/** Whether there is room for any replacement; most events of a rollout leave none. */
function hasRoom(draft: PoolDraft): boolean {
  const { serving, standby, arrived, absent } = draft.roster.census;
  if (standby > 0 || arrived > serving) return true;
  const { surge, inPlace } = roomBeside(draft, draft.spec.replicas - absent - serving);
  return surge > 0 || inPlace > 0;
}

/** The worker that is due for longest; standby and unready workers come first, because they serve no requests. */
function findMostUrgent(draft: PoolDraft): (ReadyState | UnreadyState) | undefined {
  let first: ReadyState | UnreadyState | undefined;
  for (const worker of draft.roster.workers) {
    if ((worker.phase !== "ready" && worker.phase !== "unready") || worker.due === undefined) continue;
    if (isHung(worker) || draft.isReplaced(worker.slot)) continue;
    const isBefore = first?.due === undefined || servedRank(worker) - servedRank(first) || worker.due.at - first.due.at;
    if (isBefore === true || isBefore < 0) first = worker;
  }
  return first;
}

/** Which workers are replaced first: 0 before 1 before 2. */
function servedRank(worker: WorkerState): number {
  if (isStandby(worker)) return 0;
  return worker.phase === "ready" ? 2 : 1;
}

/** Replaces a worker as the policy allows; false if there is no room now. */
function replace(draft: PoolDraft, worker: ReadyState | UnreadyState, due: Due): boolean {
  if (!mayGoOn(draft, due.cause)) return false;
  const { roster, spec } = draft;
  if (isStandby(worker)) {
    restartInPlace(draft, worker.slot, due);
    return true;
  }
  const room = roomFor(draft, worker);
  const maxSurge = maxSurgeOf(spec.rollout, spec.replicas);
  const standby = roster.census.leaving <= maxSurge ? findFreshStandby(draft, due) : undefined;
  if (standby !== undefined) {
    draft.send(standby.slot, { kind: "promote", reason: `successor of ${spec.name}-${worker.slot}` });
    stopOld(draft, worker.slot, due, standby.slot);
    return true;
  }
  // A standby worker that is being renewed is the next successor, in place of one that would start beside it.
  const free = room.surge > countRenewingStandby(draft) ? roster.freeSlot() : undefined;
  if (free !== undefined) startSuccessor(draft, worker, free, due);
  // An unready worker serves no requests, so a restart in place loses no capacity.
  else if (room.inPlace > 0 || (worker.phase === "unready" && maxSurge === 0)) restartInPlace(draft, worker.slot, due);
  else return false;
  return true;
}

function restartInPlace(draft: PoolDraft, slot: Slot, { cause, reason }: Due): void {
  draft.send(slot, { kind: "stop", order: { cause, reason, next: "respawn" } });
}

function roomFor(draft: PoolDraft, worker: WorkerState): RolloutRoom {
  const { serving, absent } = draft.roster.census;
  // A wait for absent workers would never end.
  return roomBeside(draft, draft.spec.replicas - absent - serving - (worker.phase === "ready" ? 0 : 1));
}

function roomBeside({ replacements, roster, spec }: PoolDraft, missing: number): RolloutRoom {
  return decideRoom(spec, replacements.length + roster.census.leaving, Math.max(0, missing));
}

/** A worker whose liveness fails serves no requests: it is replaced whatever else is missing, but not all at once. */
function replaceHung(draft: PoolDraft): void {
  const { roster, spec, at } = draft;
  const hung: { readonly worker: UnreadyState; readonly due: Due }[] = [];
  for (const worker of roster.workers) {
    if (!isHung(worker) || draft.isReplaced(worker.slot)) continue;
    const due = dueOf(worker);
    if (due !== undefined) hung.push({ worker, due });
  }
  if (hung.length === 0) return;
  hung.sort((a, b) => a.due.at - b.due.at);
  // Replicas that are only about to start do not make serving workers dispensable.
  const replicas = Math.min(spec.replicas, draft.measuredReplicas);
  const maxUnavailable = maxUnavailableOf(spec.rollout, spec.replicas);
  const cap = { replicas, maxUnavailable, pacing: spec.livenessPacing };
  const slots = hung.map(({ worker }) => worker.slot);
  const decision = decideLivenessReplacements(draft.liveness, slots, at, cap);
  draft.liveness = decision.history;
  draft.lookAgainAt(decision.retryAt);
  for (const { worker, due } of hung) {
    if (!decision.replace.includes(worker.slot)) continue;
    const free = roomFor(draft, worker).surge > 0 ? roster.freeSlot() : undefined;
    if (free !== undefined) startSuccessor(draft, worker, free, due);
    else restartInPlace(draft, worker.slot, due);
  }
}

function startSuccessor(draft: PoolDraft, old: ReadyState | UnreadyState, slot: Slot, { cause, reason }: Due): void {
  const { roster, spec, at } = draft;
  const { name: pool, revision } = spec;
  const replacement: Replacement = {
    old: old.slot,
    oldIncarnation: old.incarnation,
    successor: slot,
    successorIncarnation: roster.at(slot).incarnation + 1,
    revision,
    startedAt: at,
    cause,
    reason,
  };
  draft.replacements = [...draft.replacements, replacement];
  draft.emit({
    kind: "rollout_started",
    pool,
    reason: `${pool}-${old.slot} is due (${reason}), ${pool}-${slot} starts`,
  });
  const why = `successor of ${pool}-${old.slot}`;
  draft.send(slot, { kind: "start", delayMs: 0, settleMs: spec.rollout.minReadyMs, reason: why });
}
