import assert from "node:assert/strict";
import { test } from "node:test";
import type { ControllerSpec } from "../core/spec.ts";
import { ofClass } from "./field.ts";
import { pool } from "./keys/pool.ts";
import { parseConfig } from "./load.ts";
import { configToControllerSpec } from "./spec.ts";

test("the specification has the policies of the configuration", () => {
  const parsed = parseConfig(
    "supervisor: {pre_stop_delay: 1s, workers: [{name: a, exec: b, replicas: auto, max_restarts: 3, limits: {lifespan: 1h}}]}",
    "c.yaml",
    {},
  );
  assert.ok(parsed.ok);
  assert.deepEqual(
    configToControllerSpec(parsed.config, () => 8),
    {
      shutdownTimeoutMs: 60_000,
      preStopDelayMs: 1000,
      startParallelism: undefined,
      pools: [
        {
          name: "a",
          type: "service",
          dependsOn: {},
          role: "workers",
          fronts: undefined,
          revision: 1,
          replicas: 8,
          standby: 0,
          autoscale: undefined,
          readiness: { kind: "observed", surviveMs: 5000 },
          drainMs: undefined,
          startupWaitMs: 0,
          stopSignal: "SIGTERM",
          stopSignalTarget: "group",
          signalTimeoutMs: 10_000,
          desiredHealthyPercentage: 75,
          restart: {
            condition: "always",
            expectedExitCodes: [],
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
            memoryKind: "rss",
            requests: undefined,
          },
          rollout: { maxSurge: 1, maxUnavailable: 0, minReadyMs: 5000 },
          livenessPacing: { coolDownMs: 0, recheckMs: 0 },
        },
      ],
    },
  );
});

function specsOf(pool: string): ControllerSpec["pools"] {
  const parsed = parseConfig(`supervisor: {workers: [{name: web, exec: b, replicas: 2, ${pool}}]}`, "c.yaml", {});
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return configToControllerSpec(parsed.config, () => 2).pools;
}

test("a pool with a server drains, is probed for readiness, and has a proxy pool after all pools", () => {
  const [web, proxy] = specsOf(
    "server: {port_arg: {name: -p, start_port: 9100}, drain_timeout: 5s, signal_timeout: 3s}",
  );
  assert.deepEqual([web?.drainMs, web?.readiness], [5000, { kind: "probed", timeoutMs: 60_000 }]);
  assert.deepEqual(
    [proxy?.name, proxy?.role, proxy?.fronts, proxy?.replicas, proxy?.signalTimeoutMs, proxy?.restart.maxRestarts],
    ["web-proxy", "proxy", "web", 1, 3000, undefined],
  );
});

test("a oneshot pool retries failed runs only if max_restarts allows it, and never runs twice at a time", () => {
  const [once] = specsOf("type: oneshot");
  assert.deepEqual([once?.restart.condition, once?.restart.maxRestarts], ["on-failure", 0]);
  assert.deepEqual([once?.rollout.maxSurge, once?.rollout.maxUnavailable], [0, { percent: 100 }]);
  assert.equal(specsOf("type: oneshot, max_restarts: 2")[0]?.restart.maxRestarts, 2);
  assert.equal(specsOf("type: oneshot, max_restarts: 2, restart: {policy: never}")[0]?.restart.maxRestarts, 0);
});

test("a proxy waits for the same pools as the pool behind it", () => {
  const server = "server: {socket_arg: {name: -s}}, depends_on: {db: ready}}, {name: db, exec: b";
  const pools = specsOf(server);
  assert.deepEqual(
    pools.map(({ name, dependsOn }) => [name, dependsOn]),
    [
      ["web", { db: "ready" }],
      ["db", {}],
      ["web-proxy", { db: "ready" }],
    ],
  );
});

test("the specification has only keys of class policy, and no secret", () => {
  const [web] = specsOf("env: {PASSWORD: hidden}, cwd: /srv, standby: 0, logs: {max_line: 2KiB}, stop_signal: USR1");
  const isRenamed = new Set(["maxRestarts", "restartWindowMs"]);
  const own = ["name", "type", "role", "fronts", "revision", "readiness", "drainMs", "livenessPacing"];
  const known = Object.keys(ofClass(pool, "policy")).filter((key) => !isRenamed.has(key));
  assert.deepEqual(Object.keys(web ?? {}).toSorted(), [...known, ...own].toSorted());
  assert.equal(web?.stopSignal, "SIGUSR1");
  assert.doesNotMatch(JSON.stringify(web), /hidden|srv|PASSWORD|annotate/u);
});

test("a startup probe limits the time to become ready; with only a readiness probe it is ten minutes", () => {
  const startup = "startup: {tcp: {port: 1}, period: 1s, timeout: 1s, failure_threshold: 4, initial_delay: 500ms}";
  assert.deepEqual(specsOf(`probes: {${startup}}`)[0]?.readiness, { kind: "probed", timeoutMs: 10_500 });
  assert.deepEqual(specsOf("probes: {readiness: {notify: true}}")[0]?.readiness, {
    kind: "probed",
    timeoutMs: 600_000,
  });
  assert.deepEqual(specsOf("probes: {liveness: {tcp: {port: 1}}}")[0]?.readiness, {
    kind: "observed",
    surviveMs: 5000,
  });
});

test("autoscale becomes a policy, and the pool starts within its bounds", () => {
  const autoscaled = (keys: string, replicas: number) => {
    const text = `supervisor: {workers: [{name: web, exec: b, ${keys}}]}`;
    const parsed = parseConfig(text, "c.yaml", {});
    assert.ok(parsed.ok, JSON.stringify(parsed));
    return configToControllerSpec(parsed.config, () => replicas).pools[0];
  };
  const found = autoscaled("autoscale: {min: 2, max: 8, cpu: 0.7}", 1);
  assert.deepEqual(found?.autoscale, {
    minReplicas: 2,
    maxReplicas: 8,
    targetCpu: 0.7,
    targetInFlight: undefined,
    upAfterMs: 15_000,
    downAfterMs: 300_000,
  });
  assert.equal(found?.replicas, 2);
  assert.equal(autoscaled("replicas: auto, autoscale: {max: 8, cpu: 0.7}", 64)?.replicas, 8);
  assert.equal(autoscaled("replicas: 5, autoscale: {max: 8, cpu: 0.7}", 5)?.replicas, 5);
});
