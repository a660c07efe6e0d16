/**
 * The immutable read model: what metrics, API, CLI, dashboard and traffic configuration know about the controller.
 * Produced by core/controller.ts after each event; nobody else builds one.
 */
import type { Instant } from "../base/time.ts";
import type { OperationKind } from "./event.ts";
import type { ExitStatus } from "./exit.ts";
import type { Incarnation, Slot, WorkerId } from "./identity.ts";
import type { PoolTally } from "./tally.ts";

/** Phases of a worker as an operator sees them. */
export const PHASES = ["down", "starting", "ready", "unready", "draining", "stopping", "backoff"] as const;
export type Phase = (typeof PHASES)[number];

/** Phases of the controller. */
export type ControllerPhase = "booting" | "running" | "leaving" | "draining" | "stopping" | "stopped";

export interface WorkerView {
  readonly id: WorkerId;
  readonly pool: string;
  readonly slot: Slot;
  readonly phase: Phase;
  readonly incarnation: Incarnation;
  /** What the process was launched with (PoolSpec.revision). */
  readonly revision: number;
  /** Process id of the live process; undefined where there is none. */
  readonly pid: number | undefined;
  /** When the present phase began. */
  readonly since: Instant;
  /** When the live process was spawned; undefined where there is none. */
  readonly spawnedAt: Instant | undefined;
  /** What happens next and when (restart, kill, recycle); undefined where nothing is planned. */
  readonly deadline: Instant | undefined;
  /** Whether it becomes ready when the deadline comes, because it has no probe and has run long enough by then. */
  readonly isProving?: boolean;
  /** Whether it is kept in reserve: ready, but out of the balance. */
  readonly isSpare: boolean;
  /** Behind a proxy: since when its probes pass, while it waits until the proxy balances over it. */
  readonly answeredAt: Instant | undefined;
  /** Whether it serves although its liveness probe fails, because too many workers fail (policy/massFailure.ts). */
  readonly servesInPanic: boolean;
  /** Requests it still works on while it drains; undefined in any other phase. */
  readonly inFlight: number | undefined;
  /** Unplanned restarts of this slot since the controller started. */
  readonly restarts: number;
  /** How the previous process ended; undefined where none has. */
  readonly lastExit: ExitStatus | undefined;
  /** Why the worker is in this phase, one sentence part. */
  readonly reason: string;
}

/** What an operator asked for and is being done. */
export interface OperationView {
  readonly id: string;
  readonly what: OperationKind;
  readonly done: number;
  readonly total: number;
  readonly startedAt: Instant;
}

export interface PoolView {
  /** By which the daemon knows the pool; never used again for another one. */
  readonly index: number;
  readonly name: string;
  readonly role: "workers" | "proxy";
  /** The pool this proxy stands in front of; undefined for workers. */
  readonly fronts: string | undefined;
  readonly replicas: number;
  /** Workers to be kept in reserve beside them. */
  readonly standby: number;
  /** Workers in phase ready that are not in reserve. */
  readonly readyCount: number;
  /** Workers that completed (`restart.policy`), which health does not count as missing. */
  readonly completedCount: number;
  /** Percentage of replicas that must be ready for the pool to be healthy: 0 … 100. */
  readonly desiredHealthyPercentage: number;
  readonly healthy: boolean;
  /** Every slot that is in use or has been; ordered by slot. */
  readonly workers: readonly WorkerView[];
  /** What operators asked for and is being done. */
  readonly operations: readonly OperationView[];
  /** Totals since the controller started, folded from lifecycle events. */
  readonly tally: PoolTally;
}

export interface ControllerView {
  readonly phase: ControllerPhase;
  readonly startedAt: Instant;
  /** Whether every pool is healthy. */
  readonly healthy: boolean;
  /** Whether traffic may come: running and healthy. */
  readonly ready: boolean;
  /** TERM, INT and API shutdowns received. */
  readonly shutdownRequests: number;
  readonly pools: readonly PoolView[];
}
