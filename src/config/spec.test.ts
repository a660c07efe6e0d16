import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "./load.ts";
import { configToControllerSpec, rolloutOf } from "./spec.ts";

test("the specification carries the policies of the configuration", () => {
  const parsed = parseConfig(
    "supervisor: {pre_stop_delay: 1s, workers: [{name: a, exec: b, replicas: auto, max_restarts: 3, limits: {lifespan: 1h}}]}",
    "c.yaml",
    {},
  );
  assert.ok(parsed.ok);
  assert.deepEqual(configToControllerSpec(parsed.config, { replicasOf: () => 8 }), {
    shutdownTimeoutMs: 60_000,
    preStopDelayMs: 1000,
    pools: [
      {
        name: "a",
        replicas: 8,
        startupWaitMs: 0,
        stopSignal: "SIGTERM",
        signalTimeoutMs: 10_000,
        desiredHealthyPercentage: 75,
        restart: {
          maxRestarts: 3,
          windowMs: 600_000,
          backoff: { initialMs: 100, maxMs: 30_000, factor: 2, jitter: 0.2, resetAfterMs: 60_000 },
          onExhausted: "shutdown",
        },
        limits: {
          lifespanMs: 3_600_000,
          jitterRatio: 0,
          memoryBytes: undefined,
          memoryHardBytes: undefined,
          requests: undefined,
        },
        rollout: { maxSurge: 1, maxUnavailable: 0, settleMs: 0 },
      },
    ],
  });
});

test("surge is rounded up, unavailable down, and one of them is never 0", () => {
  const percent = (maxSurge: number, maxUnavailable: number, replicas: number): readonly number[] => {
    const rollout = rolloutOf(
      { maxSurge: { percent: maxSurge }, maxUnavailable: { percent: maxUnavailable }, minReadyMs: 0 },
      replicas,
    );
    return [rollout.maxSurge, rollout.maxUnavailable];
  };
  assert.deepEqual(percent(25, 25, 5), [2, 1]);
  assert.deepEqual(percent(100, 100, 3), [3, 3]);
  assert.deepEqual(percent(0, 25, 4), [0, 1]);
  assert.deepEqual(percent(0, 25, 3), [1, 0]);
  assert.deepEqual(rolloutOf({ maxSurge: 0, maxUnavailable: 2, minReadyMs: 300 }, 1), {
    maxSurge: 0,
    maxUnavailable: 2,
    settleMs: 300,
  });
});
