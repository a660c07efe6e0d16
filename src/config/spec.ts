/** The configuration → the input of the core's decisions. `auto` is resolved here. */

import { type LivenessPacing, livenessPacing } from "../core/policy/massFailure.ts";
import type { ProbePolicy } from "../core/policy/probe.ts";
import type { AutoscalePolicy, ControllerSpec, PoolSpec, ReadinessPolicy, RolloutPolicy } from "../core/spec.ts";
import type { Config, MetricsScope, PoolConfig, ProbeConfig, ServerConfig } from "./config.ts";
import type { MetricsConfig } from "./keys/metrics.ts";
import type { RollingConfig } from "./keys/rolling.ts";

/** The desired state that `config` describes; `replicasOf` also resolves `auto`. */
export function configToControllerSpec(config: Config, replicasOf: (pool: PoolConfig) => number): ControllerSpec {
  const { shutdownTimeoutMs, preStopDelayMs, pools } = config.supervisor;
  const workers = pools.map((pool) => poolToSpec(pool, replicasAtStart(pool, replicasOf(pool))));
  const proxies = pools.flatMap((pool) => (pool.server === undefined ? [] : [proxyToSpec(pool, pool.server)]));
  return { shutdownTimeoutMs, preStopDelayMs, pools: [...workers, ...proxies] };
}

/** Name of the pool that is the proxy in front of the pool `name`. */
export function proxyName(name: string): string {
  return `${name}-proxy`;
}

/** Time for a worker behind a proxy to accept its first connection, unless a startup probe defines it. */
const BOOT_TIMEOUT_MS = 60_000;

/** The same with only a readiness probe: equal to the Kubernetes default for a rollout. */
const READINESS_TIMEOUT_MS = 600_000;

/** The same for a worker that should wait on a shared socket, but may do so in an undetectable way (io_uring). */
const UNSEEN_MS = 10_000;

function readinessOf({ probes, server, sockets, rolling }: PoolConfig): ReadinessPolicy {
  const startup = probes?.startup;
  if (startup !== undefined) {
    // The prober stops by itself; this bound applies if even its last attempt hangs.
    const { initialDelayMs, periodMs, timeoutMs, failureThreshold } = startup;
    return { kind: "probed", timeoutMs: initialDelayMs + (periodMs + timeoutMs) * (failureThreshold + 1) };
  }
  if (probes?.readiness !== undefined) return { kind: "probed", timeoutMs: READINESS_TIMEOUT_MS };
  if (server !== undefined) return { kind: "probed", timeoutMs: BOOT_TIMEOUT_MS };
  const { minReadyMs } = rolling;
  return { kind: "observed", surviveMs: sockets.length > 0 ? Math.max(minReadyMs, UNSEEN_MS) : minReadyMs };
}

/** For pools without liveness probes. */
const UNPACED: LivenessPacing = { coolDownMs: 0, recheckMs: 0 };

function pacingOf({ probes }: PoolConfig): LivenessPacing {
  const { startup, liveness } = probes ?? {};
  if (liveness === undefined) return UNPACED;
  return livenessPacing(policyOf(liveness), startup === undefined ? undefined : policyOf(startup));
}

/** When a probe runs and how its results are judged. */
export function policyOf(probe: ProbeConfig): ProbePolicy {
  const { initialDelayMs, periodMs, timeoutMs, failureThreshold, successThreshold } = probe;
  return { initialDelayMs, periodMs, firstPeriodMs: undefined, timeoutMs, failureThreshold, successThreshold };
}

/**
 * Liveness of Envoy through its admin interface. Envoy's main thread answers, which also applies endpoint updates and
 * handles signals: without it, traffic can no longer be reconfigured. The values are generous, because a false verdict
 * fails every request.
 */
export const PROXY_LIVENESS: ProbePolicy = {
  initialDelayMs: 0,
  periodMs: 3000,
  firstPeriodMs: undefined,
  timeoutMs: 3000,
  failureThreshold: 3,
  successThreshold: 1,
};

/** Envoy is an ordinary worker: it restarts immediately after an exit, with a short backoff between more attempts. */
function proxyToSpec(pool: PoolConfig, server: ServerConfig): PoolSpec {
  return {
    name: proxyName(pool.name),
    role: "proxy",
    fronts: pool.name,
    revision: 1,
    replicas: 1,
    standby: 0,
    autoscale: undefined,
    readiness: { kind: "probed", timeoutMs: BOOT_TIMEOUT_MS },
    drainMs: undefined,
    startupWaitMs: 0,
    stopSignal: "SIGTERM",
    stopSignalTarget: "group",
    signalTimeoutMs: server.signalTimeoutMs,
    desiredHealthyPercentage: 100,
    restart: {
      condition: "always",
      expectedExitCodes: [],
      maxRestarts: undefined,
      windowMs: pool.restartWindowMs,
      backoff: { initialMs: 50, maxMs: 2000, factor: 2, jitter: 0.2, resetAfterMs: 10_000 },
      onExhausted: "shutdown",
    },
    limits: {
      lifespanMs: undefined,
      jitterRatio: 0,
      memoryBytes: undefined,
      memoryHardBytes: undefined,
      memoryKind: "rss",
      requests: undefined,
    },
    rollout: { maxSurge: 0, maxUnavailable: 1, settleMs: 0 },
    livenessPacing: livenessPacing(PROXY_LIVENESS, undefined),
  };
}

/** The replicas from the file, clamped to the bounds of autoscale. */
function replicasAtStart({ autoscale }: PoolConfig, replicas: number): number {
  return autoscale === undefined ? replicas : Math.min(Math.max(replicas, autoscale.min), autoscale.max);
}

function autoscaleOf({ autoscale }: PoolConfig): AutoscalePolicy | undefined {
  if (autoscale === undefined) return undefined;
  const { min, max, cpu, inFlight, upAfterMs, downAfterMs } = autoscale;
  return {
    minReplicas: min,
    maxReplicas: max,
    targetCpu: cpu,
    targetInFlight: inFlight,
    upAfterMs,
    downAfterMs,
  };
}

function poolToSpec(pool: PoolConfig, replicas: number): PoolSpec {
  return {
    name: pool.name,
    role: "workers",
    fronts: undefined,
    revision: 1,
    replicas,
    standby: pool.standby,
    autoscale: autoscaleOf(pool),
    readiness: readinessOf(pool),
    drainMs: pool.server?.drainTimeoutMs,
    startupWaitMs: pool.startupWaitMs,
    stopSignal: pool.stopSignal,
    stopSignalTarget: pool.stopSignalTarget,
    signalTimeoutMs: pool.signalTimeoutMs,
    desiredHealthyPercentage: pool.desiredHealthyPercentage,
    restart: {
      condition: pool.restart.policy,
      expectedExitCodes: pool.restart.expectedExitCodes,
      maxRestarts: pool.maxRestarts,
      windowMs: pool.restartWindowMs,
      backoff: pool.restart.backoff,
      onExhausted: pool.restart.onExhausted,
    },
    limits: pool.limits,
    rollout: rolloutOf(pool.rolling),
    livenessPacing: pacingOf(pool),
  };
}

function rolloutOf({ maxSurge, maxUnavailable, minReadyMs }: RollingConfig): RolloutPolicy {
  return { maxSurge, maxUnavailable, settleMs: minReadyMs };
}

/** What the metrics of one worker cover, including the default. */
export function metricsScope({ scope, multiproc }: Pick<MetricsConfig, "scope" | "multiproc">): MetricsScope {
  return scope ?? (multiproc ? "pool" : "worker");
}
