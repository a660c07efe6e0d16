/**
 * Wire types and routes of the admin API: what server, CLI and dashboard share. Keys are snake_case, times are seconds
 * (fractions allowed), wall-clock times are ISO 8601 in UTC.
 */

import type { Instant } from "../base/time.ts";
import type { LifecycleEvent, OperationKind } from "../core/event.ts";
import { exitLabel } from "../core/exit.ts";
import type { Advice, Distribution } from "../core/policy/balance.ts";
import type { ControllerPhase, ControllerView, Phase, PoolView, WorkerView } from "../core/view.ts";

/** Bytes that the body of a request may have. */
export const MAX_BODY_BYTES = 65_536;

/** What an operator asked of a pool, and what became of it. */
export interface Operation {
  /** Such as "op-7" or "reload-3"; unique as long as the controller runs. */
  readonly id: string;
  readonly pool: string;
  readonly what: OperationKind;
  /** Queued behind another operation on the pool, running, or ended. */
  readonly state: "queued" | "running" | "succeeded" | "failed";
  /** Workers that are replaced, started or stopped so far. */
  readonly done: number;
  /** Workers it is about; 0 while it is queued, and for scale. */
  readonly total: number;
  /** Why it was asked for. */
  readonly reason: string;
  /** Why it failed; only where it did. */
  readonly error?: string;
  /** null while it is queued. */
  readonly started_at: string | null;
  /** null until it has ended. */
  readonly ended_at: string | null;
}

/** One worker as `GET /v1/status` shows it. */
export interface WorkerStatus {
  readonly id: string;
  readonly pool: string;
  readonly slot: number;
  readonly phase: Phase;
  /** Whether it is ready but kept in reserve, and so gets no requests. */
  readonly standby: boolean;
  readonly incarnation: number;
  readonly pid: number | null;
  /** Seconds since the process was spawned; null where there is none. */
  readonly uptime_s: number | null;
  /** Seconds in the present phase. */
  readonly phase_s: number;
  /** Seconds until what is planned next (restart, recycle, kill); null where nothing is. */
  readonly next_s: number | null;
  /** Whether it becomes ready then, because it has no probe. */
  readonly proving: boolean;
  /** Requests it still works on; null unless it drains. */
  readonly in_flight: number | null;
  readonly restarts: number;
  /** Exit code or signal name of the previous process; null where none has ended. */
  readonly last_exit: string | null;
  /** Why it is in this phase. */
  readonly reason: string;
  /** What it waits for to be ready, and what the last attempt returned; null where it is ready or has no process. */
  readonly waits_for: string | null;
  /** Only where it is asked for, and the worker has a process. */
  readonly detail?: WorkerDetail;
}

/** One process of a worker: `GET /v1/status?detail=1&processes=1`. */
export interface WorkerProcess {
  readonly pid: number;
  readonly parent_pid: number;
  /** R, S, D, T … as in proc(5). */
  readonly state: string;
  /** User and system time of this process alone. */
  readonly cpu_seconds: number;
  readonly rss_bytes: number;
  /** At most 200 bytes; the name in brackets if there is no command line. */
  readonly command: string;
}

/** Processes of one worker that a status document lists at most, those with the most CPU time. */
export const MAX_LISTED_PROCESSES = 50;

/** What one worker uses and does: `GET /v1/status?detail=1`. null is not known. */
export interface WorkerDetail {
  /** User and system time of all its processes, those that have ended included; it never falls. */
  readonly cpu_seconds: number | null;
  /** Resident memory of all its processes. */
  readonly rss_bytes: number | null;
  /** Live processes: the leader, and all that it and they have started. */
  readonly process_count: number | null;
  /** Only if requested; the leader first, parents before their children, at most MAX_LISTED_PROCESSES. */
  readonly processes?: readonly WorkerProcess[];
  /** Of its leader, as the limit is of one process. */
  readonly open_fds: number | null;
  /** Soft limit of open_fds; null also where there is none. */
  readonly max_fds: number | null;
  /** Requests that its slot was given by the proxy so far, and those that failed; null without a proxy. */
  readonly requests_total: number | null;
  readonly failed_requests_total: number | null;
  readonly requests_in_flight: number | null;
  /** Over the window of the balance: share of one CPU. */
  readonly cpu_ratio: number | null;
  readonly requests_per_second: number | null;
}

/** How evenly the work of a pool is spread over its workers, and what would help: `GET /v1/status?detail=1`. */
export interface PoolBalance {
  readonly mode: Distribution["mode"];
  /** The proxy's load_balancer_algorithm; null without a proxy. */
  readonly algorithm: string | null;
  /** How long the workers were watched, the longest of them. */
  readonly window_s: number;
  /** Most over mean: 1 is even; null where too little was done to compare. */
  readonly cpu_spread: number | null;
  readonly requests_spread: number | null;
  readonly verdict: Advice["verdict"];
  /** One sentence. */
  readonly advice: string;
}

