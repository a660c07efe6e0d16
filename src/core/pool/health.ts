/** Whether a pool is healthy: enough of its replicas serve, and they are not in a crash loop. */
import type { Slot } from "../identity.ts";
import { isPanic } from "../policy/massFailure.ts";
import { doubtedUntil } from "../policy/proof.ts";
import type { PoolSpec } from "../spec.ts";
import type { WorkerState } from "../worker/state.ts";
import type { PoolDraft } from "./draft.ts";
import { type Census, isServing } from "./roster.ts";
import type { PoolState } from "./state.ts";

/** Ready workers, without standby workers. */
export function countReady(state: PoolState): number {
  return state.census.serving;
}

/** Whether enough replicas are ready and not in a crash loop. */
export function isHealthy({ workers, census, doubted, measuredReplicas, spec, gate }: PoolState): boolean {
  if (isUnmeasured(spec)) return true;
  return gate.isOpen && isEnough(countHealthy(workers, census, doubted), measuredReplicas - census.completed, spec);
}

/** Whether it keeps serving although its liveness probe fails: most workers fail, and it is not being replaced yet. */
export function servesInPanic(state: PoolState, worker: WorkerState): boolean {
  const isOnlyHung = worker.phase === "unready" && worker.liveness !== undefined && worker.readiness === "passing";
  if (!isOnlyHung || state.replacements.some(({ old }) => old === worker.slot)) return false;
  return isPanic(countReady(state), state.measuredReplicas);
}

/** The same for a pool while an event is handled. */
export function isDraftHealthy(draft: PoolDraft): boolean {
  if (isUnmeasured(draft.spec)) return true;
  return (
    draft.gate.isOpen &&
    isEnough(countDraftHealthy(draft), draft.measuredReplicas - draft.roster.census.completed, draft.spec)
  );
}

/** The runs of a oneshot pool serve nothing. Pools that need them wait for them, and are not healthy meanwhile. */
function isUnmeasured({ type }: PoolSpec): boolean {
  return type === "oneshot";
}

function countDraftHealthy({ roster, doubted }: PoolDraft): number {
  return countHealthy(roster.workers, roster.census, doubted);
}

/** Workers that serve and are not in a crash loop. */
function countHealthy(workers: readonly WorkerState[], census: Census, doubted: readonly Slot[]): number {
  let looping = 0;
  for (const slot of doubted) if (workers[slot] !== undefined && isServing(workers[slot])) looping++;
  return census.serving - looping;
}

function isEnough(ready: number, replicas: number, { desiredHealthyPercentage }: PoolSpec): boolean {
  return ready * 100 >= desiredHealthyPercentage * replicas;
}

/** Updates the pool's health, and emits an event if it changed. */
export function judgeHealth(draft: PoolDraft): void {
  if (draft.leaving) return;
  doubt(draft);
  measure(draft);
  const { name: pool, desiredHealthyPercentage } = draft.spec;
  const { measuredReplicas, wasHealthy } = draft;
  const counting = countDraftHealthy(draft);
  const looping = draft.roster.census.serving - counting;
  const isNowHealthy = isDraftHealthy(draft);
  const reason =
    `${counting} of ${measuredReplicas} replicas ready` +
    `${looping > 0 ? ` and ${looping} in a crash loop` : ""}, ${desiredHealthyPercentage} % required`;
  if (wasHealthy === true && !isNowHealthy) draft.emit({ kind: "pool_degraded", pool, reason });
  if (wasHealthy === false && isNowHealthy) draft.emit({ kind: "pool_recovered", pool, reason });
  if (isNowHealthy || wasHealthy !== undefined) draft.wasHealthy = isNowHealthy;
}

/** Finds the ready workers that may crash again, and when the next of them will have proved itself. */
export function doubt(draft: PoolDraft): void {
  const { roster, spec, at } = draft;
  const doubted: Slot[] = [];
  if (roster.census.crashedRepeatedly > 0)
    for (const worker of roster.workers) {
      const until = doubtedUntil(worker, spec, at);
      if (until === undefined) continue;
      doubted.push(worker.slot);
      draft.lookAgainAt(until);
    }
  draft.doubted = doubted;
}

/** Updates the number of replicas that health is measured against. */
export function measure(draft: PoolDraft): void {
  const { replicas } = draft.spec;
  const { measuredReplicas, roster } = draft;
  // A pool that returns after its removal boots again.
  const isNew = measuredReplicas === 0;
  const { completed } = roster.census;
  if (isNew || replicas < measuredReplicas || isEnough(countDraftHealthy(draft), replicas - completed, draft.spec))
    draft.measuredReplicas = replicas;
}
