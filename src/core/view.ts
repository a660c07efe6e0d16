/**
 * The immutable read model: what metrics, API, CLI, dashboard and Envoy's endpoints know about the controller. Only
 * viewOf.ts produces it.
 */
import type { Instant } from "../base/time.ts";
import type { OperationKind } from "./event.ts";
import type { ExitStatus } from "./exit.ts";
import type { Incarnation, Slot, WorkerId } from "./identity.ts";
import type { PoolType } from "./spec.ts";
import type { PoolTally } from "./tally.ts";

/** Phases of a worker as operators see them. A run of a oneshot pool is running until it has completed. */
export const PHASES = [
  "down",
  "starting",
  "ready",
  "running",
  "unready",
  "draining",
  "stopping",
  "backoff",
  "completed",
] as const;
export type Phase = (typeof PHASES)[number];

/** Phases of the controller. */
export const CONTROLLER_PHASES = ["booting", "running", "leaving", "draining", "stopping", "stopped"] as const;
export type ControllerPhase = (typeof CONTROLLER_PHASES)[number];

export interface WorkerView {
  readonly id: WorkerId;
  readonly pool: string;
  readonly slot: Slot;
  readonly phase: Phase;
  readonly incarnation: Incarnation;
  /** What the process was launched with (PoolSpec.revision). */
  readonly revision: number;
  /** Process id of the live process; undefined without one. */
  readonly pid: number | undefined;
  /** When the current phase began. */
  readonly since: Instant;
  /** When the live process was spawned; undefined without one. */
  readonly spawnedAt: Instant | undefined;
  /** When the next planned change happens (restart, kill, replacement); undefined if none is planned. */
  readonly deadline: Instant | undefined;
  /** Whether it becomes ready at the deadline, because it has no probe and has run long enough by then. */
  readonly isProving?: boolean;
  /** Whether it is a standby worker: ready, without requests. */
  readonly isStandby: boolean;
  /** Behind a proxy: since when its probes pass, while it waits until the proxy balances over it. */
  readonly answeredAt: Instant | undefined;
  /** Whether it serves although its liveness probe fails, because too many workers fail (policy/massFailure.ts). */
  readonly servesInPanic: boolean;
  /** Requests in flight while it drains; undefined in any other phase. */
  readonly inFlight: number | undefined;
  /** Unplanned restarts of this slot since the controller started. */
  readonly restarts: number;
  /** How the previous process ended; undefined if none has. */
  readonly lastExit: ExitStatus | undefined;
  /** Why the worker is in this phase: a clause. */
  readonly reason: string;
}

/** An operation in progress. */
export interface OperationView {
  readonly id: string;
  readonly what: OperationKind;
  readonly done: number;
  readonly total: number;
  readonly startedAt: Instant;
}

export interface PoolView {
  /** Identifies the pool in the driver; never reused. */
  readonly index: number;
  readonly name: string;
  readonly role: "workers" | "proxy";
  /** The pool behind this proxy; undefined for workers. */
  readonly fronts: string | undefined;
  readonly type: PoolType;
  /** What it waits for before its first worker starts: a clause; undefined once that has happened. */
  readonly waitsFor: string | undefined;
  readonly replicas: number;
  /** Desired standby workers. */
  readonly standby: number;
  /** Ready workers, without standby workers. */
  readonly readyCount: number;
  /** Workers that completed (`restart.policy`, a oneshot pool), which health does not count as missing. */
  readonly completedCount: number;
  /** Percentage of replicas that must be ready for the pool to be healthy: 0 … 100. */
  readonly desiredHealthyPercentage: number;
  readonly healthy: boolean;
  /** Every slot that is or was in use, ordered by slot. */
  readonly workers: readonly WorkerView[];
  /** Operations in progress. */
  readonly operations: readonly OperationView[];
  /** Totals since the controller started, folded from lifecycle events. */
  readonly tally: PoolTally;
}

export interface ControllerView {
  readonly phase: ControllerPhase;
  readonly startedAt: Instant;
  /** Whether every pool is healthy. */
  readonly healthy: boolean;
  /** Whether it may receive traffic: running and healthy. */
  readonly ready: boolean;
  /** TERM, INT and API shutdowns received. */
  readonly shutdownRequests: number;
  readonly pools: readonly PoolView[];
}