export interface PoolStatus {
  readonly name: string;
  readonly role: PoolView["role"];
  /** Name of the pool that this proxy stands in front of; null for workers. */
  readonly fronts: string | null;
  readonly replicas: number;
  readonly ready: number;
  readonly healthy: boolean;
  readonly desired_healthy_percentage: number;
  /** What operators asked for and has not ended, oldest first. */
  readonly operations: readonly Operation[];
  /** Only where it is asked for; never for a proxy. */
  readonly balance?: PoolBalance;
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

/** Answer to `POST /v1/shutdown`. */
export interface Accepted {
  readonly accepted: true;
}

/** Answer to a POST that began an operation. */
export interface OperationAccepted extends Accepted {
  /** Id of the operation. */
  readonly operation: string;
  /** Number of the last event before it: `GET /v1/events?since=` tells all about it. */
  readonly since: number;
}

/** Body of `GET /v1/operations`: those that are kept, oldest first. */
export interface Operations {
  readonly operations: readonly Operation[];
}

/** Body of `POST /v1/pools/{pool}/scale`. */
export interface ScaleRequest {
  /** 1 … MAX_REPLICAS */
  readonly replicas: number;
}

/** Process ids in a request. */
export const PID_BOUNDS = { least: 1, most: 4_194_304 } as const;

/** Body of `POST /v1/workers/{worker}/dump`. */
export interface DumpRequest {
  /** Only this process of the worker; all of them if absent. */
  readonly pid?: number;
}

/** Processes that a dump shows at most. */
export const MAX_DUMPED_PROCESSES = 16;

/** What one worker is doing at this moment: answer to `POST /v1/workers/{worker}/dump`. null is not known. */
export interface WorkerDump {
  readonly id: string;
  readonly pool: string;
  readonly phase: Phase;
  readonly incarnation: number;
  /** The leader. */
  readonly pid: number | null;
  /** What the first of `processes` does, in one line. */
  readonly text: string;
  /** Live processes of the worker. */
  readonly process_count: number;
  /**
   * The busiest first; if none uses a CPU, the one that seems stuck. At most MAX_DUMPED_PROCESSES; empty if there is none,
   * or all ended meanwhile.
   */
  readonly processes: readonly ProcessDump[];
}

/** What one process of a worker is doing. null is not known. */
export interface ProcessDump {
  readonly pid: number;
  readonly parent_pid: number;
  /** What it is to the leader of the worker: `the leader`, `child of the leader`, `child of pid 12`, `its parent has exited`. */
  readonly relation: string;
  /** All of it in one line. */
  readonly text: string;
  /** From /proc. */
  readonly diagnosis: ProcessDiagnosis;
  /** Functions of the kernel, innermost first; null where they may not be read. */
  readonly kernel_stack: readonly string[] | null;
  /** Where its language can be asked. */
  readonly stack: { readonly engine: "py-spy"; readonly text: string } | null;
  /** Why there is no stack where there should be one, and what helps. */
  readonly hint: string | null;
}

export interface ProcessDiagnosis {
  readonly command: string;
  readonly thread_count: number;
  /** The main thread first; of many only the first ones. */
  readonly threads: readonly {
    readonly tid: number;
    readonly name: string;
    /** R, S, D, T … as in proc(5). */
    readonly state: string;
    /** Function of the kernel. */
    readonly waits_in: string | null;
    readonly syscall: string | null;
  }[];
  readonly open_fds: number | null;
  readonly rss_bytes: number;
  readonly cpu_seconds: number;
  /** Share of one CPU during a tenth of a second. */
  readonly cpu_ratio: number | null;
}

/** Bounds and defaults of what a profile may be asked for. */
export const PROFILE_SECONDS = { least: 1, most: 60, default: 10 } as const;
export const PROFILE_HZ = { least: 1, most: 100, default: 50 } as const;

/** What may be profiled of the controller itself. */
export type ProfileSubject = "cpu" | "heap";

/** Body of `POST /v1/workers/{worker}/profile`. */
export interface ProfileRequest {
  readonly seconds?: number;
  /** Samples a second. */
  readonly hz?: number;
  /** A process of the worker; the busiest if absent. */
  readonly pid?: number;
}

/** A profile and how it came about. */
export interface ProfileAnswer {
  /** `x-monoceros-engine` */
  readonly engine: "py-spy" | "proc" | "v8";
  /** `x-monoceros-note`: why there is less than was asked for; undefined where there is not. */
  readonly note: string | undefined;
  /** `x-monoceros-pid`: the process that was profiled; undefined for the controller itself. */
  readonly pid: number | undefined;
  /** pprof, compressed with gzip. */
  readonly pprof: Uint8Array;
}

/** Headers of a profile. */
export const PROFILE_HEADERS = {
  engine: "x-monoceros-engine",
  note: "x-monoceros-note",
  pid: "x-monoceros-pid",
} as const;

/** What a reload does, or would do. */
export interface ReloadPlan {
  /** One sentence each; empty where nothing has changed. */
  readonly changes: readonly string[];
  /** What cannot change while the controller runs, and stays as it was. */
  readonly refused: readonly { readonly path: string; readonly reason: string }[];
  /** What was tried, did not succeed and is as it was: the next reload tries again. Empty in a dry run. */
  readonly failed: readonly { readonly path: string; readonly reason: string }[];
  /** What goes on because of it. */
  readonly operations: readonly { readonly id: string; readonly pool: string }[];
}

/** Answer to a POST of a reload: the plan, and the number of the last event before it. */
export interface ReloadAccepted extends ReloadPlan {
  readonly since: number;
}

/** Body of a POST of a reload. */
export interface ReloadRequest {
  /** Only say what would change. */
  readonly dry_run?: boolean;
}

/** One line of `GET /v1/logs`. */
export interface LogLine {
  readonly stream: "stdout" | "stderr";
  readonly line: string;
}

/** What may be asked of a pool or of one worker. */
export type Action = "restart" | "stop" | "start";

/** Where a client finds things; admin/routes/controlRoutes.ts serves them. */
export const PATHS = {
  status: "/v1/status",
  events: "/v1/events",
  logs: "/v1/logs",
  operations: "/v1/operations",
  operation: (id: string) => `/v1/operations/${encodeURIComponent(id)}`,
  reload: "/v1/reload",
  shutdown: "/v1/shutdown",
  pool: (name: string, action: Action | "scale") => `/v1/pools/${encodeURIComponent(name)}/${action}`,
  selfProfile: (subject: ProfileSubject) => `/debug/pprof/${subject === "cpu" ? "profile" : "heap"}`,
  worker: (id: string, action: Action | "dump" | "profile") => `/v1/workers/${encodeURIComponent(id)}/${action}`,
} as const;

function seconds(ms: number): number {
  return Math.round(ms) / 1000;
}

function workerStatus(
  worker: WorkerView,
  now: Instant,
  waitsFor: string | undefined,
  detail: WorkerDetail | undefined,
): WorkerStatus {
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
    waits_for: waitsFor ?? null,
    ...(detail === undefined ? {} : { detail }),
  };
}

