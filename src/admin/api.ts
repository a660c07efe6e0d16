/**
 * Wire types and paths of the admin API, shared by server, CLI and dashboard. Keys are snake_case. Durations are seconds
 * with fractions, and points in time are ISO 8601 in UTC. A value is null if it is unknown or does not exist.
 */
import type { LifecycleEvent, OperationKind } from "../core/event.ts";
import type { Advice, Distribution } from "../core/policy/balance.ts";
import type { ControllerPhase, Phase, PoolView } from "../core/view.ts";

/** Maximum size of a request body. */
export const MAX_BODY_BYTES = 65_536;

/** A change of a pool that an operator requested, and its outcome. */
export interface Operation {
  /** Such as "op-7" or "reload-3"; unique while the controller runs. */
  readonly id: string;
  readonly pool: string;
  readonly what: OperationKind;
  /** Queued behind another operation on the pool, running, or ended. */
  readonly state: "queued" | "running" | "succeeded" | "failed";
  /** Workers replaced, started or stopped so far. */
  readonly done: number;
  /** Workers to replace, start or stop; 0 while it is queued, and for scale. */
  readonly total: number;
  /** Why it was requested. */
  readonly reason: string;
  /** Why it failed; absent unless it did. */
  readonly error?: string;
  /** null while it is queued. */
  readonly started_at: string | null;
  /** null until it has ended. */
  readonly ended_at: string | null;
}

