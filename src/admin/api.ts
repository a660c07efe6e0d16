/**
 * Wire types and paths of the admin API, shared by server, CLI and dashboard. Keys are snake_case. Durations are seconds
 * with fractions, and points in time are ISO 8601 in UTC. A value is null if it is unknown or does not exist.
 */
import type { LifecycleEvent } from "../core/event.ts";
import type * as schemas from "./schemas.ts";
import type { ValueOf } from "./schemas.ts";

/** Maximum size of a request body. */
export const MAX_BODY_BYTES = 65_536;

/** A change of a pool that an operator requested, and its outcome. */
export interface Operation extends ValueOf<typeof schemas.operation> {}

/** One worker in `GET /v1/status`. */
export interface WorkerStatus extends ValueOf<typeof schemas.worker> {}

/** One process of a worker: `GET /v1/status?detail=1&processes=1`. */
export interface WorkerProcess extends ValueOf<typeof schemas.workerProcess> {}

/** Maximum number of processes that the status lists per worker, those with the most CPU time. */
export const MAX_LISTED_PROCESSES = 50;

/** Resource usage and activity of one worker: `GET /v1/status?detail=1`. */
export interface WorkerDetail extends ValueOf<typeof schemas.workerDetail> {}

/** How evenly the load of a pool is spread over its workers: `GET /v1/status?detail=1`. */
export interface PoolBalance extends ValueOf<typeof schemas.balance> {}

export interface PoolStatus extends ValueOf<typeof schemas.pool> {}

/** Body of `GET /v1/status`. */
export interface Status extends ValueOf<typeof schemas.status> {}

/** Body of `GET /v1/health`. */
export interface Health extends ValueOf<typeof schemas.health> {}

/** One entry of `GET /v1/events`: a lifecycle event with its number, time and sentence. */
export type EventRecord = LifecycleEvent & {
  readonly seq: number;
  readonly time: string;
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  /** Code of an operational error. */
  readonly code?: string;
};

/** Body of every response that is not 2xx. */
export interface ApiError extends ValueOf<typeof schemas.errorBody> {}

/** Response to `POST /v1/shutdown`. */
export interface Accepted extends ValueOf<typeof schemas.accepted> {}

/** Response to a POST that requested an operation. */
export interface OperationAccepted extends ValueOf<typeof schemas.operationAccepted> {}

/** Body of `GET /v1/operations`: the kept operations, oldest first. */
export interface Operations extends ValueOf<typeof schemas.operations> {}

/** Body of `POST /v1/pools/{pool}/scale`. */
export interface ScaleRequest extends ValueOf<typeof schemas.scaleRequest> {}

/** Bounds of a process id in a request. */
export const PID_BOUNDS = { least: 1, most: 4_194_304 } as const;

/** Body of `POST /v1/workers/{worker}/dump`. */
export interface DumpRequest extends ValueOf<typeof schemas.dumpRequest> {}

/** Maximum number of processes in a dump. */
export const MAX_DUMPED_PROCESSES = 16;

/** What a worker is doing now: response to `POST /v1/workers/{worker}/dump`. */
export interface WorkerDump extends ValueOf<typeof schemas.dump> {}

/** What one process of a worker is doing. */
export interface ProcessDump extends ValueOf<typeof schemas.processDump> {}

/** Bounds of a number in a request, and its default. */
export interface Bounds {
  readonly least: number;
  readonly most: number;
  readonly default: number;
}

/** Bounds and defaults of the parameters of a profile. */
export const PROFILE_SECONDS = { least: 1, most: 60, default: 10 } as const;
export const PROFILE_HZ = { least: 1, most: 100, default: 50 } as const;

/** What can be profiled of the controller itself. */
export type ProfileSubject = "cpu" | "heap";

/** Body of `POST /v1/workers/{worker}/profile`. */
export interface ProfileRequest extends ValueOf<typeof schemas.profileRequest> {}

/** A profile and how it was taken. */
export interface ProfileAnswer {
  /** `x-monoceros-engine` */
  readonly engine: "py-spy" | "proc" | "v8";
  /** `x-monoceros-note`: why it is shorter than requested; undefined if it is complete. */
  readonly note: string | undefined;
  /** `x-monoceros-pid`: the profiled process; undefined for the controller itself. */
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

/** What a reload changes, or would change. */
export interface ReloadPlan extends Omit<ReloadAccepted, "since"> {}

/** Response to `POST /v1/reload`: the plan, and the number of the last event before it. */
export interface ReloadAccepted extends ValueOf<typeof schemas.reload> {}

/** Body of `POST /v1/reload`. */
export interface ReloadRequest extends ValueOf<typeof schemas.reloadRequest> {}

/** One line of `GET /v1/logs`. */
export interface LogLine extends ValueOf<typeof schemas.logLine> {}

/** Response to `POST /v1/logs/reopen`. */
export interface LogFilesReopened extends ValueOf<typeof schemas.logFilesReopened> {}

/** Operations on a pool or on one worker. */
export type Action = "restart" | "stop" | "start";

/** The paths of the API that clients use. */
export const PATHS = {
  status: "/v1/status",
  health: "/v1/health",
  events: "/v1/events",
  logs: "/v1/logs",
  logsReopen: "/v1/logs/reopen",
  operations: "/v1/operations",
  operation: (id: string) => `/v1/operations/${encodeURIComponent(id)}`,
  reload: "/v1/reload",
  shutdown: "/v1/shutdown",
  pool: (name: string, action: Action | "scale") => `/v1/pools/${encodeURIComponent(name)}/${action}`,
  selfProfile: (subject: ProfileSubject) => `/debug/pprof/${subject === "cpu" ? "profile" : "heap"}`,
  worker: (id: string, action: Action | "dump" | "profile") => `/v1/workers/${encodeURIComponent(id)}/${action}`,
} as const;
