/** When the pools as a whole have booted, and when they end the controller. */
import { workerId } from "./identity.ts";
import { isRemoved, outcomeOf, type PoolState } from "./pool/state.ts";

/** Why the controller shuts down by itself, or undefined while there is something to run. */
export function decideEnd(
  pools: readonly PoolState[],
): { readonly reason: string; readonly exitCode: number } | undefined {
  const exhausted = pools.find(isExhausted);
  if (exhausted !== undefined) return { reason: whyExhausted(exhausted), exitCode: 1 };
  switch (outcomeOfAll(pools)) {
    case "completed":
      return { reason: "every worker completed", exitCode: 0 };
    case "failed":
      return { reason: "every worker failed, used up its restarts or completed", exitCode: 1 };
    case "blocked":
      return { reason: "no worker is left, and the pools that wait cannot start", exitCode: 1 };
    case undefined:
      return undefined;
  }
}

/** A reload may remove all pools for a moment, to make room for others; that does not end the controller. */
function outcomeOfAll(all: readonly PoolState[]): "completed" | "failed" | "blocked" | undefined {
  const pools = all.filter((pool) => pool.spec.role === "workers" && !isRemoved(pool));
  const outcomes = pools.filter(({ gate }) => gate.isOpen).map(outcomeOf);
  if (outcomes.length === 0 || outcomes.includes(undefined)) return undefined;
  // A pool may also wait for one that a reload is about to add.
  const blocked = pools.flatMap(({ gate }) => (gate.isOpen ? [] : [gate]));
  if (blocked.length > 0) return blocked.some(({ isHopeless }) => isHopeless) ? "blocked" : undefined;
  return outcomes.includes("failed") ? "failed" : "completed";
}

function isExhausted({ spec, census }: PoolState): boolean {
  return spec.restart.onExhausted === "shutdown" && census.gaveUp > 0;
}

/** Why a run of a oneshot pool failed says more than that it used up its restarts. */
function whyExhausted({ spec: { name, type }, workers }: PoolState): string {
  const failed = workers.find((worker) => worker.phase === "down" && worker.kind === "gave-up");
  if (type === "service" || failed === undefined) return `pool "${name}" used up its restarts`;
  return `pool "${name}" failed: ${workerId(name, failed.slot)} ${failed.reason}`;
}

/**
 * Workers that gave up or that an operator stopped are not waited for; health judges whether the rest is enough. Pools
 * that need the runs of a oneshot pool wait for them.
 */
export function isBooted({ spec, gate, census }: PoolState): boolean {
  if (spec.replicas === 0) return true;
  return gate.isOpen && (spec.type === "oneshot" || census.serving + census.absent >= spec.replicas);
}
