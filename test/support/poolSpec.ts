/** Pool specifications with defaults that a test can override. */
import { instant } from "../../src/base/time.ts";
import type { Replacement } from "../../src/core/policy/rollout.ts";
import type { PoolSpec } from "../../src/core/spec.ts";

/** A pool "web" of two workers with unlimited restarts, the first of them at once. */
export function poolSpec(changes: Partial<PoolSpec> = {}): PoolSpec {
  return {
    name: "web",
    role: "workers",
    fronts: undefined,
    revision: 1,
    replicas: 2,
    standby: 0,
    autoscale: undefined,
    readiness: { kind: "observed", surviveMs: 0 },
    drainMs: undefined,
    startupWaitMs: 0,
    stopSignal: "SIGTERM",
    stopSignalTarget: "group",
    signalTimeoutMs: 10_000,
    desiredHealthyPercentage: 75,
    restart: {
      condition: "always",
      expectedExitCodes: [],
      maxRestarts: undefined,
      windowMs: 600_000,
      backoff: { initialMs: 100, maxMs: 30_000, factor: 2, jitter: 0, resetAfterMs: 60_000 },
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
    rollout: { maxSurge: 1, maxUnavailable: 0, settleMs: 0 },
    livenessPacing: { coolDownMs: 5000, recheckMs: 1000 },
    ...changes,
  };
}

/** A replacement because of the lifespan limit. */
export function replacementOf(
  changes: Pick<Replacement, "old" | "oldIncarnation" | "successor" | "successorIncarnation"> & Partial<Replacement>,
): Replacement {
  return { revision: 1, startedAt: instant(0), cause: "lifespan", reason: "lifespan", ...changes };
}
