import assert from "node:assert/strict";
import { test } from "node:test";
import { type Instant, instant } from "../base/time.ts";
import { routesOf } from "./routing.ts";
import { EMPTY_TALLY } from "./tally.ts";
import type { Phase, PoolView, WorkerView } from "./view.ts";

const AT = instant(1000);

function worker(slot: number, phase: Phase, changes: Partial<WorkerView> = {}): WorkerView {
  const hasProcess = phase !== "down" && phase !== "backoff";
  return {
    id: `web-${slot}`,
    pool: "web",
    slot,
    phase,
    incarnation: 1,
    revision: 1,
    pid: hasProcess ? 100 + slot : undefined,
    since: AT,
    spawnedAt: hasProcess ? AT : undefined,
    deadline: undefined,
    isStandby: false,
    answeredAt: undefined,
    servesInPanic: false,
    inFlight: undefined,
    restarts: 0,
    lastExit: undefined,
    reason: "",
    ...changes,
  };
}

function answering(slot: number, at: number, phase: Phase = "starting"): WorkerView {
  return worker(slot, phase, { answeredAt: instant(at) as Instant });
}

function routes(workers: readonly WorkerView[], changes: Partial<PoolView> = {}): [number, string][] {
  const pool: PoolView = {
    index: 0,
    name: "web",
    role: "workers",
    fronts: undefined,
    replicas: 2,
    standby: 0,
    readyCount: workers.filter(({ phase, isStandby }) => phase === "ready" && !isStandby).length,
    completedCount: 0,
    desiredHealthyPercentage: 100,
    healthy: true,
    workers,
    operations: [],
    tally: EMPTY_TALLY,
    ...changes,
  };
  return [...routesOf(pool)].sort(([a], [b]) => a - b);
}

test("only ready workers receive requests, and workers without a process or about to exit are unknown to the proxy", () => {
  const phases: Phase[] = ["down", "starting", "ready", "unready", "draining", "stopping", "backoff"];
  assert.deepEqual(routes(phases.map((phase, slot) => worker(slot, phase))), [
    [2, "serving"],
    [3, "unready"],
    [4, "draining"],
  ]);
});

test("a worker whose probes pass is routed before it is ready, because it is ready once the proxy balances over it", () => {
  assert.deepEqual(routes([answering(0, 1), answering(1, 2, "unready"), worker(2, "unready")]), [
    [0, "serving"],
    [1, "serving"],
    [2, "unready"],
  ]);
});

test("workers beyond the replicas are standby workers, in the order in which they answered", () => {
  const standby = worker(3, "ready", { isStandby: true });
  assert.deepEqual(routes([worker(0, "ready"), answering(1, 9), answering(2, 5), standby], { standby: 2 }), [
    [0, "serving"],
    [1, "standby"],
    [2, "serving"],
    [3, "standby"],
  ]);
  assert.deepEqual(routes([worker(0, "ready"), worker(1, "ready"), answering(2, 5)]).at(-1), [2, "serving"]);
});

test("workers keep serving in panic", () => {
  assert.deepEqual(routes([worker(0, "unready", { servesInPanic: true })]), [[0, "serving"]]);
});
