import assert from "node:assert/strict";
import { test } from "node:test";
import type { Config } from "../config/config.ts";
import { parseConfig } from "../config/load.ts";
import { developmentConfig } from "./development.ts";

function read(pool: Readonly<Record<string, unknown>>, supervisor: Readonly<Record<string, unknown>> = {}): Config {
  const workers = [{ name: "web", exec: "server", ...pool }];
  const parsed = parseConfig(JSON.stringify({ supervisor: { ...supervisor, workers } }), "config.yaml", {});
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.config;
}

function developed(pool: Readonly<Record<string, unknown>>) {
  const [developed] = developmentConfig(read(pool), 1).supervisor.pools;
  assert.ok(developed !== undefined);
  return developed;
}

test("a pool for development has the chosen number of workers, whatever the file says", () => {
  const pool = {
    replicas: 8,
    autoscale: { min: 2, max: 9, cpu: 0.5 },
    standby: 2,
    server: { listener_port: 8000, start_port: 9100 },
  };
  const [two] = developmentConfig(read(pool), 2).supervisor.pools;
  assert.deepEqual([two?.replicas, two?.autoscale, two?.standby], [2, undefined, 0]);
});

test("waits are bounded for development, and shorter ones are kept", () => {
  const { signalTimeoutMs, startupWaitMs, maxRestarts, server, logs } = developed({
    signal_timeout: "1m",
    startup_wait_time: "5s",
    max_restarts: 3,
    server: { listener_port: 8000, start_port: 9100, drain_timeout: "1m" },
  });
  assert.deepEqual([signalTimeoutMs, startupWaitMs, maxRestarts], [2000, 0, undefined]);
  assert.deepEqual([server?.drainTimeoutMs, logs.mode], [2000, "inherit"]);
  assert.equal(developed({ signal_timeout: "1s" }).signalTimeoutMs, 1000);
  assert.equal(developmentConfig(read({}, { pre_stop_delay: "10s" }), 1).supervisor.preStopDelayMs, 0);
});

test("a crashed worker restarts within five seconds, even with longer backoff in the file", () => {
  assert.deepEqual(developed({}).restart.backoff.maxMs, 5000);
  const { initialMs, maxMs } = developed({ restart: { backoff: { initial: "9s", max: "1m" } } }).restart.backoff;
  assert.deepEqual([initialMs, maxMs], [5000, 5000]);
});

test("a pool without probe must run longer before its start counts as successful", () => {
  const minReadyMs = (pool: Readonly<Record<string, unknown>>) => developed(pool).rollout.minReadyMs;
  assert.equal(minReadyMs({}), 2000);
  assert.equal(minReadyMs({ probes: { readiness: { tcp: { port: 1 } } } }), 200);
  assert.equal(minReadyMs({ server: { listener_port: 8000, start_port: 9100 } }), 200);
  assert.equal(minReadyMs({ rolling: { min_ready: "0s" } }), 0);
});
