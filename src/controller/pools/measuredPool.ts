/** Where the workers of a pool expose their metrics. Part of the composition root. */
import { metricsScope } from "../../config/spec.ts";
import { workerId } from "../../core/identity.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import type { MeasuredPool } from "../report/workerMetrics.ts";
import type { PoolRegistry } from "./poolRegistry.ts";
import type { Pools } from "./pools.ts";

/**
 * The pool as it is now; undefined if its workers expose no metrics. The path is that of the configuration in force; a
 * worker listens on the port that it was launched with.
 */
export function measuredPool(
  name: string,
  { pools, registry, daemon }: { readonly pools: Pools; readonly registry: PoolRegistry; readonly daemon: Daemon },
): MeasuredPool | undefined {
  const index = pools.workersIndexOf(name);
  const metrics = index === undefined ? undefined : registry.inForceOf(index).metrics;
  if (index === undefined || metrics === undefined) return undefined;
  const { places } = registry.partsOf(index, daemon.specOf(index).revision);
  return {
    name,
    path: metrics.path,
    scope: metricsScope(metrics),
    addressOf: (slot, revision) => registry.partsOf(index, revision).places.metricsAddressOf(slot),
    multiprocDirectory: places.multiprocDirectory,
    identifierOf: (slot) => places.envOf(slot)["MULTIPROCESS_WORKER_ID"] ?? workerId(name, slot),
  };
}
