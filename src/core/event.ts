/**
 * Lifecycle events: what operators see happen. The state machines return them as effects. The event stream, the log and the
 * counters are all derived from them, so they never disagree. The event ring adds wall-clock time and sequence number.
 */
import type { ExitStatus } from "./exit.ts";
import type { Incarnation, Slot } from "./identity.ts";

/** Why a worker stops. */
export type StopReason = ReplaceReason | "shutdown" | "operator" | "scale" | "survivors" | "startup";

/** Why a running worker must be replaced. */
export type ReplaceReason = LimitKind | "rollout" | "liveness";

/** Which limit a worker reached. */
export type LimitKind = "lifespan" | "memory" | "memory_hard" | "requests";

interface OfWorker {
  readonly pool: string;
  readonly slot: Slot;
  readonly incarnation: Incarnation;
}

/** Something that happened to one worker. `reason` is a clause, ready to print. */
export type WorkerLifecycleEvent = OfWorker &
  (
    | { readonly kind: "starting"; readonly delayMs: number; readonly reason: string }
    | { readonly kind: "spawned"; readonly pid: number; readonly revision: number }
    /** `evidence`: its probes, a listening process, or only its survival. */
    | { readonly kind: "ready"; readonly afterMs: number; readonly evidence: "probe" | "listening" | "none" }
    /** It is still not ready, and the reason has become known or has changed. */
    | { readonly kind: "waiting"; readonly afterMs: number; readonly reason: string }
    /** A standby worker was promoted and receives requests from now on. */
    | { readonly kind: "promoted"; readonly reason: string }
    /** Its readiness or liveness fails, or it did not become ready in time after its start. */
    | { readonly kind: "unready"; readonly reason: string }
    | {
        readonly kind: "exited";
        readonly pid: number;
        readonly status: ExitStatus;
        readonly planned: boolean;
        readonly uptimeMs: number;
        /** Why an unrequested exit is not a crash: `restart.expected_exit_codes`, or `restart.policy` ends the worker. */
        readonly cause?: "expected" | "completed";
      }
    | { readonly kind: "spawn_failed"; readonly reason: string }
    | { readonly kind: "backing_off"; readonly delayMs: number; readonly reason: string }
    | { readonly kind: "draining"; readonly pid: number; readonly boundMs: number; readonly reason: string }
    /** The drain is over: all requests are done, or the stop cuts off `cut` of them. */
    | { readonly kind: "drained"; readonly afterMs: number; readonly cut: number }
    | {
        readonly kind: "stopping";
        readonly pid: number;
        readonly signal: string;
        readonly graceMs: number;
        readonly cause: StopReason;
        readonly reason: string;
      }
    | { readonly kind: "killed"; readonly pid: number; readonly reason: string }
    | { readonly kind: "stopped"; readonly durationMs: number; readonly next: "respawn" | "stay down" }
    | { readonly kind: "limit_reached"; readonly limit: LimitKind; readonly reason: string }
    | { readonly kind: "gave_up"; readonly reason: string }
    /** It exited by itself, and `restart.policy` starts no other process. */
    | { readonly kind: "ended"; readonly isFailure: boolean; readonly reason: string }
  );

/** What an operator may request of a pool. */
export type OperationKind = "restart" | "scale" | "stop" | "start" | "reload";

interface OfOperation {
  readonly pool: string;
  /** Chosen by the caller. */
  readonly operation: string;
  readonly what: OperationKind;
  /** Workers replaced, started or stopped so far. */
  readonly done: number;
  readonly total: number;
  readonly reason: string;
}

/** Something that happened to a pool or to the controller. */
export type WideLifecycleEvent =
  | ({ readonly kind: "operation_queued" } & OfOperation)
  | ({ readonly kind: "operation_started" } & OfOperation)
  | ({ readonly kind: "operation_progressed" } & OfOperation)
  | ({ readonly kind: "operation_finished" } & OfOperation)
  | ({ readonly kind: "operation_failed" } & OfOperation)
  | { readonly kind: "pool_degraded"; readonly pool: string; readonly reason: string }
  | { readonly kind: "pool_recovered"; readonly pool: string; readonly reason: string }
  /** It waits for pools that it depends on. `isHopeless`: what it waits for will not happen by itself. */
  | { readonly kind: "pool_blocked"; readonly pool: string; readonly isHopeless: boolean; readonly reason: string }
  /** What it waited for has happened. */
  | { readonly kind: "pool_unblocked"; readonly pool: string; readonly reason: string }
  | { readonly kind: "rollout_started"; readonly pool: string; readonly reason: string }
  | { readonly kind: "rollout_finished"; readonly pool: string; readonly reason: string }
  | { readonly kind: "rollout_aborted"; readonly pool: string; readonly reason: string }
  /** The proxy of the pool keeps its previous endpoints. */
  | { readonly kind: "proxy_update_late"; readonly pool: string; readonly reason: string }
  | { readonly kind: "proxy_update_refused"; readonly pool: string; readonly reason: string }
  /** The log file of the pool cannot be written. */
  | { readonly kind: "log_file_failed"; readonly pool: string; readonly reason: string }
  | { readonly kind: "log_file_recovered"; readonly pool: string; readonly reason: string }
  /** A change was requested. `who`: the peer of the socket, or how the request was authenticated. `what`: an imperative. */
  | { readonly kind: "audited"; readonly who: string; readonly what: string }
  | { readonly kind: "controller_started"; readonly reason: string }
  | { readonly kind: "controller_ready"; readonly afterMs: number }
  | { readonly kind: "controller_stopping"; readonly reason: string }
  | { readonly kind: "controller_draining"; readonly reason: string }
  | { readonly kind: "controller_killing"; readonly reason: string }
  | { readonly kind: "controller_stopped"; readonly exitCode: number; readonly reason: string };

export type LifecycleEvent = WorkerLifecycleEvent | WideLifecycleEvent;

/** Whether the specification of a pool may have changed with the event: a reload started, or failed and was rolled back. */
export function changesSpec(event: LifecycleEvent): boolean {
  return (event.kind === "operation_started" || event.kind === "operation_failed") && event.what === "reload";
}

/** Whether the event is about one worker. */
export function isWorkerEvent(event: LifecycleEvent): event is WorkerLifecycleEvent {
  return "slot" in event;
}
