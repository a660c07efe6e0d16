import assert from "node:assert/strict";
import { test } from "node:test";
import type { PoolStatus, Status, WorkerDetail, WorkerStatus } from "../src/admin/api.ts";
import { type Activity, activitiesOf, sampleOf, sharesOf } from "./activity.ts";
import { backoffMs } from "./backoff.ts";
import { barsPath, linePath } from "./chartPath.ts";
import { bytes, duration, number, percent } from "./format.ts";
import { consequenceOf, poolOrder, scaleOrder, workerOrder } from "./orders.ts";
import { SseParser } from "./sseParser.ts";
import { arrange, nextName, phaseCounts } from "./workerOrder.ts";

function worker(slot: number, detail: Partial<WorkerDetail> = {}, rest: Partial<WorkerStatus> = {}): WorkerStatus {
  return {
    id: `web-${slot}`,
    pool: "web",
    slot,
    phase: "ready",
    standby: false,
    incarnation: 1,
    pid: 100 + slot,
    uptime_s: 10,
    phase_s: 9,
    next_s: null,
    proving: false,
    in_flight: null,
    restarts: 0,
    last_exit: null,
    reason: "running",
    waits_for: null,
    reports: null,
    detail: {
      cpu_seconds: 1,
      rss_bytes: 1000,
      process_count: 1,
      open_fds: 4,
      max_fds: null,
      requests_total: null,
      failed_requests_total: null,
      requests_in_flight: null,
      cpu_ratio: 0.5,
      requests_per_second: null,
      ...detail,
    },
    ...rest,
  };
}

function status(uptime: number, workers: readonly WorkerStatus[], pid = 1): Status {
  const pool: PoolStatus = {
    name: "web",
    role: "workers",
    fronts: null,
    type: "service",
    waits_for: null,
    replicas: workers.length,
    ready: workers.length,
    healthy: true,
    desired_healthy_percentage: 100,
    operations: [],
    workers,
  };
  return { version: "1", pid, phase: "running", healthy: true, ready: true, uptime_s: uptime, pools: [pool] };
}

test("numbers are short, and unknown values are dashes", () => {
  assert.deepEqual([0.42, 12.9, 200, 7500, 360_000, null].map(duration), [
    "0.4 s",
    "12 s",
    "3 m 20 s",
    "2 h 5 m",
    "4 d 4 h",
    "–",
  ]);
  assert.deepEqual([0, 999, 1000, 1536, 125_829_120, 1 << 30, null].map(bytes), [
    "0 B",
    "999 B",
    "1.0 KiB",
    "1.5 KiB",
    "120 MiB",
    "1.0 GiB",
    "–",
  ]);
  assert.deepEqual([0, 0.004, 0.057, 1.5, null].map(percent), ["0 %", "0.4 %", "5.7 %", "150 %", "–"]);
  assert.deepEqual([0, 0.25, 3, 9.96, 1234.5, null].map(number), ["0", "0.3", "3", "10.0", "1235", "–"]);
});

test("server-sent events are parsed correctly from any chunks", () => {
  const text = 'id: 1\ndata: {"a":1}\n\nevent: lost\ndata: {"lost":2}\n\n: comment\n\ndata: last\n\n';
  const expected = [
    { name: "message", data: '{"a":1}' },
    { name: "lost", data: '{"lost":2}' },
    { name: "message", data: "last" },
  ];
  for (let size = 1; size <= text.length; size++) {
    const parser = new SseParser();
    const found = [];
    for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
    assert.deepEqual(found, expected, `pieces of ${size}`);
  }
});

test("the delay between attempts doubles up to ten seconds", () => {
  assert.deepEqual([1, 2, 3, 6, 1000].map(backoffMs), [500, 1000, 2000, 10_000, 10_000]);
});

