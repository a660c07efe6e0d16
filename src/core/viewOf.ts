/** Produces the read model (view.ts) from the state. */
import type { Instant } from "../base/time.ts";
import type { ControllerState } from "./controller.ts";
import { workerId } from "./identity.ts";
import { countReady, isHealthy, servesInPanic } from "./pool/health.ts";
import type { RunningOperation } from "./pool/order.ts";
import { isStandby } from "./pool/roster.ts";
import { isRemoved, type PoolState } from "./pool/state.ts";
import type { PoolSpec } from "./spec.ts";
import type { ControllerView, OperationView, Phase, PoolView, WorkerView } from "./view.ts";
import { awaitsAdmission, isStarting, type WorkerState } from "./worker/state.ts";

/** The read model of `state`. */
export function viewOf(state: ControllerState): ControllerView {
  const pools = state.pools.flatMap((pool, index): PoolView[] => {
    const { spec } = pool;
    if (isRemoved(pool)) return [];
    const view: PoolView = {
      index,
      name: spec.name,
      role: spec.role,
      fronts: spec.fronts,
      type: spec.type,
      waitsFor: waitsFor(pool),
      replicas: spec.replicas,
      standby: spec.standby,
      readyCount: countReady(pool),
      completedCount: pool.census.completed,
      desiredHealthyPercentage: spec.desiredHealthyPercentage,
      healthy: isHealthy(pool),
      workers: pool.workers
        .filter((worker) => worker.slot < spec.replicas + spec.standby || worker.incarnation > 0)
        .map((worker) => viewOfWorker(worker, pool)),
      operations: pool.running.map(viewOfOperation),
      tally: pool.tally,
    };
    return [view];
  });
  // Without any pool, as during some reloads, nothing serves.
  const healthy = pools.length > 0 && pools.every((pool) => pool.healthy);
  return {
    phase: state.phase,
    startedAt: state.startedAt,
    healthy,
    ready: healthy && state.phase === "running",
    shutdownRequests: state.shutdownRequests,
    pools,
  };
}

function waitsFor({ gate }: PoolState): string | undefined {
  return gate.isOpen ? undefined : gate.reason;
}

/** Whether it is a run of a oneshot pool, which will not be ready but complete. */
function isRun({ phase }: WorkerState, { type }: PoolSpec): boolean {
  return type === "oneshot" && (phase === "booting" || phase === "ready");
}

function phaseOf(worker: WorkerState, { spec, gate }: PoolState): Phase {
  if (worker.phase === "down") {
    if (worker.kind === "completed") return "completed";
    return worker.kind === "free" && !gate.isOpen && worker.slot < spec.replicas + spec.standby ? "starting" : "down";
  }
  if (isRun(worker, spec)) return "running";
  return isStarting(worker) ? "starting" : worker.phase;
}

/** Why the worker is in its phase. */
function reasonOf(worker: WorkerState, { gate, doubted }: PoolState): string {
  if (doubted.includes(worker.slot))
    return `running after ${worker.crashes.streak} crashes in a row; does not count for the pool's health yet`;
  if (!gate.isOpen && worker.phase === "down" && worker.kind === "free") return gate.reason;
  if (!awaitsAdmission(worker)) return worker.reason;
  return `waits until fewer workers are starting (supervisor.start_parallelism); ${worker.reason}`;
}

function viewOfOperation({ id, order, left, total, startedAt }: RunningOperation): OperationView {
  return { id, what: order.kind, done: total - left.length, total, startedAt };
}

/** Since when it may be balanced over. A worker whose liveness fails must pass it first. */
function answeredAt(worker: WorkerState): Instant | undefined {
  if (worker.phase === "booting") return worker.answeredAt;
  return worker.phase === "unready" && worker.liveness === undefined ? worker.answeredAt : undefined;
}

function viewOfWorker(worker: WorkerState, state: PoolState): WorkerView {
  const pool = state.spec.name;
  const alive = "pid" in worker;
  return {
    id: workerId(pool, worker.slot),
    pool,
    slot: worker.slot,
    phase: phaseOf(worker, state),
    incarnation: worker.incarnation,
    revision: worker.revision,
    pid: alive ? worker.pid : undefined,
    since: worker.since,
    spawnedAt: alive ? worker.spawnedAt : undefined,
    deadline: isRun(worker, state.spec) ? undefined : worker.deadline,
    isProving: worker.phase === "booting" && state.spec.readiness.kind === "observed" && !isRun(worker, state.spec),
    isStandby: isStandby(worker),
    answeredAt: answeredAt(worker),
    servesInPanic: servesInPanic(state, worker),
    inFlight: worker.phase === "draining" ? worker.inFlight : undefined,
    restarts: worker.restarts,
    lastExit: worker.lastExit,
    reason: reasonOf(worker, state),
  };
}
