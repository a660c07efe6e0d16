/** The invariants of `depends_on` and `start_parallelism`, counted from the workers and not from the core's own numbers. */
import assert from "node:assert/strict";
import type { ControllerState } from "../../src/core/controller.ts";
import type { PoolState } from "../../src/core/pool/state.ts";
import type { Milestone } from "../../src/core/spec.ts";
import type { WorkerState } from "../../src/core/worker/state.ts";

/** Fails if the step from `before` to `after` starts or stops workers in another order than configured. */
export function checkStartOrder(before: ControllerState, after: ControllerState): void {
  checkGates(before, after);
  checkStops(before, after);
  checkParallelism(before, after);
}

function checkGates(before: ControllerState, { pools, phase }: ControllerState): void {
  for (const [index, pool] of pools.entries()) {
    const { gate, spec, workers } = pool;
    if (!gate.isOpen) {
      // A removed pool that is added again waits once more.
      assert.ok(workers.every(isDown), `${spec.name} is blocked and has a worker`);
      if (phase !== "booting" && phase !== "running") continue;
      if (spec.replicas === 0 || pool.leaving) continue;
      assert.notEqual(gate.reason, "", `${spec.name} does not report what it waits for`);
      assert.ok(!isMet(pool, pools, "enough"), `${spec.name} is blocked although nothing is missing`);
    } else if (before.pools[index]?.gate.isOpen === false && spec.replicas > 0)
      assert.ok(isMet(pool, pools, "some"), `${spec.name} was opened too early`);
  }
}

/**
 * Health is measured against fewer replicas than desired for a while after scaling up: `some` of them are ready, or have
 * completed.
 */
function isMet({ spec: { dependsOn } }: PoolState, pools: readonly PoolState[], ready: "enough" | "some"): boolean {
  return Object.entries(dependsOn).every(([name, milestone]) => {
    const pool = pools.find(({ spec }) => spec.name === name);
    return pool !== undefined && pool.spec.replicas > 0 && hasReached(pool, milestone, ready);
  });
}

function hasReached({ spec, workers, gate, doubted }: PoolState, milestone: Milestone, how: "enough" | "some") {
  const count = (fits: (worker: WorkerState) => boolean) => workers.filter(fits).length;
  const completed = count((worker) => worker.phase === "down" && worker.kind === "completed");
  if (milestone === "completed") return completed >= spec.replicas;
  // A worker that stops may have a successor that has not started yet.
  const counts = (worker: WorkerState) => !isFree(worker) && (how === "some" || !("order" in worker));
  const started = count((worker) => counts(worker) && worker.incarnation > (worker.phase === "spawning" ? 1 : 0));
  const hasFailed = count(
    (worker) => worker.phase === "down" && (worker.kind === "gave-up" || worker.kind === "failed"),
  );
  if (!gate.isOpen || started < spec.replicas) return false;
  if (hasFailed > 0 && workers.every(isDown) && hasFailed + completed >= spec.replicas) return false;
  if (milestone === "started" || spec.type === "oneshot") return true;
  const ready = count(({ phase, slot, ...worker }) => {
    const serves = phase === "ready" && "isStandby" in worker && !worker.isStandby;
    return serves && !doubted.includes(slot);
  });
  const isEnough = ready * 100 >= spec.desiredHealthyPercentage * (spec.replicas - completed);
  return isEnough || (how === "some" && (ready > 0 || completed > 0));
}

function isDown({ phase }: WorkerState): boolean {
  return phase === "down";
}

function isFree(worker: WorkerState): boolean {
  return worker.phase === "down" && worker.kind === "free";
}

/** A pool stops only when no pool that depends on it has a worker, unless all processes are killed. */
function checkStops(before: ControllerState, { pools, killing }: ControllerState): void {
  if (killing) return;
  for (const [index, { leaving, spec }] of pools.entries()) {
    if (!leaving || spec.role === "proxy" || before.pools[index]?.leaving !== false) continue;
    for (const dependent of pools) {
      if (dependent.spec.role === "proxy" || !(spec.name in dependent.spec.dependsOn)) continue;
      assert.ok(dependent.workers.every(isDown), `${spec.name} stops before ${dependent.spec.name}`);
    }
  }
}

function checkParallelism(before: ControllerState, { pools, policy }: ControllerState): void {
  const limit = policy.startParallelism ?? Number.POSITIVE_INFINITY;
  const isBooting = ({ phase }: WorkerState) => phase === "spawning" || phase === "booting";
  const booting = countWorkers(pools, isBooting);
  // The limit may have been lowered.
  assert.ok(booting <= Math.max(limit, countWorkers(before.pools, isBooting)), `${booting} workers boot at a time`);
  const waiting = countWorkers(pools, (worker) => worker.phase === "queued" && worker.deadline === undefined);
  assert.ok(waiting === 0 || booting >= limit, "a worker waits although fewer boot than are allowed");
  for (const { spec, workers } of pools)
    if (spec.role === "workers")
      for (const worker of workers)
        assert.ok(worker.phase !== "booting" || worker.deadline !== undefined, "a worker may boot indefinitely");
}

function countWorkers(pools: readonly PoolState[], fits: (worker: WorkerState) => boolean): number {
  return pools.reduce((sum, { spec, workers }) => sum + (spec.role === "workers" ? workers.filter(fits).length : 0), 0);
}
