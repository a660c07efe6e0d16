import assert from "node:assert/strict";
import { test } from "node:test";
import { poolView, workerView } from "../../test/support/view.ts";
import { instant } from "../base/time.ts";
import { routesOf } from "./routing.ts";
import type { Phase, PoolView, WorkerView } from "./view.ts";

function answering(slot: number, at: number, phase: Phase = "starting"): WorkerView {
  return workerView(slot, phase, { answeredAt: instant(at) });
}

function routes(workers: readonly WorkerView[], changes: Partial<PoolView> = {}): [number, string][] {
  return [...routesOf(poolView(workers, changes))].sort(([a], [b]) => a - b);
}

test("only ready workers receive requests; starting, stopping and stopped workers are not among the endpoints", () => {
  const phases: Phase[] = ["down", "starting", "ready", "unready", "draining", "stopping", "backoff"];
  assert.deepEqual(routes(phases.map((phase, slot) => workerView(slot, phase))), [
    [2, "serving"],
    [3, "unready"],
    [4, "draining"],
  ]);
});

test("a worker whose probes pass is a serving endpoint before it is ready", () => {
  assert.deepEqual(routes([answering(0, 1), answering(1, 2, "unready"), workerView(2, "unready")]), [
    [0, "serving"],
    [1, "serving"],
    [2, "unready"],
  ]);
});

test("the workers beyond replicas that answered last are standby workers", () => {
  const standby = workerView(3, "ready", { isStandby: true });
  assert.deepEqual(routes([workerView(0, "ready"), answering(1, 9), answering(2, 5), standby], { standby: 2 }), [
    [0, "serving"],
    [1, "standby"],
    [2, "serving"],
    [3, "standby"],
  ]);
  assert.deepEqual(routes([workerView(0, "ready"), workerView(1, "ready"), answering(2, 5)]).at(-1), [2, "serving"]);
});

test("an unready worker that serves in panic is a serving endpoint", () => {
  assert.deepEqual(routes([workerView(0, "unready", { servesInPanic: true })]), [[0, "serving"]]);
});
