import assert from "node:assert/strict";
import { test } from "node:test";
import { eventRecord, statusOf, workerStatus } from "../../../test/support/fakeController.ts";
import { formatAge, renderEvent, renderStatus } from "./render.ts";

const PLAIN = { hasColours: false };
const COLOURED = { hasColours: true };

test("healthy workers are one aligned table", () => {
  const status = statusOf(
    workerStatus({ uptime_s: 4.26, next_s: 12_345 }),
    workerStatus({ id: "web-10", pid: 1234567, restarts: 3, last_exit: "SIGSEGV", reason: "restarted after a crash" }),
  );
  assert.equal(
    renderStatus(status, PLAIN),
    `monoceros 0.1.0 (pid 12) running, healthy, up 3m

web 2/2 ready
  WORKER  PHASE  PID      UPTIME  RESTARTS  LAST EXIT  NEXT              REASON
  web-0   ready  100      4.2s    0         -          replace in 3h25m  started
  web-10  ready  1234567  3m      3         SIGSEGV    -                 restarted after a crash
`,
  );
});

test("a degraded pool shows the required percentage, and an empty pool has no table", () => {
  const down = workerStatus({
    phase: "backoff",
    pid: null,
    uptime_s: null,
    next_s: 0.4,
    last_exit: "3",
    reason: "it crashed",
  });
  const status = statusOf(down);
  const empty = { ...statusOf().pools[0], name: "empty" };
  assert.equal(
    renderStatus({ ...status, pools: [...status.pools, empty as (typeof status.pools)[0]] }, PLAIN),
    `monoceros 0.1.0 (pid 12) running, degraded, up 3m

web 0/1 ready, degraded (75 % required)
  WORKER  PHASE    PID  UPTIME  RESTARTS  LAST EXIT  NEXT              REASON
  web-0   backoff  -    -       0         3          restart in 400ms  it crashed

empty 0/0 ready
`,
  );
});

test("a pool that waits shows what for, and a oneshot pool how many replicas have completed", () => {
  const status = statusOf(workerStatus({ phase: "starting", pid: null, uptime_s: null }));
  const [pool] = status.pools;
  assert.ok(pool !== undefined);
  const completed = workerStatus({ id: "migrate-0", phase: "completed", pid: null, uptime_s: null, last_exit: "0" });
  const pools = [
    { ...pool, waits_for: 'waiting for pool "migrate" to complete' },
    { ...pool, name: "migrate", type: "oneshot", healthy: true, workers: [completed] } as const,
  ];
  const text = renderStatus({ ...status, pools }, PLAIN);
  assert.match(text, /^web 0\/1 ready, waiting for pool "migrate" to complete/mu);
  assert.match(text, /^migrate 1\/1 completed$/mu);
  assert.match(text, /^ {2}migrate-0 {2}completed {2}- /mu);
});

test("colours do not change the alignment", () => {
  const coloured = renderStatus(statusOf(workerStatus()), COLOURED);
  assert.match(coloured, /\u001b\[32mready\u001b\[0m/u);
  // biome-ignore lint/complexity/useRegexLiterals: a literal would hold the control character
  const bare = coloured.replace(new RegExp("\\u001b\\[\\d+m", "gu"), "");
  assert.equal(bare, renderStatus(statusOf(workerStatus()), PLAIN));
});

test("control characters in a reason are escaped", () => {
  const text = renderStatus(statusOf(workerStatus({ reason: "a\u001b[2J\nb" })), PLAIN);
  assert.match(text, /a\\u001b\[2J b\n$/u);
});

test("an event is one line with time, level and message", () => {
  assert.equal(renderEvent(eventRecord(1, 'worker "web-0" runs'), PLAIN), '12:34:56.789 INFO  worker "web-0" runs\n');
  assert.equal(renderEvent(eventRecord(1, "bad", "error"), COLOURED), "\u001b[31m12:34:56.789 ERROR bad\u001b[0m\n");
});

test("ages are rounded to a useful precision", () => {
  const ages = [0, 0.04, 0.4, 9.94, 9.96, 59.9, 61.5, 3599.9, 3600, 90_061];
  assert.deepEqual(ages.map(formatAge), ["0s", "0s", "400ms", "9.9s", "9s", "59s", "1m1s", "59m59s", "1h", "25h1m"]);
});

test("unused slots are hidden, and a pool shows its proxy and its operations", () => {
  const workers = [
    workerStatus({ phase: "down", pid: null, uptime_s: null, reason: "replaced by web-2" }),
    workerStatus({ id: "web-1", slot: 1 }),
    workerStatus({ id: "web-2", slot: 2, phase: "draining", next_s: 4, in_flight: 3 }),
  ];
  const [web] = statusOf(...workers).pools;
  const [proxy] = statusOf(workerStatus({ id: "web-proxy-0", pool: "web-proxy" })).pools;
  assert.ok(web !== undefined && proxy !== undefined);
  const operation = { id: "op-7", pool: "web", what: "restart", reason: "", started_at: null, ended_at: null } as const;
  const operations = [
    { ...operation, state: "running", done: 1, total: 2 },
    { ...operation, id: "op-8", what: "scale", state: "queued", done: 0, total: 0 },
  ] as const;
  const pools = [
    { ...web, replicas: 2, ready: 1, healthy: true, operations },
    { ...web, name: "jobs", workers: [] },
    { ...proxy, name: "web-proxy", role: "proxy", fronts: "web" } as const,
  ];
  assert.equal(
    renderStatus({ ...statusOf(), pools }, PLAIN),
    `monoceros 0.1.0 (pid 12) running, healthy, up 3m

web 1/2 ready, proxy ready, restart op-7 running (1 of 2 done), scale op-8 queued
  WORKER       PHASE     PID  UPTIME  RESTARTS  LAST EXIT  NEXT                              REASON
  web-1        ready     100  3m      0         -          -                                 started
  web-2        draining  100  3m      0         -          stop in 4s, 3 requests in flight  started
  web-proxy-0  ready     100  3m      0         -          -                                 started

jobs 1/3 ready, degraded (75 % required)
`,
  );
});

test("a worker that is down is shown if the pool lacks workers", () => {
  const held = workerStatus({ id: "web-2", slot: 2, phase: "down", pid: null, reason: "stopped by an operator" });
  const status = statusOf(workerStatus(), held);
  assert.match(renderStatus(status, PLAIN), /web-2 +down .*stopped by an operator/u);
});

test("a standby worker is shown as standby", () => {
  const text = renderStatus(statusOf(workerStatus(), workerStatus({ id: "web-1", slot: 1, standby: true })), COLOURED);
  assert.match(text, /web-1 +\u001b\[2mstandby\u001b\[0m/u);
});
