/**
 * The states of one slot's process. Plain data: every state survives JSON, apart from properties that are undefined.
 *
 * Invariants: at most one live incarnation per slot, and one deadline per state.
 */
import type { Instant } from "../../base/time.ts";
import type { ReplaceReason, StopReason } from "../event.ts";
import type { ExitStatus } from "../exit.ts";
import type { Incarnation, Slot } from "../identity.ts";
import { type CrashHistory, NO_CRASHES } from "../policy/restart.ts";

/** What happens once the slot is empty. */
type Next =
  | "down" /* stay down */
  | "respawn" /* planned: start again, not counted as a crash */
  | "restart"; /* unplanned: start again if the restart policy allows it */

interface Common {
  readonly slot: Slot;
  /** Of the live process; without one, of the last process. */
  readonly incarnation: Incarnation;
  /** What that process was launched with (PoolSpec.revision); 0 before the first one. */
  readonly revision: number;
  /** When this phase began. */
  readonly since: Instant;
  readonly crashes: CrashHistory;
  /** Unplanned restarts so far. */
  readonly restarts: number;
  readonly lastExit: ExitStatus | undefined;
  /** Why the worker is in this phase. */
  readonly reason: string;
}

/** Why a worker stops, and what follows. */
export interface StopOrder {
  readonly cause: StopReason;
  readonly reason: string;
  readonly next: Next;
  /** The state of the slot after an exit that `restart.policy` does not follow with another process. */
  readonly ends?: "completed" | "failed";
  /** A signal that every process of the worker received before this stop, and when the controller received it. */
  readonly hadSignal?: { readonly signal: string; readonly at: Instant } | undefined;
}

/** Why a worker must be replaced, and since when. */
export interface Due {
  readonly cause: ReplaceReason;
  readonly reason: string;
  readonly at: Instant;
}

/** A live process. */
interface Process {
  readonly pid: number;
  readonly spawnedAt: Instant;
}

/** No process; only `start` brings one. */
export interface DownState extends Common {
  readonly phase: "down";
  readonly deadline: undefined;
  /**
   * free: may be used; held: stopped by an operator; gave-up: reached its restart limit; completed, failed: exited, and
   * `restart.policy` starts no other process.
   */
  readonly kind: "free" | "held" | "gave-up" | "completed" | "failed";
}

/** Waits for its turn to start; without a process. */
export interface QueuedState extends Common {
  readonly phase: "queued";
  /** Its turn; undefined once it has come, so that the worker starts when it is admitted (core/startOrder.ts). */
  readonly deadline: Instant | undefined;
  readonly settleMs: number;
  /** Whether it follows a process of the same slot, without which the pool misses a worker. */
  readonly isRestart: boolean;
}

/** The spawn was requested; its result has not arrived. */
export interface SpawningState extends Common {
  readonly phase: "spawning";
  readonly deadline: undefined;
  readonly settleMs: number;
  /** A stop that arrived during the spawn. */
  readonly pendingStop: StopOrder | undefined;
}

/** Runs, and has not been ready yet. */
export interface BootingState extends Common, Process {
  readonly phase: "booting";
  /** When it counts as ready (spec.readiness "observed") or as failed ("probed"). */
  readonly deadline: Instant | undefined;
  /** How long it must have been seen serving to count as ready, if it has no probes. */
  readonly settleMs: number;
  /** The end of its lifespan, drawn at the spawn; undefined if unlimited. */
  readonly agesAt: Instant | undefined;
  /** Since when it has been seen serving (spec.readiness "observed"); undefined if it has not. */
  readonly observedAt: Instant | undefined;
  /** Behind a proxy: since when its probes pass. It is ready once the proxy balances over it. */
  readonly answeredAt: Instant | undefined;
  /** What it waits for and what the last attempt returned; undefined if unknown. */
  readonly waitsFor: string | undefined;
}

export interface ReadyState extends Common, Process {
  readonly phase: "ready";
  /** The end of its lifespan; undefined once it is due, and if unlimited. */
  readonly deadline: Instant | undefined;
  /** Why a limit or a rollout requires its replacement; the pool decides when to replace it. */
  readonly due: Due | undefined;
  /** Whether it is a standby worker, which receives no requests until the pool promotes it. */
  readonly isStandby: boolean;
}

/** Runs, but its readiness or its liveness fails. It is ready again when both pass. */
export interface UnreadyState extends Common, Process {
  readonly phase: "unready";
  /** The end of its lifespan; undefined once it is due, and if unlimited. */
  readonly deadline: Instant | undefined;
  readonly due: Due | undefined;
  readonly readiness: "passing" | "failing";
  /** Behind a proxy: since when its probes pass again. It is ready once the proxy balances over it. */
  readonly answeredAt: Instant | undefined;
  /** Why its liveness fails, and since when; undefined if it passes. */
  readonly liveness: { readonly reason: string; readonly at: Instant } | undefined;
}

/** Receives no new requests; stops when the running ones are done or the deadline passes. */
export interface DrainingState extends Common, Process {
  readonly phase: "draining";
  readonly deadline: Instant;
  readonly order: StopOrder;
  /** Requests in flight, as far as is known. */
  readonly inFlight: number;
}

/** Was sent the stop signal, or exited and left processes in its group; ends when the group is empty. */
export interface StoppingState extends Common, Process {
  readonly phase: "stopping";
  /** The end of its grace period, when the whole group is killed; undefined once it was. */
  readonly deadline: Instant | undefined;
  readonly order: StopOrder;
}

/** Waits before an unplanned restart. */
export interface BackoffState extends Common {
  readonly phase: "backoff";
  readonly deadline: Instant;
}

/** Runs and may serve, now or later. */
export type ActiveState = BootingState | ReadyState | UnreadyState;

/** Has a process. */
export type LiveState = ActiveState | DrainingState | StoppingState;

export type WorkerState = LiveState | DownState | QueuedState | SpawningState | BackoffState;

/** An empty slot that has never had a process. */
export function newWorker(slot: Slot, at: Instant): DownState {
  return {
    slot,
    incarnation: 0,
    revision: 0,
    since: at,
    crashes: NO_CRASHES,
    restarts: 0,
    lastExit: undefined,
    reason: "not started yet",
    phase: "down",
    deadline: undefined,
    kind: "free",
  };
}

/** What every phase has, for a phase that begins at `at`. */
export function enter(state: WorkerState, at: Instant, reason: string): Common {
  const { slot, incarnation, revision, crashes, restarts, lastExit } = state;
  return { slot, incarnation, revision, since: at, crashes, restarts, lastExit, reason };
}

/** Whether it has not been ready yet and no process of it was requested to stop. */
export function isStarting(state: WorkerState): state is QueuedState | SpawningState | BootingState {
  return state.phase === "queued" || state.phase === "spawning" || state.phase === "booting";
}

/** Whether its turn to start has come and it waits to be admitted. */
export function awaitsAdmission(state: WorkerState): state is QueuedState & { readonly deadline: undefined } {
  return state.phase === "queued" && state.deadline === undefined;
}

/** When the live process was spawned; undefined without one. */
export function bornAt(state: WorkerState): Instant | undefined {
  return "spawnedAt" in state ? state.spawnedAt : undefined;
}
