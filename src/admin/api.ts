/**
 * Wire types and routes of the admin API: what server, CLI and dashboard share. Keys are snake_case, times are seconds
 * (fractions allowed), wall-clock times are ISO 8601 in UTC.
 */

import type { Instant } from "../base/time.ts";
import type { LifecycleEvent } from "../core/event.ts";
import { exitLabel } from "../core/exit.ts";
import type { ControllerPhase, ControllerView, Phase, WorkerView } from "../core/view.ts";

/** One worker as `GET /v1/status` shows it. */
export interface WorkerStatus {
  readonly id: string;
  readonly pool: string;
  readonly slot: number;
  readonly phase: Phase;
  readonly incarnation: number;
  readonly pid: number | null;
  /** Seconds since the process was spawned; null where there is none. */
  readonly uptime_s: number | null;
  /** Seconds in the present phase. */
  readonly phase_s: number;
  /** Seconds until what is planned next (restart, recycle, kill); null where nothing is. */
  readonly next_s: number | null;
  readonly restarts: number;
  /** Exit code or signal name of the previous process; null where none has ended. */
  readonly last_exit: string | null;
  readonly reason: string;
}

export interface PoolStatus {
  readonly name: string;
  readonly replicas: number;
  readonly ready: number;
  readonly healthy: boolean;
  readonly desired_healthy_percentage: number;
  readonly workers: readonly WorkerStatus[];
}

/** Body of `GET /v1/status`. */
export interface Status {
  readonly version: string;
  readonly pid: number;
  readonly phase: ControllerPhase;
  readonly healthy: boolean;
  readonly ready: boolean;
  readonly uptime_s: number;
  readonly pools: readonly PoolStatus[];
}

/** One entry of `GET /v1/events`: a lifecycle event with its number, wall-clock time and words. */
export type EventRecord = LifecycleEvent & {
  readonly seq: number;
  readonly time: string;
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  /** Of an operational error. */
  readonly code?: string;
};

/** Body of every answer that is not 2xx. */
export interface ApiError {
  readonly error: { readonly code: string; readonly message: string };
}

/** Answer to a POST that was accepted. */
export interface Accepted {
  readonly accepted: true;
}

/** One line of `GET /v1/logs`. */
export interface LogLine {
  readonly stream: "stdout" | "stderr";
  readonly line: string;
}

/**
 * Routes of the control socket. `events` and `logs` are server-sent events (`data:` is an EventRecord or LogLine); events
 * takes `?follow=0` to end after what is known and `?since=<seq>`.
 */
export const ROUTES = {
  status: "/v1/status",
  events: "/v1/events",
  logs: "/v1/logs",
  shutdown: "/v1/shutdown",
  worker: (id: string, action: "stop" | "start") => `/v1/workers/${encodeURIComponent(id)}/${action}`,
} as const;

function seconds(ms: number): number {
  return Math.round(ms) / 1000;
}

function workerStatus(worker: WorkerView, now: Instant): WorkerStatus {
  return {
    id: worker.id,
    pool: worker.pool,
    slot: worker.slot,
    phase: worker.phase,
    incarnation: worker.incarnation,
    pid: worker.pid ?? null,
    uptime_s: worker.spawnedAt === undefined ? null : seconds(now - worker.spawnedAt),
    phase_s: seconds(now - worker.since),
    next_s: worker.deadline === undefined ? null : seconds(Math.max(0, worker.deadline - now)),
    restarts: worker.restarts,
    last_exit: worker.lastExit === undefined ? null : exitLabel(worker.lastExit),
    reason: worker.reason,
  };
}

/** The status document of `view` at `now`. */
export function statusOf(view: ControllerView, now: Instant, version: string, pid: number): Status {
  return {
    version,
    pid,
    phase: view.phase,
    healthy: view.healthy,
    ready: view.ready,
    uptime_s: seconds(now - view.startedAt),
    pools: view.pools.map((pool) => ({
      name: pool.name,
      replicas: pool.replicas,
      ready: pool.readyCount,
      healthy: pool.healthy,
      desired_healthy_percentage: pool.desiredHealthyPercentage,
      workers: pool.workers.map((worker) => workerStatus(worker, now)),
    })),
  };
}