/** What a status document is made from besides the view. */
export interface StatusSources {
  readonly now: Instant;
  readonly version: string;
  readonly pid: number;
  /** Operations that have not ended. */
  readonly operations: readonly Operation[];
  /** What a worker that is not ready waits for; undefined where it waits for nothing. */
  readonly waitOf: (worker: WorkerView, pool: PoolView) => string | undefined;
  /** Undefined where they are not asked for. */
  readonly details?: StatusDetails | undefined;
}

/** What has to be read for a status document with details. */
export interface StatusDetails {
  /** By name of the pool. */
  readonly balances: ReadonlyMap<string, PoolBalance>;
  /** By id; workers without a process have none. */
  readonly workers: ReadonlyMap<string, WorkerDetail>;
}

/** The status document of `view`. */
export function statusOf(view: ControllerView, sources: StatusSources): Status {
  const { now, version, pid, operations, waitOf, details } = sources;
  return {
    version,
    pid,
    phase: view.phase,
    healthy: view.healthy,
    ready: view.ready,
    uptime_s: seconds(now - view.startedAt),
    pools: view.pools.map((pool) => ({
      name: pool.name,
      role: pool.role,
      fronts: pool.fronts ?? null,
      replicas: pool.replicas,
      ready: pool.readyCount,
      healthy: pool.healthy,
      desired_healthy_percentage: pool.desiredHealthyPercentage,
      operations: operations.filter((operation) => operation.pool === pool.name),
      ...balanceOf(pool, details),
      workers: pool.workers.map((worker) =>
        workerStatus(worker, now, waitOf(worker, pool), details?.workers.get(worker.id)),
      ),
    })),
  };
}

function balanceOf({ name }: PoolView, details: StatusDetails | undefined): Pick<PoolStatus, "balance"> {
  const balance = details?.balances.get(name);
  return balance === undefined ? {} : { balance };
}