test("rates come from counters of one process, otherwise from the means of the controller", () => {
  const before = status(10, [worker(0, { cpu_seconds: 1, requests_total: 100 }), worker(1), worker(2)]);
  const now = status(12, [
    worker(0, { cpu_seconds: 2, requests_total: 300 }),
    worker(1, { cpu_seconds: 0.1 }, { incarnation: 2, pid: 200 }),
    worker(2, { cpu_seconds: 1, requests_total: 5, requests_per_second: 3 }),
  ]);
  const activities = activitiesOf(before, now);
  assert.deepEqual(activities.get("web-0"), { cpu: 0.5, requestsPerSecond: 100 });
  assert.deepEqual(activities.get("web-1"), { cpu: 0.5, requestsPerSecond: null });
  assert.deepEqual(activities.get("web-2"), { cpu: 0, requestsPerSecond: 3 });
  assert.equal(activitiesOf(status(10, before.pools[0]?.workers ?? [], 2), now).get("web-0")?.cpu, 0.5);
  assert.deepEqual(activitiesOf(undefined, now).get("web-0"), { cpu: 0.5, requestsPerSecond: null });
});

test("a sample of a pool sums known values, and shares are fractions of the sum", () => {
  const [pool] = status(1, [worker(0), worker(1, { rss_bytes: null })]).pools;
  assert.ok(pool !== undefined);
  assert.deepEqual(sampleOf(pool, new Map([["web-0", { cpu: 1, requestsPerSecond: null }]])), {
    cpu: 1,
    rssBytes: 1000,
    requestsPerSecond: null,
    inFlight: null,
  });
  assert.deepEqual(sharesOf([1, null, 3]), [0.25, null, 0.75]);
  assert.deepEqual(sharesOf([0, 0]), [null, null]);
});

test("a line ends at the right edge and has a gap for unknown values", () => {
  const box = { width: 10, height: 4, capacity: 6 };
  assert.equal(linePath([1, 2, null, 0], box), "M4 2L6 0M10 4");
  assert.equal(linePath([], box), "");
  assert.equal(linePath([0, 0], box), "M8 4L10 4");
});

test("the highest bar is as high as the box, and zero has no bar", () => {
  assert.equal(barsPath([2, null, 1, 0], { width: 8, height: 4 }), "M0 4v-4h1.6v4zM4 4v-2h1.6v2z");
});

test("workers are filtered by every word and sorted, ties by slot", () => {
  const workers = [
    worker(2, {}, { phase: "backoff", reason: "third crash" }),
    worker(0, {}, { standby: true }),
    worker(1, { rss_bytes: 5000 }),
  ];
  const activities = new Map<string, Activity>([["web-1", { cpu: 0.9, requestsPerSecond: null }]]);
  const ids = (filter: string, key: "slot" | "cpu" | "rss", isDescending: boolean) =>
    arrange(workers, activities, { filter, order: { key, isDescending } }).map(({ id }) => id);
  assert.deepEqual(ids("", "slot", false), ["web-0", "web-1", "web-2"]);
  assert.deepEqual(ids("", "cpu", true), ["web-1", "web-0", "web-2"]);
  assert.deepEqual(ids("", "rss", false), ["web-0", "web-2", "web-1"]);
  assert.deepEqual(ids("CRASH backoff", "slot", false), ["web-2"]);
  assert.deepEqual(ids("standby", "slot", false), ["web-0"]);
  assert.deepEqual(ids("101", "slot", false), ["web-1"]);
  assert.deepEqual(phaseCounts([...workers, worker(3)]), [
    ["ready", 2],
    ["backoff", 1],
    ["standby", 1],
  ]);
});

test("the next change of a worker follows from its phase", () => {
  assert.equal(nextName(worker(0)), "replace");
  assert.equal(nextName(worker(0, {}, { phase: "stopping" })), "kill");
  assert.equal(nextName(worker(0, {}, { phase: "starting", pid: null })), "start");
  assert.equal(nextName(worker(0, {}, { phase: "starting", proving: true })), "ready");
  assert.equal(nextName(worker(0, {}, { phase: "starting" })), "time out");
});

test("every operation has a description of its effect", () => {
  const orders = [
    poolOrder("restart", "web"),
    poolOrder("stop", "web"),
    poolOrder("start", "web"),
    workerOrder("restart", "web-0"),
    workerOrder("stop", "web-0"),
    workerOrder("start", "web-0"),
    scaleOrder("web", 4),
  ];
  assert.equal(new Set(orders.map(consequenceOf)).size, orders.length);
  assert.equal(workerOrder("stop", "web-0").title, 'Stop worker "web-0"');
});
