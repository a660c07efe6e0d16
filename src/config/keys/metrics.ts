/** The block `metrics` of a pool. */
import { type Block, block, key, type Values } from "../field.ts";
import { boolean, OWN_PORT, oneOf, port, urlPath } from "../scalars.ts";

// A worker reads its metrics port, which also depends on the scope, and its directory from its environment.
const keys = {
  path: key("path", urlPath, { change: "policy", default: "/metrics", doc: "Path of the metrics of a worker." }),
  port: key("port", port(1), {
    change: "launch",
    unset: OWN_PORT,
    doc: "Metrics port of slot 0, if it differs from the worker's own; the port of slot n is n higher. A worker finds its own in `MONOCEROS_METRICS_PORT`. With scope `pool` it may be the port of one of the pool's `sockets`, which all workers share.",
  }),
  scope: key("scope", oneOf(["worker", "pool"]), {
    change: "launch",
    unset: "`worker`, or `pool` with `multiproc`",
    doc: "What the metrics of one worker cover. `worker`: itself only, so the controller scrapes every worker and sums the totals. `pool`: all workers of the pool, so the controller scrapes one of them and uses its totals for the pool.",
  }),
  multiproc: key("multiproc", boolean, {
    change: "launch",
    default: false,
    doc: "Gives the pool a fresh directory in `PROMETHEUS_MULTIPROC_DIR`, for prometheus_client's multiprocess mode, and removes the live gauges of dead processes from it.",
  }),
};

export interface MetricsConfig extends Values<typeof keys> {}

/** What one worker's answer covers: itself, or all workers of its pool. */
export type MetricsScope = NonNullable<MetricsConfig["scope"]>;

export const metrics: Block<MetricsConfig, typeof keys> = block(keys, {
  check: ({ scope, multiproc }, context) => {
    if (multiproc === true && scope === "worker")
      context.problem("scope", "expected pool, because with multiproc each worker answers for the whole pool");
  },
});
