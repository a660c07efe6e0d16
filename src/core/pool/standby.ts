/** Standby workers: ready workers that receive no requests until another worker fails or is replaced. */
import type { ReadyState, WorkerState } from "../worker/state.ts";
import { type Due, isStarting } from "../worker/state.ts";
import type { PoolDraft } from "./draft.ts";
import { isServing, isStandby } from "./roster.ts";

/** Keeps as many workers serving as there are replicas: promotes standby workers, and demotes the youngest surplus. */
export function balanceStandby(draft: PoolDraft): void {
  const { roster, spec } = draft;
  const { replicas, standby, name } = spec;
  if (standby === 0 && roster.census.standby === 0) return;
  for (let missing = replicas - roster.census.serving; missing > 0; missing--) {
    const next = roster.workers.find(isStandby);
    if (next === undefined) return;
    const reason = `pool "${name}" has ${replicas - missing} of ${replicas}`;
    draft.send(next.slot, { kind: "promote", reason });
  }
  if (roster.census.serving <= replicas) return;
  // A successor takes the place of its predecessor and is no standby worker.
  const serving = roster.workers.filter((worker) => isServing(worker) && !draft.isSuccessor(worker.slot));
  serving.sort((a, b) => b.since - a.since);
  for (const { slot } of serving.slice(0, Math.max(0, serving.length - replicas))) draft.send(slot, { kind: "demote" });
}

/** A standby worker that can succeed a due worker: of the desired revision, and younger than the rollout. */
export function findFreshStandby({ roster, spec }: PoolDraft, due: Due): ReadyState | undefined {
  if (roster.census.standby === 0) return undefined;
  const startedAt = due.cause === "rollout" ? due.at : Number.NEGATIVE_INFINITY;
  return roster.workers
    .filter(isStandby)
    .find(({ due, revision, spawnedAt }) => due === undefined && revision === spec.revision && spawnedAt >= startedAt);
}

/** How many workers are about to be ready beyond missing replicas and successors. */
export function countRenewingStandby(draft: PoolDraft): number {
  const { roster, spec } = draft;
  if (spec.standby === 0) return 0;
  let coming = 0;
  for (const worker of roster.workers)
    if (isComing(worker) && !draft.isReplaced(worker.slot) && !draft.isSuccessor(worker.slot)) coming++;
  return Math.max(0, coming - Math.max(0, spec.replicas - roster.census.serving));
}

/** Whether it will soon be ready, or fail. */
function isComing(worker: WorkerState): boolean {
  if (worker.phase === "spawning") return worker.pendingStop?.next !== "down";
  if (isStarting(worker)) return true;
  return (worker.phase === "draining" || worker.phase === "stopping") && worker.order.next === "respawn";
}
