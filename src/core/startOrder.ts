/**
 * In which order workers of different pools start and stop: what a pool waits for (`depends_on`), how many workers boot at
 * the same time (`start_parallelism`), and which pools stop next. A worker that boots waits for no other worker, and a
 * blocked pool has no worker that could be admitted, so the two rules cannot block each other.
 */
import type { Instant } from "../base/time.ts";
import type { PoolIndex, Slot } from "./identity.ts";
import { isHealthy } from "./pool/health.ts";
import { type Gate, isEmpty, outcomeOf, type PoolState } from "./pool/state.ts";
import type { Milestone, PoolSpec } from "./spec.ts";
import { awaitsAdmission, type QueuedState } from "./worker/state.ts";

/** Time and chance, as they come with an event. */
export interface Moment {
  readonly at: Instant;
  readonly random: number;
}

/** Whether the first worker of a pool with this specification, which has waited since `since`, may start now. */
export function decideGate({ dependsOn }: PoolSpec, since: Instant, pools: readonly PoolState[]): Gate {
  const obstacles: string[] = [];
  let isHopeless = false;
  for (const [name, milestone] of Object.entries(dependsOn)) {
    const progress = progressOf(findPool(pools, name), milestone, since);
    if (progress === "reached") continue;
    const failure = progress === "possible" ? "" : `, but ${progress.failure}`;
    if (failure !== "") isHopeless = true;
    obstacles.push(`pool "${name}" to ${VERBS[milestone]}${failure}`);
  }
  if (obstacles.length === 0) return { isOpen: true };
  return { isOpen: false, since, reason: `waiting for ${obstacles.join(" and ")}`, isHopeless };
}

const VERBS: Readonly<Record<Milestone, string>> = {
  started: "start",
  ready: "become ready",
  completed: "complete",
};

function findPool(pools: readonly PoolState[], name: string): PoolState | undefined {
  return pools.find(({ spec }) => spec.role === "workers" && spec.name === name);
}

/** A pool without replicas is being added or removed by a reload, unless it has failed to start since. */
function progressOf(
  pool: PoolState | undefined,
  milestone: Milestone,
  since: Instant,
): "reached" | "possible" | { readonly failure: string } {
  if (pool?.abandonedAt !== undefined && pool.abandonedAt >= since) return { failure: "it failed to start" };
  if (pool === undefined || pool.spec.replicas === 0) return "possible";
  const { gate, census, spec } = pool;
  if (!gate.isOpen) return gate.isHopeless ? { failure: "it cannot start" } : "possible";
  if (milestone === "completed") {
    if (census.completed >= spec.replicas) return "reached";
    return census.gaveUp + census.failed > 0 ? { failure: "it failed" } : "possible";
  }
  if (outcomeOf(pool) === "failed") return { failure: "all its workers failed" };
  const isReached = census.launched >= spec.replicas && (milestone === "started" || isHealthy(pool));
  return isReached ? "reached" : "possible";
}

/** Whether two gates are the same. */
export function isSameGate(a: Gate, b: Gate): boolean {
  if (a.isOpen || b.isOpen) return a.isOpen === b.isOpen;
  return a.reason === b.reason && a.isHopeless === b.isHopeless;
}

/** Whether workers of the pool count for the limit: a proxy must not wait for the workers that wait for it. */
export function isRationed({ role }: PoolSpec): boolean {
  return role === "workers";
}

/**
 * The worker that starts next, or undefined if none waits or `limit` workers boot. A pool that has been healthy misses
 * workers that exited, so they come before first starts and successors; otherwise the longest wait decides.
 */
export function decideNextStart(
  pools: readonly PoolState[],
  limit: number,
): { readonly pool: PoolIndex; readonly slot: Slot } | undefined {
  let booting = 0;
  let waiting = 0;
  for (const { spec, census } of pools) {
    if (!isRationed(spec)) continue;
    booting += census.booting;
    waiting += census.waiting;
  }
  if (waiting === 0 || booting >= limit) return undefined;
  let next: { readonly pool: PoolIndex; readonly worker: QueuedState; readonly rank: number } | undefined;
  for (const [pool, state] of pools.entries()) {
    if (state.census.waiting === 0) continue;
    for (const worker of state.workers) {
      if (!awaitsAdmission(worker)) continue;
      const rank = isMissed(state, worker) ? 0 : 1;
      if (next === undefined || rank < next.rank || (rank === next.rank && worker.since < next.worker.since))
        next = { pool, worker, rank };
    }
  }
  return next && { pool: next.pool, slot: next.worker.slot };
}

function isMissed({ spec, wasHealthy }: PoolState, { isRestart }: QueuedState): boolean {
  return isRestart && spec.type === "service" && wasHealthy !== undefined;
}

/** The pools of workers that stop next: those on which no running pool depends. Empty if all have been stopped. */
export function decideNextStops(pools: readonly PoolState[]): readonly PoolIndex[] {
  // Proxies stop last, when nothing sends them requests any more.
  const workers = [...pools.entries()].filter(([, { spec }]) => spec.role === "workers");
  const needed = new Set(workers.flatMap(([, pool]) => (isEmpty(pool) ? [] : Object.keys(pool.spec.dependsOn))));
  const left = workers.filter(([, { leaving }]) => !leaving);
  const free = left.filter(([, { spec }]) => !needed.has(spec.name));
  // While a reload applies them one by one, specifications of two files may form a cycle.
  return (free.length > 0 ? free : left).map(([index]) => index);
}
