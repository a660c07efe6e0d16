/** How `monoceros dev` changes a configuration: one worker, fast restarts, short waits. Pure. */
import type { Config, PoolConfig } from "../config/config.ts";

/** Grace periods and drains end after it, because unfinished requests do not matter. */
const GRACE_MS = 2000;

/** Backoff of a worker that crashes, for instance because its database is not up yet. */
const MAX_BACKOFF_MS = 5000;

/** How long a new worker must stay ready. Without a probe, this is also how its start is noticed to have succeeded. */
const MIN_READY_MS = 200;
const MIN_READY_UNPROBED_MS = 2000;

/** The configuration for development, with `replicas` workers in each pool. */
export function developmentConfig({ admin, supervisor }: Config, replicas: number | "auto"): Config {
  return {
    admin,
    supervisor: {
      ...supervisor,
      preStopDelayMs: 0,
      pools: supervisor.pools.map((pool) => developmentPool(pool, replicas)),
    },
  };
}

function developmentPool(pool: PoolConfig, replicas: number | "auto"): PoolConfig {
  const { server, probes, restart, rollout } = pool;
  const isProbed = server !== undefined || probes !== undefined;
  const maxMs = Math.min(restart.backoff.maxMs, MAX_BACKOFF_MS);
  return {
    ...pool,
    replicas,
    autoscale: undefined,
    standby: 0,
    startupWaitMs: 0,
    signalTimeoutMs: Math.min(pool.signalTimeoutMs, GRACE_MS),
    maxRestarts: undefined,
    restart: {
      ...restart,
      backoff: { ...restart.backoff, maxMs, initialMs: Math.min(restart.backoff.initialMs, maxMs) },
    },
    rollout: { ...rollout, minReadyMs: Math.min(rollout.minReadyMs, isProbed ? MIN_READY_MS : MIN_READY_UNPROBED_MS) },
    // The output of the program as it is, instead of JSON.
    logs: { ...pool.logs, mode: "inherit" },
    server: server && { ...server, drainTimeoutMs: Math.min(server.drainTimeoutMs, GRACE_MS) },
  };
}
