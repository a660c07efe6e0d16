/**
 * What an operator sees happen: lifecycle events. The machines return them as effects; the event stream, the `-d` log
 * and the counters are all fed by them, so they can never disagree. Wall-clock time and sequence number are added by
 * the ring that keeps them.
 */
import type { ExitStatus } from "./exit.ts";
import type { Incarnation, Slot } from "./identity.ts";

/** Why a worker was asked to leave. */
export type StopReason =
  | "shutdown"
  | "operator"
  | "lifespan"
  | "memory"
  | "memory_hard"
  | "requests"
  | "scale"
  | "rollout"
  | "survivors";

/** Which limit asked for a recycle. */
export type LimitKind = "lifespan" | "memory" | "memory_hard" | "requests";

interface OfWorker {
  readonly pool: string;
  readonly slot: Slot;
  readonly incarnation: Incarnation;
}

/** Something that happened to one worker. `reason` is a full sentence part, ready to print. */
export type WorkerLifecycleEvent = OfWorker &
  (
    | { readonly kind: "starting"; readonly delayMs: number; readonly reason: string }
    | { readonly kind: "spawned"; readonly pid: number }
    | { readonly kind: "ready"; readonly afterMs: number }
    | { readonly kind: "unready"; readonly reason: string }
    | {
        readonly kind: "exited";
        readonly pid: number;
        readonly status: ExitStatus;
        readonly planned: boolean;
        readonly uptimeMs: number;
      }
    | { readonly kind: "spawn_failed"; readonly reason: string }
    | { readonly kind: "backing_off"; readonly delayMs: number; readonly reason: string }
    | { readonly kind: "draining"; readonly reason: string }
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
  );

/** Something that happened to a pool or to the controller. */
export type WideLifecycleEvent =
  | { readonly kind: "pool_degraded"; readonly pool: string; readonly reason: string }
  | { readonly kind: "pool_recovered"; readonly pool: string; readonly reason: string }
  | { readonly kind: "rollout_started"; readonly pool: string; readonly reason: string }
  | { readonly kind: "rollout_finished"; readonly pool: string; readonly reason: string }
  | { readonly kind: "rollout_aborted"; readonly pool: string; readonly reason: string }
  | { readonly kind: "controller_started"; readonly reason: string }
  | { readonly kind: "controller_ready"; readonly afterMs: number }
  | { readonly kind: "controller_stopping"; readonly reason: string }
  | { readonly kind: "controller_killing"; readonly reason: string }
  | { readonly kind: "controller_stopped"; readonly exitCode: number; readonly reason: string };

export type LifecycleEvent = WorkerLifecycleEvent | WideLifecycleEvent;

/** Whether the event is about one worker. */
export function isWorkerEvent(event: LifecycleEvent): event is WorkerLifecycleEvent {
  return "slot" in event;
}
