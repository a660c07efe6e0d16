/** The desired state: the policies that decisions follow. Produced from the configuration, never changed in place. */
import type { LivenessPacing } from "./policy/massFailure.ts";

/** Maximum replicas of a pool. A typing error must not exhaust the machine. */
export const MAX_REPLICAS = 10_000;

export interface BackoffPolicy {
  /** Wait before the second restart in a row; the first one is immediate. */
  readonly initialMs: number;
  readonly maxMs: number;
  readonly factor: number;
  /** Random share of the wait: 0.2 gives 0.8 … 1.2 times the wait. */
  readonly jitter: number;
  /** After an uptime of this length the next crash counts as the first one. */
  readonly resetAfterMs: number;
}

/** Which unrequested exits start a new process. */
export type RestartCondition = "always" | "on-failure" | "never";

export interface RestartPolicy {
  /**
   * `always`: every exit. `on-failure`: every exit but code 0 and the expected ones, which leave the slot down. `never`:
   * no exit. Planned replacements (limits, rollouts, liveness) always start a new process.
   */
  readonly condition: RestartCondition;
  /** Exit codes that are not failures: the worker restarts at once, without counting against the restart limit. */
  readonly expectedExitCodes: readonly number[];
  /** Restart limit: crashes and failed starts within `windowMs`; undefined is unlimited. */
  readonly maxRestarts: number | undefined;
  readonly windowMs: number;
  readonly backoff: BackoffPolicy;
  readonly onExhausted: "shutdown" | "give-up-worker";
}

export interface LimitsPolicy {
  /** Maximum age, jittered. A worker that reaches it is replaced gracefully; undefined is unlimited. */
  readonly lifespanMs: number | undefined;
  /** 0.1 spreads lifespan and requests over 0.9 … 1.1 of their value. */
  readonly jitterRatio: number;
  /** A worker above it in two consecutive samples is replaced gracefully; undefined is unlimited. */
  readonly memoryBytes: number | undefined;
  /** A worker above it is killed at once; undefined is unlimited. */
  readonly memoryHardBytes: number | undefined;
  /** Resident set size, or proportional set size (shared pages divided among the processes that map them). */
  readonly memoryKind: "rss" | "pss";
  readonly requests: number | undefined;
}

/** A number of workers, or a percentage of the replicas. */
export type Share = number | { readonly percent: number };

/** How far a rolling replacement may leave the number of replicas: above it (surge) and below it (unavailable). */
export interface RolloutPolicy {
  readonly maxSurge: Share;
  readonly maxUnavailable: Share;
  /**
   * Min ready time. Without probes a successor must serve so long before its predecessor stops. With probes the first
   * new worker of an operation must stay ready so long. A program that fails soon after its start replaces no more.
   */
  readonly minReadyMs: number;
}

/** Keeps a pool at its target between two numbers of workers. Exactly one target is set. */
export interface AutoscalePolicy {
  readonly minReplicas: number;
  readonly maxReplicas: number;
  /** Target average CPU usage per worker, in CPUs: 0.7 is 70 % of one. */
  readonly targetCpu: number | undefined;
  /** Target average of requests in flight per worker. */
  readonly targetInFlight: number | undefined;
  /** How long the load must have needed more workers before the pool grows, or fewer before it shrinks. */
  readonly upAfterMs: number;
  readonly downAfterMs: number;
}

/**
 * When a worker counts as ready. `probed`: when its probes pass. If they do not within `timeoutMs` of its spawn, it is
 * stopped, which counts as a crash; undefined waits indefinitely. `observed`: when it is seen serving, or without such
 * evidence after `surviveMs`.
 */
export type ReadinessPolicy =
  | { readonly kind: "probed"; readonly timeoutMs: number | undefined }
  | { readonly kind: "observed"; readonly surviveMs: number };

/** `service`: its workers run until they are stopped. `oneshot`: each replica runs once to completion. */
export type PoolType = "service" | "oneshot";

/** What must be true of a pool before the pools that depend on it start. */
export type Milestone = "started" | "ready" | "completed";

export interface PoolSpec {
  readonly name: string;
  readonly type: PoolType;
  /** `proxy`: the pool is the Envoy in front of the pool `fronts`; it starts first and stops last. */
  readonly role: "workers" | "proxy";
  /** Name of the pool behind this proxy; undefined for workers. */
  readonly fronts: string | undefined;
  /** Increases with each change of what a worker is launched with; workers of an older revision must be replaced. */
  readonly revision: number;
  readonly replicas: number;
  /** What its first worker waits for, by the name of a pool; a proxy waits for the same as the pool behind it. */
  readonly dependsOn: Readonly<Record<string, Milestone>>;
  /** Desired standby workers: ready, without requests until another worker fails. */
  readonly standby: number;
  /** undefined keeps the number of replicas. */
  readonly autoscale: AutoscalePolicy | undefined;
  readonly readiness: ReadinessPolicy;
  /**
   * Drain limit: how long a worker may finish its requests before the stop signal while it receives no new ones;
   * undefined without a proxy, which would send them elsewhere.
   */
  readonly drainMs: number | undefined;
  /** Pause between the starts of two workers of the pool, at boot and when scaling up. */
  readonly startupWaitMs: number;
  readonly stopSignal: string;
  /** Which processes of a worker receive the stop signal; SIGKILL always goes to the whole group. */
  readonly stopSignalTarget: "group" | "leader";
  /** Grace period: from the stop signal to SIGKILL of the whole process group. */
  readonly signalTimeoutMs: number;
  /** 0 … 100 */
  readonly desiredHealthyPercentage: number;
  readonly restart: RestartPolicy;
  readonly limits: LimitsPolicy;
  readonly rollout: RolloutPolicy;
  /** How long a replacement because of liveness holds back others. */
  readonly livenessPacing: LivenessPacing;
}

/** What does not belong to a single pool. */
export interface ControllerPolicy {
  /** Time limit of the whole shutdown, pre-stop delay included. */
  readonly shutdownTimeoutMs: number;
  /** Time between the shutdown request and the first stop signal, during which workers keep serving. */
  readonly preStopDelayMs: number;
  /** How many workers may boot at the same time; undefined is unlimited. Proxies do not count. */
  readonly startParallelism: number | undefined;
}

export interface ControllerSpec extends ControllerPolicy {
  /** A proxy follows the pool behind it. */
  readonly pools: readonly PoolSpec[];
}

/** The same pool without any desired worker. */
export function emptied(spec: PoolSpec): PoolSpec {
  return { ...spec, replicas: 0, standby: 0, autoscale: undefined };
}
