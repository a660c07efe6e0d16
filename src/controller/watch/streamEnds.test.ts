import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { controllerView, poolView } from "../../../test/support/view.ts";
import { StreamEnds } from "./streamEnds.ts";

const WORKER = { pool: "web", slot: 0, incarnation: 1, pid: 100 } as const;
const STOPPING = {
  ...WORKER,
  kind: "stopping",
  signal: "SIGTERM",
  graceMs: 10_000,
  cause: "rollout",
  reason: "",
} as const;

function rig(drainMs: number | undefined) {
  const clock = new FakeClock();
  const ends = new StreamEnds({
    clock,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    view: () => controllerView([poolView([])]),
    poolOf: (name) => (name === "web" ? { proxyPool: 1, drainMs, addressOf: () => undefined } : undefined),
  });
  const waitsMs = () => clock.armed.map((at) => at - clock.now());
  return { ends, waitsMs };
}

test("a drained worker has a second to end its streams, or a quarter of a short grace period", () => {
  for (const [graceMs, waitMs] of [
    [10_000, 1000],
    [2000, 500],
  ] as const) {
    const { ends, waitsMs } = rig(5000);
    ends.handle({ ...WORKER, kind: "draining", boundMs: 5000, reason: "" });
    ends.handle({ ...STOPPING, graceMs });
    assert.deepEqual(waitsMs(), [waitMs]);
  }
});

test("a worker that was not drained has three quarters of its grace period", () => {
  const { ends, waitsMs } = rig(5000);
  ends.handle(STOPPING);
  assert.deepEqual(waitsMs(), [7500]);
});

test("at a shutdown the proxy was drained as a whole, unless the pool has no drain", () => {
  for (const [drainMs, waitMs] of [
    [5000, 1000],
    [0, 7500],
    [undefined, 7500],
  ] as const) {
    const { ends, waitsMs } = rig(drainMs);
    ends.handle({ ...STOPPING, cause: "shutdown" });
    assert.deepEqual(waitsMs(), [waitMs]);
  }
});

test("nothing is closed after the worker exits, or in a pool without a proxy", () => {
  const { ends, waitsMs } = rig(5000);
  ends.handle({ ...STOPPING, pool: "other" });
  ends.handle(STOPPING);
  ends.handle({ ...WORKER, kind: "exited", status: { kind: "code", code: 0 }, planned: true, uptimeMs: 1 });
  assert.deepEqual(waitsMs(), []);
});
