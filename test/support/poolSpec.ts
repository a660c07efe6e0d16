/** Pool specifications with defaults that a test can override. */
import { instant } from "../../src/base/time.ts";
import { ofClass } from "../../src/config/field.ts";
import { pool } from "../../src/config/keys/pool.ts";
import type { Replacement } from "../../src/core/policy/rollout.ts";
import type { PoolSpec } from "../../src/core/spec.ts";

const DEFAULTS = ofClass(pool, "policy");

/** A pool "web" of two workers with unlimited restarts, the first of them at once. */
export function poolSpec(changes: Partial<PoolSpec> = {}): PoolSpec {
  const { maxRestarts, restartWindowMs: windowMs, restart, ...policies } = DEFAULTS;
  return {
    ...policies,
    name: "web",
    type: "service",
    role: "workers",
    fronts: undefined,
    revision: 1,
    replicas: 2,
    readiness: { kind: "observed", surviveMs: 0 },
    drainMs: undefined,
    restart: { ...restart, maxRestarts, windowMs, backoff: { ...restart.backoff, jitter: 0 } },
    rollout: { ...policies.rollout, minReadyMs: 0 },
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
