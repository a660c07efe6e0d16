/** The configuration → what the core decides by. Percentages and `auto` end here. */
import type { ControllerSpec, PoolSpec, RolloutPolicy } from "../core/spec.ts";
import type { Config, PoolConfig, RollingConfig, Share } from "./config.ts";

/** What a configuration cannot know by itself. */
export interface SpecInputs {
  /** The number of replicas of a pool, where the file says `auto` too. */
  replicasOf(pool: PoolConfig): number;
}

/** The desired state that `config` describes. */
export function configToControllerSpec(config: Config, inputs: SpecInputs): ControllerSpec {
  return {
    shutdownTimeoutMs: config.supervisor.shutdownTimeoutMs,
    preStopDelayMs: config.supervisor.preStopDelayMs,
    pools: config.supervisor.pools.map((pool) => poolToSpec(pool, inputs.replicasOf(pool))),
  };
}

function poolToSpec(pool: PoolConfig, replicas: number): PoolSpec {
  const { lifespanMs, jitterRatio, memoryBytes, memoryHardBytes, requests } = pool.limits;
  return {
    name: pool.name,
    replicas,
    startupWaitMs: pool.startupWaitMs,
    stopSignal: pool.stopSignal,
    signalTimeoutMs: pool.signalTimeoutMs,
    desiredHealthyPercentage: pool.desiredHealthyPercentage,
    restart: {
      maxRestarts: pool.maxRestarts,
      windowMs: pool.restartWindowMs,
      backoff: pool.restart.backoff,
      onExhausted: pool.restart.onExhausted,
    },
    limits: { lifespanMs, jitterRatio, memoryBytes, memoryHardBytes, requests },
    rollout: rolloutOf(pool.rolling, replicas),
  };
}

/** Numbers of workers: surge is rounded up, unavailable down; where both come to 0, surge is 1. */
export function rolloutOf(rolling: RollingConfig, replicas: number): RolloutPolicy {
  const maxSurge = countOf(rolling.maxSurge, replicas, Math.ceil);
  const maxUnavailable = countOf(rolling.maxUnavailable, replicas, Math.floor);
  return { maxSurge: maxSurge === 0 && maxUnavailable === 0 ? 1 : maxSurge, maxUnavailable };
}

function countOf(share: Share, replicas: number, round: (value: number) => number): number {
  return typeof share === "number" ? share : round((share.percent * replicas) / 100);
}
