/** Views for tests: a pool "web" and its workers, changed where a test cares. */
import { instant } from "../../src/base/time.ts";
import { EMPTY_TALLY } from "../../src/core/tally.ts";
import type { ControllerView, Phase, PoolView, WorkerView } from "../../src/core/view.ts";

/** Worker `web-<slot>`; a phase with a process has the pid 100 + slot. */
export function workerView(slot: number, phase: Phase, changes: Partial<WorkerView> = {}): WorkerView {
  const hasProcess = phase !== "down" && phase !== "backoff" && phase !== "completed";
  return {
    id: `web-${slot}`,
    pool: "web",
    slot,
    phase,
    incarnation: 1,
    revision: 1,
    pid: hasProcess ? 100 + slot : undefined,
    since: instant(0),
    spawnedAt: hasProcess ? instant(0) : undefined,
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

/** Pool "web" with 2 replicas; `readyCount` counts its workers. */
export function poolView(workers: readonly WorkerView[], changes: Partial<PoolView> = {}): PoolView {
  return {
    index: 0,
    name: "web",
    role: "workers",
    fronts: undefined,
    type: "service",
    waitsFor: undefined,
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
}

/** A running controller with these pools. */
export function controllerView(pools: readonly PoolView[]): ControllerView {
  return { phase: "running", startedAt: instant(0), healthy: true, ready: true, shutdownRequests: 0, pools };
}
