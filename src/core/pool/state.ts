/** The state of a pool, what happens to it, and what the driver must do about it. Plain data. */
import type { Instant } from "../../base/time.ts";
import type { WideLifecycleEvent } from "../event.ts";
import type { Slot } from "../identity.ts";
import { type LivenessHistory, NO_REPLACEMENTS } from "../policy/massFailure.ts";
import { maxSurgeOf, type Replacement } from "../policy/rollout.ts";
import type { PoolSpec } from "../spec.ts";
import { EMPTY_TALLY, type PoolTally } from "../tally.ts";
import type { WorkerEffect, WorkerEvent } from "../worker/event.ts";
import { newWorker, type StopOrder, type WorkerState } from "../worker/state.ts";
import type { Order, QueuedOperation, RunningOperation } from "./order.ts";
import { type Census, takeCensus } from "./roster.ts";

/** Whether workers may start. Once it is open, it stays open until the pool is removed. */
export type Gate =
  | { readonly isOpen: true }
  /** Closed at `since`. `isHopeless`: what it waits for will not happen by itself. */
  | { readonly isOpen: false; readonly since: Instant; readonly reason: string; readonly isHopeless: boolean };

export interface PoolState {
  /** What is desired. */
  readonly spec: PoolSpec;
  /** Closed while the pool waits for pools that it depends on. */
  readonly gate: Gate;
  /** When it was emptied because it failed to start; undefined once it is filled again. */
  readonly abandonedAt: Instant | undefined;
  /** One state per slot: replicas + standby + surge of them, more while a larger pool shrinks. */
  readonly workers: readonly WorkerState[];
  /** Of `workers`. */
  readonly census: Census;
  readonly replacements: readonly Replacement[];
  /** In the order in which they began; at most one of them is exclusive. */
  readonly running: readonly RunningOperation[];
  /** Operations that wait for an exclusive one. */
  readonly queue: readonly QueuedOperation[];
  /** Before this instant no further worker starts at boot or on scaling up. */
  readonly nextStartAt: Instant;
  /** Set once the pool stops for good: nothing is started any more. */
  readonly leaving: boolean;
  /** undefined until the pool was healthy once, so that the first boot is not reported as a recovery. */
  readonly wasHealthy: boolean | undefined;
  /**
   * Replicas that health is measured against: the desired number. After scaling up it stays the previous number until
   * enough of the new one were ready once, because the pool serves as well as before.
   */
  readonly measuredReplicas: number;
  /** Slots whose ready worker does not count for health, because it crashed repeatedly and may do so again. */
  readonly doubted: readonly Slot[];
  readonly tally: PoolTally;
  /** What replacements because of liveness have achieved so far. */
  readonly liveness: LivenessHistory;
  /** When to look again, because something waits for time to pass; undefined if nothing does. */
  readonly deadline: Instant | undefined;
}

/** Events carry the time; `random` is 0 … 1 for decisions that need chance. */
export type PoolEvent =
  /** Its deadline has passed. */
  | { readonly kind: "deadline"; readonly at: Instant; readonly random: number }
  | { readonly kind: "boot"; readonly at: Instant; readonly random: number }
  /** What it waits for has changed, or has happened. */
  | { readonly kind: "gate"; readonly at: Instant; readonly gate: Gate; readonly random: number }
  | { readonly kind: "worker"; readonly slot: Slot; readonly event: WorkerEvent; readonly random: number }
  | {
      readonly kind: "order";
      readonly at: Instant;
      readonly id: string;
      readonly order: Order;
      readonly reason: string;
      readonly random: number;
    }
  | { readonly kind: "leave"; readonly at: Instant; readonly order: StopOrder }
  | { readonly kind: "kill"; readonly at: Instant; readonly reason: string };

export type PoolEffect = WorkerEffect | { readonly kind: "emitWide"; readonly event: WideLifecycleEvent };

export interface PoolTransition {
  readonly state: PoolState;
  readonly effects: readonly PoolEffect[];
}

/** An empty pool. */
export function newPool(spec: PoolSpec, at: Instant): PoolState {
  const workers = Array.from({ length: slotCount(spec) }, (_, slot) => newWorker(slot, at));
  return {
    spec,
    gate: firstGate(spec, at),
    abandonedAt: undefined,
    workers,
    census: takeCensus(workers),
    replacements: [],
    running: [],
    queue: [],
    nextStartAt: at,
    leaving: false,
    wasHealthy: undefined,
    measuredReplicas: spec.replicas,
    doubted: [],
    tally: EMPTY_TALLY,
    liveness: NO_REPLACEMENTS,
    deadline: undefined,
  };
}

/** The gate of a pool that has not started: closed until the controller has looked at what it depends on. */
export function firstGate({ dependsOn }: PoolSpec, at: Instant): Gate {
  if (Object.keys(dependsOn).length === 0) return { isOpen: true };
  return { isOpen: false, since: at, reason: "", isHopeless: false };
}

/** How many slots a pool needs. */
export function slotCount(spec: PoolSpec): number {
  return spec.replicas + spec.standby + maxSurgeOf(spec.rollout, spec.replicas);
}

/** Whether no process of the pool is left and none is about to start. */
export function isEmpty(state: PoolState): boolean {
  return state.workers.every((worker) => worker.phase === "down");
}

/** Whether it is no longer desired and has no process left. */
export function isRemoved(pool: PoolState): boolean {
  return pool.spec.replicas === 0 && isEmpty(pool);
}

/**
 * The outcome of a pool without processes whose replicas will not start again by themselves. `completed`: all of them
 * completed. `failed`: one reached its restart limit or failed under `restart.policy: never`. undefined while it runs.
 */
export function outcomeOf(state: PoolState): "completed" | "failed" | undefined {
  // A successor that gave up does not count against the predecessor that still runs.
  if (!isEmpty(state) || state.spec.replicas === 0) return undefined;
  const { gaveUp, failed, completed } = state.census;
  if (gaveUp + failed + completed < state.spec.replicas) return undefined;
  return gaveUp + failed > 0 ? "failed" : "completed";
}
