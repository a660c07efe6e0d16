/** Builds the status document from the view. Pure. */
import type { Instant } from "../base/time.ts";
import { exitLabel } from "../core/exit.ts";
import type { ControllerView, PoolView, WorkerView } from "../core/view.ts";
import type { Health, Operation, PoolBalance, PoolStatus, Status, WorkerDetail, WorkerStatus } from "./api.ts";

/** What the status document contains in addition to the view. */
export interface StatusSources {
  readonly now: Instant;
  readonly version: string;
  readonly pid: number;
  /** Queued and running operations. */
  readonly operations: readonly Operation[];
  /** What a worker waits for before it is ready; undefined if nothing. */
  readonly waitOf: (worker: WorkerView, pool: PoolView) => string | undefined;
  readonly reportOf: (worker: WorkerView, pool: PoolView) => string | undefined;
  /** undefined unless requested. */
  readonly details?: StatusDetails | undefined;
}

/** The details of the status document, which are read from the system on demand. */
export interface StatusDetails {
  /** By pool name. */
  readonly balances: ReadonlyMap<string, PoolBalance>;
  /** By worker id; workers without a process have none. */
  readonly workers: ReadonlyMap<string, WorkerDetail>;
}

/** The status document of `view`. */
export function statusOf(view: ControllerView, sources: StatusSources): Status {
  const { version, pid, now } = sources;
  return {
    version,
    pid,
    phase: view.phase,
    healthy: view.healthy,
    ready: view.ready,
    uptime_s: seconds(now - view.startedAt),
    pools: view.pools.map((pool) => poolStatus(pool, sources)),
  };
}

/** The health document of `view`. */
export function healthOf({ phase, healthy, ready, pools }: ControllerView): Health {
  return {
    phase,
    healthy,
    ready,
    pools: pools.map((pool) => ({
      name: pool.name,
      healthy: pool.healthy,
      replicas: pool.replicas,
      ready: pool.readyCount,
      completed: pool.completedCount,
      desired_healthy_percentage: pool.desiredHealthyPercentage,
    })),
  };
}

function poolStatus(pool: PoolView, sources: StatusSources): PoolStatus {
  const balance = sources.details?.balances.get(pool.name);
  return {
    name: pool.name,
    role: pool.role,
    fronts: pool.fronts ?? null,
    type: pool.type,
    waits_for: pool.waitsFor ?? null,
    replicas: pool.replicas,
    ready: pool.readyCount,
    healthy: pool.healthy,
    desired_healthy_percentage: pool.desiredHealthyPercentage,
    operations: sources.operations.filter((operation) => operation.pool === pool.name),
    ...(balance && { balance }),
    workers: pool.workers.map((worker) => workerStatus(worker, pool, sources)),
  };
}

function workerStatus(
  worker: WorkerView,
  pool: PoolView,
  { now, waitOf, reportOf, details }: StatusSources,
): WorkerStatus {
  const detail = details?.workers.get(worker.id);
  return {
    id: worker.id,
    pool: worker.pool,
    slot: worker.slot,
    phase: worker.phase,
    standby: worker.isStandby,
    incarnation: worker.incarnation,
    pid: worker.pid ?? null,
    uptime_s: worker.spawnedAt === undefined ? null : seconds(now - worker.spawnedAt),
    phase_s: seconds(now - worker.since),
    proving: worker.isProving ?? false,
    next_s: worker.deadline === undefined ? null : seconds(Math.max(0, worker.deadline - now)),
    in_flight: worker.inFlight ?? null,
    restarts: worker.restarts,
    last_exit: worker.lastExit === undefined ? null : exitLabel(worker.lastExit),
    reason: worker.reason,
    waits_for: waitOf(worker, pool) ?? null,
    reports: reportOf(worker, pool) ?? null,
    ...(detail && { detail }),
  };
}

function seconds(ms: number): number {
  return Math.round(ms) / 1000;
}