/** One worker in `GET /v1/status`. */
export interface WorkerStatus {
  readonly id: string;
  readonly pool: string;
  readonly slot: number;
  readonly phase: Phase;
  /** Whether it is a standby worker: ready, but without requests until it is promoted. */
  readonly standby: boolean;
  readonly incarnation: number;
  readonly pid: number | null;
  /** Since its process was spawned. */
  readonly uptime_s: number | null;
  /** Since its current phase began. */
  readonly phase_s: number;
  /** Until its next planned change (restart, replacement, kill). */
  readonly next_s: number | null;
  /** Whether it becomes ready at that time, because it has no probe. */
  readonly proving: boolean;
  /** Requests in flight while it drains; null in any other phase. */
  readonly in_flight: number | null;
  readonly restarts: number;
  /** Exit code or signal name of the previous process. */
  readonly last_exit: string | null;
  /** Why it is in this phase. */
  readonly reason: string;
  /** What it waits for before it is ready, with the last attempt; null if it is ready or has no process. */
  readonly waits_for: string | null;
  /** Only if requested, and only if the worker has a process. */
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

/** Maximum number of processes that the status lists per worker, those with the most CPU time. */
export const MAX_LISTED_PROCESSES = 50;

/** Resource usage and activity of one worker: `GET /v1/status?detail=1`. */
export interface WorkerDetail {
  /** User and system time of all its processes, including exited ones; never decreases. */
  readonly cpu_seconds: number | null;
  /** Resident memory of all its processes. */
  readonly rss_bytes: number | null;
  /** Live processes: the leader and its descendants. */
  readonly process_count: number | null;
  /** Only if requested; the leader first, parents before their children, at most MAX_LISTED_PROCESSES. */
  readonly processes?: readonly WorkerProcess[];
  /** Open descriptors of its leader. */
  readonly open_fds: number | null;
  /** Soft limit of open_fds; null also if unlimited. */
  readonly max_fds: number | null;
  /** Requests that the proxy sent to its slot so far, and those that failed; null without a proxy. */
  readonly requests_total: number | null;
  readonly failed_requests_total: number | null;
  readonly requests_in_flight: number | null;
  /** CPUs in use, over the window of the balance. */
  readonly cpu_ratio: number | null;
  readonly requests_per_second: number | null;
}

/** How evenly the load of a pool is spread over its workers: `GET /v1/status?detail=1`. */
export interface PoolBalance {
  readonly mode: Distribution["mode"];
  /** The proxy's load_balancer_algorithm; null without a proxy. */
  readonly algorithm: string | null;
  /** Time over which the workers were compared. */
  readonly window_s: number;
  /** Maximum divided by mean: 1 is even; null if there was too little load to compare. */
  readonly cpu_spread: number | null;
  readonly requests_spread: number | null;
  readonly verdict: Advice["verdict"];
  /** A recommendation in one sentence. */
  readonly advice: string;
}

export interface PoolStatus {
  readonly name: string;
  readonly role: PoolView["role"];
  /** Name of the pool that this proxy balances over; null for workers. */
  readonly fronts: string | null;
  readonly replicas: number;
  readonly ready: number;
  readonly healthy: boolean;
  readonly desired_healthy_percentage: number;
  /** Queued and running operations, oldest first. */
  readonly operations: readonly Operation[];
  /** Only if requested, and only for workers. */
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
export interface ApiError {
  readonly error: { readonly code: string; readonly message: string };
}

/** Response to `POST /v1/shutdown`. */
export interface Accepted {
  readonly accepted: true;
}

/** Response to a POST that requested an operation. */
export interface OperationAccepted extends Accepted {
  /** Id of the operation. */
  readonly operation: string;
  /** Number of the last event before it, for `GET /v1/events?since=`. */
  readonly since: number;
}

/** Body of `GET /v1/operations`: the kept operations, oldest first. */
export interface Operations {
  readonly operations: readonly Operation[];
}

/** Body of `POST /v1/pools/{pool}/scale`. */
export interface ScaleRequest {
  /** 1 … MAX_REPLICAS */
  readonly replicas: number;
}

/** Bounds of a process id in a request. */
export const PID_BOUNDS = { least: 1, most: 4_194_304 } as const;

/** Body of `POST /v1/workers/{worker}/dump`. */
export interface DumpRequest {
  /** Only this process of the worker; all of them if absent. */
  readonly pid?: number;
}

/** Maximum number of processes in a dump. */
export const MAX_DUMPED_PROCESSES = 16;

/** What a worker is doing now: response to `POST /v1/workers/{worker}/dump`. */
export interface WorkerDump {
  readonly id: string;
  readonly pool: string;
  readonly phase: Phase;
  readonly incarnation: number;
  /** The leader. */
  readonly pid: number | null;
  /** What the first of `processes` is doing, in one line. */
  readonly text: string;
  /** Live processes of the worker. */
  readonly process_count: number;
  /** Busiest first; if none uses a CPU, the one that seems stuck. At most MAX_DUMPED_PROCESSES. */
  readonly processes: readonly ProcessDump[];
}

/** What one process of a worker is doing. */
export interface ProcessDump {
  readonly pid: number;
  readonly parent_pid: number;
  /** Its relation to the leader: `the leader`, `child of the leader`, `child of pid 12`, `its parent has exited`. */
  readonly relation: string;
  /** A summary in one line. */
  readonly text: string;
  /** Read from /proc. */
  readonly diagnosis: ProcessDiagnosis;
  /** Kernel functions, innermost first; null if they cannot be read. */
  readonly kernel_stack: readonly string[] | null;
  /** Stacks of the program, if its language is supported. */
  readonly stack: { readonly engine: "py-spy"; readonly text: string } | null;
  /** Why an expected stack is missing, and what to do. */
  readonly hint: string | null;
}

export interface ProcessDiagnosis {
  readonly command: string;
  readonly thread_count: number;
  /** The main thread first; at most 16. */
  readonly threads: readonly {
    readonly tid: number;
    readonly name: string;
    /** R, S, D, T … as in proc(5). */
    readonly state: string;
    /** Kernel function. */
    readonly waits_in: string | null;
    readonly syscall: string | null;
  }[];
  readonly open_fds: number | null;
  readonly rss_bytes: number;
  readonly cpu_seconds: number;
  /** CPUs in use during a tenth of a second. */
  readonly cpu_ratio: number | null;
}

/** Bounds and defaults of the parameters of a profile. */
export const PROFILE_SECONDS = { least: 1, most: 60, default: 10 } as const;
export const PROFILE_HZ = { least: 1, most: 100, default: 50 } as const;

/** What can be profiled of the controller itself. */
export type ProfileSubject = "cpu" | "heap";

/** Body of `POST /v1/workers/{worker}/profile`. */
export interface ProfileRequest {
  readonly seconds?: number;
  /** Samples per second. */
  readonly hz?: number;
  /** A process of the worker; the busiest if absent. */
  readonly pid?: number;
}

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
export interface ReloadPlan {
  /** One sentence each; empty if nothing has changed. */
  readonly changes: readonly string[];
  /** Changes that require a restart of the controller and are not applied. */
  readonly refused: readonly { readonly path: string; readonly reason: string }[];
  /** Changes that failed and were reverted; the next reload tries them again. Empty in a dry run. */
  readonly failed: readonly { readonly path: string; readonly reason: string }[];
  /** Operations that apply the changes. */
  readonly operations: readonly { readonly id: string; readonly pool: string }[];
}

/** Response to `POST /v1/reload`: the plan, and the number of the last event before it. */
export interface ReloadAccepted extends ReloadPlan {
  readonly since: number;
}

/** Body of `POST /v1/reload`. */
export interface ReloadRequest {
  /** Only report what would change. */
  readonly dry_run?: boolean;
}

/** One line of `GET /v1/logs`. */
export interface LogLine {
  readonly stream: "stdout" | "stderr";
  readonly line: string;
}

/** Operations on a pool or on one worker. */
export type Action = "restart" | "stop" | "start";

/** The paths of the API that clients use. */
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
