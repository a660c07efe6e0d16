/** Where the workers of a pool show their metrics. Part of the composition root. */
import type { PoolRegistry } from "./poolRegistry.ts";
import type { Pools } from "./pools.ts";
import type { MeasuredPool } from "./workerMetrics.ts";

/**
 * The pool as it is now; undefined where its workers show no metrics. The path is that of the configuration in force; a
 * worker listens where it was told to at its launch.
 */
export function measuredPool(name: string, pools: Pools, registry: PoolRegistry): MeasuredPool | undefined {
  const index = pools.workersIndexOf(name);
  const metrics = index === undefined ? undefined : registry.inForceOf(index).metrics;
  if (index === undefined || metrics === undefined) return undefined;
  return {
    name,
    path: metrics.path,
    addressOf: (slot, revision) => registry.partsOf(index, revision).places.metricsAddressOf(slot),
  };
}
