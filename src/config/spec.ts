/** The configuration → the input of the core's decisions. `auto` is resolved here. */

import { type LivenessPacing, livenessPacing } from "../core/policy/massFailure.ts";
import type { ProbePolicy } from "../core/policy/probe.ts";
import type { ControllerSpec, PoolSpec, ReadinessPolicy } from "../core/spec.ts";
import type { Config, MetricsScope, PoolConfig, ProbeConfig, ServerConfig } from "./config.ts";
import { ofClass } from "./field.ts";
import type { MetricsConfig } from "./keys/metrics.ts";
import { pool as poolKind } from "./keys/pool.ts";
import { supervisor as supervisorKind } from "./keys/supervisor.ts";

/** The desired state that `config` describes; `replicasOf` also resolves `auto`. */
export function configToControllerSpec(config: Config, replicasOf: (pool: PoolConfig) => number): ControllerSpec {
  const { pools } = config.supervisor;
  const workers = pools.map((pool) => poolToSpec(pool, replicasAtStart(pool, replicasOf(pool))));
  const proxies = pools.flatMap((pool) => (pool.server === undefined ? [] : [proxyToSpec(pool, pool.server)]));
  return { ...ofClass(supervisorKind, "policy", config.supervisor), pools: [...workers, ...proxies] };
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

function readinessOf({ probes, server, sockets, rollout }: PoolConfig): ReadinessPolicy {
  const startup = probes?.startup;
  if (startup !== undefined) {
    // The prober stops by itself; this bound applies if even its last attempt hangs.
    const { initialDelayMs, periodMs, timeoutMs, failureThreshold } = startup;
    return { kind: "probed", timeoutMs: initialDelayMs + (periodMs + timeoutMs) * (failureThreshold + 1) };
  }
  if (probes?.readiness !== undefined) return { kind: "probed", timeoutMs: READINESS_TIMEOUT_MS };
  if (server !== undefined) return { kind: "probed", timeoutMs: BOOT_TIMEOUT_MS };
  const { minReadyMs } = rollout;
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

type PoolPolicies = ReturnType<typeof ofClass<(typeof poolKind)["keys"], "policy">>;

/** Every key of class `policy` reaches the core under its name, except for the keys of the restart limit. */
function policiesOf({ maxRestarts, restartWindowMs: windowMs, restart, ...policies }: PoolPolicies) {
  return { ...policies, revision: 1, restart: { ...restart, maxRestarts, windowMs } };
}

/** Exit code 0 completes a run, another run follows a failed one only within `max_restarts`, and none starts beside another. */
function oneshotPolicies({ restart, rollout }: Pick<PoolSpec, "restart" | "rollout">) {
  const maxRestarts = restart.condition === "never" ? 0 : (restart.maxRestarts ?? 0);
  return {
    restart: { ...restart, condition: "on-failure", maxRestarts },
    rollout: { ...rollout, maxSurge: 0, maxUnavailable: { percent: 100 } },
  } as const;
}

function poolToSpec(pool: PoolConfig, replicas: number): PoolSpec {
  const policies = policiesOf(ofClass(poolKind, "policy", pool));
  const { type } = pool;
  return {
    ...policies,
    ...(type === "oneshot" ? oneshotPolicies(policies) : {}),
    name: pool.name,
    type,
    role: "workers",
    fronts: undefined,
    replicas,
    readiness: readinessOf(pool),
    drainMs: pool.server?.drainTimeoutMs,
    livenessPacing: pacingOf(pool),
  };
}

/** Envoy is an ordinary worker: it restarts immediately after an exit, with a short backoff between more attempts. */
function proxyToSpec(pool: PoolConfig, server: ServerConfig): PoolSpec {
  const policies = policiesOf(ofClass(poolKind, "policy"));
  const backoff = { initialMs: 50, maxMs: 2000, factor: 2, jitter: 0.2, resetAfterMs: 10_000 };
  return {
    ...policies,
    name: proxyName(pool.name),
    type: "service",
    role: "proxy",
    fronts: pool.name,
    dependsOn: pool.dependsOn,
    replicas: 1,
    readiness: { kind: "probed", timeoutMs: BOOT_TIMEOUT_MS },
    drainMs: undefined,
    signalTimeoutMs: server.signalTimeoutMs,
    desiredHealthyPercentage: 100,
    restart: { ...policies.restart, windowMs: pool.restartWindowMs, backoff },
    rollout: { maxSurge: 0, maxUnavailable: 1, minReadyMs: 0 },
    livenessPacing: livenessPacing(PROXY_LIVENESS, undefined),
  };
}

/** The replicas from the file, clamped to the bounds of autoscale. */
function replicasAtStart({ autoscale }: PoolConfig, replicas: number): number {
  return autoscale === undefined
    ? replicas
    : Math.min(Math.max(replicas, autoscale.minReplicas), autoscale.maxReplicas);
}

/** What the metrics of one worker cover, including the default. */
export function metricsScope({ scope, multiproc }: Pick<MetricsConfig, "scope" | "multiproc">): MetricsScope {
  return scope ?? (multiproc ? "pool" : "worker");
}
