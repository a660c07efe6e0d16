import assert from "node:assert/strict";
import { test } from "node:test";
import { describeEvent, type EventDescription } from "./describe.ts";
import { isWorkerEvent, type LifecycleEvent } from "./event.ts";

const operation = { pool: "web", operation: "op-1", what: "restart", done: 1, total: 4, reason: "asked" } as const;
const mine = { pool: "web", slot: 1, incarnation: 3 } as const;
const pool = { pool: "web", reason: "because" } as const;

/** Each kind at least once. The type requires every kind. */
const DESCRIPTIONS: { readonly [K in LifecycleEvent["kind"]]: readonly (readonly [Event<K>, EventDescription])[] } = {
  starting: [
    [
      { kind: "starting", ...mine, delayMs: 0, reason: "wanted by replicas" },
      { level: "debug", text: 'worker "web-1" is starting: wanted by replicas' },
    ],
  ],
  spawned: [
    [
      { kind: "spawned", ...mine, pid: 7, revision: 1 },
      { level: "debug", text: 'worker "web-1" started with pid 7, incarnation 3' },
    ],
  ],
  ready: [
    [
      { kind: "ready", ...mine, afterMs: 1500, evidence: "probe" },
      { level: "debug", text: 'worker "web-1" is ready after 1.5s' },
    ],
  ],
  waiting: [
    [
      { kind: "waiting", ...mine, afterMs: 1000, reason: "GET http://127.0.0.1:80/ answered HTTP 400" },
      { level: "debug", text: 'worker "web-1" is not ready after 1s: GET http://127.0.0.1:80/ answered HTTP 400' },
    ],
    [
      { kind: "waiting", ...mine, afterMs: 10_000, reason: "GET http://127.0.0.1:80/ answered HTTP 400" },
      { level: "warn", text: 'worker "web-1" is not ready after 10s: GET http://127.0.0.1:80/ answered HTTP 400' },
    ],
  ],
  unready: [
    [
      { kind: "unready", ...mine, reason: "HTTP 500" },
      { level: "warn", text: 'worker "web-1" is unready: HTTP 500' },
    ],
  ],
  exited: [
    [
      { kind: "exited", ...mine, pid: 7, status: { kind: "code", code: 0 }, planned: true, uptimeMs: 60_000 },
      { level: "debug", text: 'worker "web-1" exited with code 0 after 1m (pid 7)' },
    ],
    [
      {
        kind: "exited",
        ...mine,
        pid: 7,
        status: { kind: "signal", signal: "SIGSEGV" },
        planned: false,
        uptimeMs: 1000,
      },
      { level: "warn", text: 'worker "web-1" was killed by SIGSEGV after 1s (pid 7), unplanned' },
    ],
  ],
  spawn_failed: [
    [
      { kind: "spawn_failed", ...mine, reason: "EAGAIN" },
      { level: "error", text: 'worker "web-1" failed to start: EAGAIN', code: "SPAWN_FAILED" },
    ],
  ],
  backing_off: [
    [
      { kind: "backing_off", ...mine, delayMs: 0, reason: "first crash" },
      { level: "info", text: 'worker "web-1" is restarting now: first crash' },
    ],
    [
      { kind: "backing_off", ...mine, delayMs: 200, reason: "crash 2 in a row" },
      { level: "info", text: 'worker "web-1" is restarting in 200ms: crash 2 in a row' },
    ],
  ],
  ended: [
    [
      { kind: "ended", ...mine, isFailure: false, reason: "exited with code 0" },
      { level: "info", text: 'worker "web-1" completed: exited with code 0' },
    ],
    [
      { kind: "ended", ...mine, isFailure: true, reason: "exited with code 3" },
      { level: "error", text: 'worker "web-1" failed and stays down: exited with code 3' },
    ],
  ],
  promoted: [
    [
      { kind: "promoted", ...mine, reason: "web-0 is missing" },
      { level: "info", text: 'worker "web-1" was promoted from standby: web-0 is missing' },
    ],
  ],
  draining: [
    [
      { kind: "draining", pid: 7, boundMs: 30_000, ...mine, reason: "rollout" },
      { level: "debug", text: 'worker "web-1" is draining, 30s drain limit: rollout' },
    ],
  ],
  drained: [
    [
      { kind: "drained", ...mine, afterMs: 20, cut: 0 },
      { level: "debug", text: 'worker "web-1" finished its requests in 20ms' },
    ],
    [
      { kind: "drained", ...mine, afterMs: 30_000, cut: 1 },
      { level: "warn", text: 'worker "web-1" did not finish 1 request within 30s; cutting it off' },
    ],
    [
      { kind: "drained", ...mine, afterMs: 30_000, cut: 2 },
      { level: "warn", text: 'worker "web-1" did not finish 2 requests within 30s; cutting them off' },
    ],
  ],
  stopping: [
    [
      {
        kind: "stopping",
        ...mine,
        pid: 7,
        signal: "SIGTERM",
        graceMs: 10_000,
        cause: "shutdown",
        reason: "received SIGTERM",
      },
      { level: "debug", text: 'worker "web-1" was sent SIGTERM, 10s grace period: received SIGTERM' },
    ],
  ],
  killed: [
    [
      { kind: "killed", ...mine, pid: 7, reason: "still there" },
      { level: "warn", text: 'worker "web-1" was killed with its process group: still there' },
    ],
  ],
  stopped: [
    [
      { kind: "stopped", ...mine, durationMs: 40, next: "stay down" },
      { level: "debug", text: 'worker "web-1" stopped after 40ms' },
    ],
    [
      { kind: "stopped", ...mine, durationMs: 40, next: "respawn" },
      { level: "debug", text: 'worker "web-1" stopped after 40ms; restarting' },
    ],
  ],
  limit_reached: [
    [
      { kind: "limit_reached", ...mine, limit: "lifespan", reason: "lived 4h" },
      { level: "info", text: 'worker "web-1" reached its lifespan limit: lived 4h' },
    ],
  ],
  gave_up: [
    [
      { kind: "gave_up", ...mine, reason: "4 crashes or failed starts" },
      {
        level: "error",
        text: 'worker "web-1" reached its restart limit and stays down: 4 crashes or failed starts',
        code: "RESTARTS_EXHAUSTED",
      },
    ],
  ],
  pool_degraded: [
    [
      { kind: "pool_degraded", ...pool },
      { level: "warn", text: 'pool "web" is degraded: because' },
    ],
  ],
  pool_recovered: [
    [
      { kind: "pool_recovered", ...pool },
      { level: "info", text: 'pool "web" is healthy again: because' },
    ],
  ],
  pool_blocked: [
    [
      { kind: "pool_blocked", pool: "web", isHopeless: false, reason: 'waiting for pool "migrate" to complete' },
      { level: "info", text: 'pool "web" is waiting for pool "migrate" to complete' },
    ],
    [
      {
        kind: "pool_blocked",
        pool: "web",
        isHopeless: true,
        reason: 'waiting for pool "a" to complete, but it failed',
      },
      {
        level: "error",
        text: 'pool "web" cannot start: it is waiting for pool "a" to complete, but it failed',
        code: "POOL_BLOCKED",
      },
    ],
  ],
  pool_unblocked: [
    [
      { kind: "pool_unblocked", pool: "web", reason: 'waiting for pool "migrate" to complete' },
      { level: "info", text: 'pool "web" is starting; it was waiting for pool "migrate" to complete' },
    ],
  ],
  rollout_started: [
    [
      { kind: "rollout_started", ...pool },
      { level: "info", text: 'pool "web" is replacing a worker: because' },
    ],
  ],
  rollout_finished: [
    [
      { kind: "rollout_finished", ...pool },
      { level: "info", text: 'pool "web" replaced a worker: because' },
    ],
  ],
  rollout_aborted: [
    [
      { kind: "rollout_aborted", ...pool },
      { level: "error", text: 'pool "web" abandoned a replacement: because' },
    ],
  ],
  audited: [
    [
      { kind: "audited", who: "uid 0, pid 12", what: 'restart pool "web"' },
      { level: "info", text: 'uid 0, pid 12 requested: restart pool "web"' },
    ],
  ],
  controller_started: [
    [
      { kind: "controller_started", reason: "1 pool, 2 workers" },
      { level: "info", text: "controller is starting: 1 pool, 2 workers" },
    ],
  ],
  controller_ready: [
    [
      { kind: "controller_ready", afterMs: 90_000 },
      { level: "info", text: "controller is ready after 1m30s" },
    ],
  ],
  controller_stopping: [
    [
      { kind: "controller_stopping", reason: "received SIGTERM" },
      { level: "info", text: "controller is shutting down: received SIGTERM" },
    ],
  ],
  proxy_update_late: [
    [
      { kind: "proxy_update_late", pool: "web", reason: "not applied after 500 ms" },
      { level: "warn", text: 'the proxy of pool "web" still uses old endpoints: not applied after 500 ms' },
    ],
  ],
  proxy_update_refused: [
    [
      { kind: "proxy_update_refused", pool: "web", reason: "no room" },
      { level: "error", text: 'the proxy of pool "web" keeps old endpoints: no room' },
    ],
  ],
  log_file_failed: [
    [
      { kind: "log_file_failed", pool: "web", reason: '"/a.log": ENOSPC' },
      {
        level: "error",
        text: 'the log file of pool "web" cannot be written: "/a.log": ENOSPC',
        code: "LOG_FILE_FAILED",
      },
    ],
  ],
  log_file_recovered: [
    [
      { kind: "log_file_recovered", pool: "web", reason: "no line is lost" },
      { level: "warn", text: 'the log file of pool "web" is written again: no line is lost' },
    ],
  ],
  controller_draining: [
    [
      { kind: "controller_draining", reason: "1 proxy finishes its requests" },
      { level: "info", text: "controller is draining: 1 proxy finishes its requests" },
    ],
  ],
  operation_queued: [
    [
      { kind: "operation_queued", ...operation },
      { level: "info", text: 'restart of pool "web" (op-1) is queued behind another operation: asked' },
    ],
  ],
  operation_started: [
    [
      { kind: "operation_started", ...operation },
      { level: "info", text: 'restart of pool "web" (op-1) started: asked' },
    ],
  ],
  operation_progressed: [
    [
      { kind: "operation_progressed", ...operation },
      { level: "info", text: 'restart of pool "web" (op-1) is in progress, 1 of 4 done' },
    ],
  ],
  operation_finished: [
    [
      { kind: "operation_finished", ...operation },
      { level: "info", text: 'restart of pool "web" (op-1) finished, 1 of 4 done' },
    ],
  ],
  operation_failed: [
    [
      { kind: "operation_failed", ...operation },
      { level: "error", text: 'restart of pool "web" (op-1) failed, 1 of 4 done: asked', code: "OPERATION_FAILED" },
    ],
  ],
  controller_killing: [
    [
      { kind: "controller_killing", reason: "second request" },
      {
        level: "error",
        text: "controller is killing the remaining processes: second request",
        code: "SHUTDOWN_FORCED",
      },
    ],
  ],
  controller_stopped: [
    [
      { kind: "controller_stopped", exitCode: 0, reason: "received SIGTERM" },
      { level: "info", text: "controller stopped with exit code 0: received SIGTERM" },
    ],
    [
      { kind: "controller_stopped", exitCode: 1, reason: "too long" },
      { level: "error", text: "controller stopped with exit code 1: too long" },
    ],
  ],
};

type Event<K extends LifecycleEvent["kind"]> = LifecycleEvent & { readonly kind: K };

test("every lifecycle event has a sentence and a level", () => {
  for (const [kind, cases] of Object.entries(DESCRIPTIONS)) {
    assert.ok(cases.length > 0, kind);
    for (const [event, description] of cases) {
      assert.equal(event.kind, kind);
      assert.deepEqual(describeEvent(event), description);
    }
  }
});

test("isWorkerEvent distinguishes events of a worker from those of a pool or the controller", () => {
  for (const cases of Object.values(DESCRIPTIONS))
    for (const [event, { text }] of cases) assert.equal(isWorkerEvent(event), text.startsWith("worker"), event.kind);
});
