/** What is desired: the policies the machines decide by. Produced from the configuration, never changed in place. */
import type { LivenessPacing } from "./policy/massFailure.ts";

/** Replicas of a pool at most, wherever they are asked for; a typing error must not fork the machine to death. */
export const MAX_REPLICAS = 10_000;

export interface BackoffPolicy {
  /** Wait before the second restart in a row; the first happens at once. */
  readonly initialMs: number;
  readonly maxMs: number;
  readonly factor: number;
  /** Share of the wait that is random: 0.2 gives 0.8 … 1.2 times the wait. */
  readonly jitter: number;
  /** An uptime of this length makes the next crash count as a first one. */
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
  /** Exit codes that are not failures: the worker is replaced at once, and `maxRestarts` does not count them. */
  readonly expectedExitCodes: readonly number[];
  /** Unplanned exits allowed inside `windowMs`; undefined is unlimited. */
  readonly maxRestarts: number | undefined;
  readonly windowMs: number;
  readonly backoff: BackoffPolicy;
  readonly onExhausted: "shutdown" | "give-up-worker";
}

export interface LimitsPolicy {
  /** Age at which a worker is recycled, jittered; undefined is for ever. */
  readonly lifespanMs: number | undefined;
  /** 0.1 spreads lifespan and requests over 0.9 … 1.1 of their value. */
  readonly jitterRatio: number;
  /** Above it in two samples in a row a worker is replaced gracefully; undefined is unlimited. */
  readonly memoryBytes: number | undefined;
  /** Above it a worker is killed at once; undefined is unlimited. */
  readonly memoryHardBytes: number | undefined;
  /** Resident, or resident with shared pages divided among those who share them. */
  readonly memoryKind: "rss" | "pss";
  readonly requests: number | undefined;
}

/** How far a rolling replacement may leave the number of replicas: above it (surge) and below it (unavailable). */
export interface RolloutPolicy {
  readonly maxSurge: number;
  readonly maxUnavailable: number;
  /**
   * How long a successor must have been seen serving before its predecessor stops, if `readiness` is `observed`: a
   * program that fails soon after its start would otherwise replace all that run well.
   */
  readonly settleMs: number;
}

/** Between which numbers of workers a pool is kept at its target. Exactly one target is there. */
export interface AutoscalePolicy {
  readonly minReplicas: number;
  readonly maxReplicas: number;
  /** CPUs that a worker shall use on average: 0.7 is 70 % of one. */
  readonly targetCpu: number | undefined;
  /** Requests that a worker shall work on at a time on average. */
  readonly targetInFlight: number | undefined;
  /** How long more workers must have been wanted before there are more; fewer before there are fewer. */
  readonly upAfterMs: number;
  readonly downAfterMs: number;
}

/**
 * When a worker counts as ready. `probed`: when it is found to answer (`becameReady`); one that does not within `timeoutMs`
 * of its spawn is stopped, which counts as a crash; undefined waits indefinitely. `observed`: when it is seen to serve
 * (`becameReady`), or has lived for `surviveMs` where nothing shows that.
 */
export type ReadinessPolicy =
  | { readonly kind: "probed"; readonly timeoutMs: number | undefined }
  | { readonly kind: "observed"; readonly surviveMs: number };

export interface PoolSpec {
  readonly name: string;
  /** `proxy`: the pool is the Envoy in front of the pool `fronts`; it starts first and leaves last. */
  readonly role: "workers" | "proxy";
  /** Name of the pool whose traffic this proxy takes; undefined for workers. */
  readonly fronts: string | undefined;
  /** Grows with each change of what a worker is launched with; older workers have to be replaced. */
  readonly revision: number;
  readonly replicas: number;
  /** Ready workers that are kept out of the balance until another one fails. */
  readonly standby: number;
  /** undefined leaves the number of replicas as it is. */
  readonly autoscale: AutoscalePolicy | undefined;
  readonly readiness: ReadinessPolicy;
  /**
   * Bound of the wait until a worker that is about to stop has finished its requests while it gets no new ones;
   * undefined where nobody in front of it could send them elsewhere.
   */
  readonly drainMs: number | undefined;
  /** Pause between the starts of two workers of the pool, at boot and when scaling up. */
  readonly startupWaitMs: number;
  readonly stopSignal: string;
  /** Which processes of a worker receive the stop signal; SIGKILL always goes to the whole group. */
  readonly stopSignalTarget: "group" | "leader";
  /** Stop signal → SIGKILL of the whole process group. */
  readonly signalTimeoutMs: number;
  /** 0 … 100 */
  readonly desiredHealthyPercentage: number;
  readonly restart: RestartPolicy;
  readonly limits: LimitsPolicy;
  readonly rollout: RolloutPolicy;
  /** After a replacement for liveness, how long others wait. */
  readonly livenessPacing: LivenessPacing;
}

/** What concerns no single pool. */
export interface ControllerPolicy {
  /** Upper bound of the whole shutdown, pre-stop delay included. */
  readonly shutdownTimeoutMs: number;
  /** Time between the request to shut down and the first stop signal, during which workers go on serving. */
  readonly preStopDelayMs: number;
}

export interface ControllerSpec extends ControllerPolicy {
  /** A proxy comes after the pool it fronts. */
  readonly pools: readonly PoolSpec[];
}

/** The same pool when nobody wants any worker of it, neither at work nor in reserve. */
export function emptied(spec: PoolSpec): PoolSpec {
  return { ...spec, replicas: 0, standby: 0, autoscale: undefined };
}
