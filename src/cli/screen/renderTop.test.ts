import assert from "node:assert/strict";
import { test } from "node:test";
import { statusOf, workerDetail, workerStatus } from "../../../test/support/fakeController.ts";
import type { Status, WorkerStatus } from "../../admin/api.ts";
import { renderTop, topRows } from "./renderTop.ts";

const PLAIN = { hasColours: false, maxLines: 100 };

/** The document `seconds` after the first one. */
function later(seconds: number, ...workers: readonly WorkerStatus[]): Status {
  return { ...statusOf(...workers), uptime_s: 180 + seconds };
}

const BEFORE = later(0, workerStatus({ detail: workerDetail({ cpu_seconds: 10, requests_total: 100 }) }));

test("rates are computed between two samples", () => {
  const now = later(
    2,
    workerStatus({ detail: workerDetail({ cpu_seconds: 11, requests_total: 350 }) }),
    workerStatus({ id: "web-1", slot: 1, phase: "down", pid: null }),
  );
  assert.deepEqual(renderTop(now, topRows(BEFORE, now, now.pools), PLAIN), [
    "monoceros running, degraded, 1 of 1 ready, 0.50 CPUs, 64.0MiB resident",
    "  WORKER  PHASE  PID     CPU   MEMORY  FDS  REQ/S  IN FLIGHT  UPTIME  RESTARTS",
    "  web-0   ready  100  50.0 %  64.0MiB   17  125.0          2      3m         0",
  ]);
});

test("new processes, new workers and workers without details have no rates", () => {
  const now = later(
    2,
    workerStatus({ incarnation: 2, restarts: 1, detail: workerDetail({ cpu_seconds: 99 }) }),
    workerStatus({ id: "web-1", detail: workerDetail() }),
    workerStatus({ id: "web-2", phase: "backoff", pid: null, uptime_s: null }),
  );
  const rows = topRows(BEFORE, now, now.pools);
  assert.deepEqual(
    rows.map(({ cpu_ratio, requests_per_second }) => [cpu_ratio, requests_per_second]),
    [
      [null, null],
      [null, null],
      [null, null],
    ],
  );
  const lines = renderTop(now, rows, PLAIN);
  assert.match(lines[4] ?? "", /web-2 {3}backoff +- +- +- +- +- +- +- +0$/u);
});

test("equal sample times and decreasing counters give no wrong rates", () => {
  const same = later(0, workerStatus({ detail: workerDetail({ cpu_seconds: 12 }) }));
  assert.equal(topRows(BEFORE, same, same.pools)[0]?.cpu_ratio, null);
  const back = later(2, workerStatus({ detail: workerDetail({ cpu_seconds: 1, requests_total: 0 }) }));
  assert.equal(topRows(BEFORE, back, back.pools)[0]?.requests_per_second, 0);
});

test("if not all workers fit, the busiest are shown with the number of others", () => {
  const many = (cpu: (slot: number) => number) =>
    Array.from({ length: 50 }, (_, slot) =>
      workerStatus({ id: `web-${slot}`, slot, detail: workerDetail({ cpu_seconds: cpu(slot) }) }),
    );
  const before = later(0, ...many(() => 0));
  const now = later(1, ...many((slot) => (slot === 33 ? 0.9 : 0.1)));
  const lines = renderTop(now, topRows(before, now, now.pools), { hasColours: false, maxLines: 10 });
  assert.equal(lines.length, 10);
  assert.match(lines[2] ?? "", /web-33/u);
  assert.match(lines[9] ?? "", /^ {2}43 less busy workers not shown$/u);
});

test("processes follow their worker, busiest first, and omitted rows are counted", () => {
  const processes = (busy: number) =>
    Array.from({ length: 5 }, (_, index) => ({
      pid: 200 + index,
      parent_pid: 100,
      state: "S",
      cpu_seconds: index === 3 ? busy : 0,
      rss_bytes: 1 << 20,
      command: `worker ${index}`,
    }));
  const detail = (busy: number) => workerDetail({ cpu_seconds: busy, process_count: 5, processes: processes(busy) });
  const before = later(0, workerStatus({ detail: detail(0) }));
  const now = later(2, workerStatus({ detail: detail(1) }));
  const rows = topRows(before, now, now.pools);
  const all = renderTop(now, rows, PLAIN);
  assert.match(all[1] ?? "", / RESTARTS {2}COMMAND$/u);
  assert.match(all[2] ?? "", /^ {2}web-0 .* 5 processes$/u);
  assert.match(all[3] ?? "", /^ +S +203 +50\.0 % +1\.0MiB +worker 3$/u);
  assert.equal(all.length, 8);
  const few = renderTop(now, rows, { ...PLAIN, maxLines: 6 });
  assert.deepEqual([few.length, few.at(-1)], [6, "  3 less busy processes not shown"]);
});

test("a new process, even with a reused pid, has no rate", () => {
  const process = { pid: 7, parent_pid: 100, state: "S", cpu_seconds: 9, rss_bytes: 1, command: "x" };
  const one = (cpu_seconds: number, pid = 7) => workerDetail({ processes: [{ ...process, cpu_seconds, pid }] });
  const before = later(0, workerStatus({ detail: one(9) }));
  for (const detail of [one(1), one(9, 8)]) {
    const now = later(2, workerStatus({ detail }));
    assert.equal(topRows(before, now, now.pools)[0]?.processes?.[0]?.cpu_ratio, null);
  }
});
