/**
 * What an operator requested of a pool: queued, running, done. Orders that change the pool as a whole wait for one
 * another, in the order in which they arrived; single workers are stopped and started at once. operations.ts carries
 * them out.
 */
import type { Instant } from "../../base/time.ts";
import type { OperationKind } from "../event.ts";
import type { Incarnation, Slot } from "../identity.ts";
import type { PoolSpec, PoolType } from "../spec.ts";
import type { WorkerState } from "../worker/state.ts";

/** `slots` undefined means every worker of the pool. */
export type Order =
  | { readonly kind: "restart"; readonly slots: readonly Slot[] | undefined }
  | { readonly kind: "stop"; readonly slots: readonly Slot[] | undefined }
  | { readonly kind: "start"; readonly slots: readonly Slot[] | undefined }
  | { readonly kind: "scale"; readonly replicas: number }
  /**
   * A new desired state; workers of an older revision are replaced. If that fails, the old state is desired again.
   * Replicas of 0 remove the pool. `keeps` stays as it is when the operation begins, whatever `spec` says.
   */
  | { readonly kind: "reload"; readonly spec: PoolSpec; readonly keeps?: readonly ("revision" | "replicas")[] };

/** The process that an operation is about. */
export interface Target {
  readonly slot: Slot;
  readonly incarnation: Incarnation;
}

export interface QueuedOperation {
  /** Unique; chosen by the caller. */
  readonly id: string;
  readonly order: Order;
  readonly reason: string;
}

export interface RunningOperation extends QueuedOperation {
  readonly startedAt: Instant;
  /** Targets that are not done. */
  readonly left: readonly Target[];
  readonly total: number;
  /** The desired state before it. */
  readonly previous: PoolSpec;
}

/** Whether it changes the pool as a whole, so that no other exclusive operation may run at the same time. */
export function isExclusive({ order }: Pick<QueuedOperation, "order">): boolean {
  return order.kind === "restart" || order.kind === "scale" || order.kind === "reload";
}

/** Whether a process that an operation started or works on lives in `slot`. */
export function concerns(operation: RunningOperation, slot: Slot): boolean {
  return isExclusive(operation) || operation.left.some((target) => target.slot === slot);
}

/**
 * Whether the failure of a process that was spawned at `bornAt` makes the operation fail: the process is younger than the
 * operation and, after a reload, was launched with the new specification.
 */
export function countsAgainst({ order, startedAt }: RunningOperation, bornAt: Instant, revision: number): boolean {
  if (order.kind === "stop" || bornAt < startedAt) return false;
  return order.kind !== "reload" || revision === order.spec.revision;
}

/** The kind for events. */
export function kindOf(operation: QueuedOperation): OperationKind {
  return operation.order.kind;
}

/** The processes that `order` is about, as things are when it begins. */
export function targetsOf(
  order: Order,
  workers: readonly WorkerState[],
  spec: Pick<PoolSpec, "revision" | "type">,
): readonly Target[] {
  return workers
    .filter((worker) => isTarget(order, worker, spec))
    .map(({ slot, incarnation }) => ({ slot, incarnation }));
}

function isTarget(order: Order, worker: WorkerState, { revision, type }: Pick<PoolSpec, "revision" | "type">): boolean {
  const isFree = worker.phase === "down" && worker.kind === "free";
  const canRun = (worker.phase !== "down" && worker.phase !== "backoff") || (type === "oneshot" && hasEnded(worker));
  switch (order.kind) {
    case "restart":
      return names(order.slots, worker.slot) && canRun;
    case "stop":
      return names(order.slots, worker.slot) && !isFree;
    case "start":
      return names(order.slots, worker.slot) && worker.phase === "down" && !isFree;
    case "scale":
      return false;
    case "reload":
      return canRun && worker.revision !== revision;
  }
}

/** Whether its last process exited by itself and no other follows; an operator's `stop` holds the others. */
export function hasEnded(worker: WorkerState): boolean {
  return worker.phase === "down" && worker.kind !== "free" && worker.kind !== "held";
}

function names(slots: readonly Slot[] | undefined, slot: Slot): boolean {
  return slots === undefined || slots.includes(slot);
}

/** Whether nothing is left to do about a target, given the slot as it is now. */
export function isTargetDone(order: Order, target: Target, worker: WorkerState, type: PoolType): boolean {
  switch (order.kind) {
    case "stop":
      return worker.phase === "down";
    case "start":
      if (worker.phase === "ready") return type === "service";
      return worker.phase === "down" && worker.kind === "completed";
    case "restart":
    case "scale":
    case "reload":
      return worker.incarnation !== target.incarnation || worker.phase === "down" || worker.phase === "backoff";
  }
}

/** The targets in `slots`, all if undefined; `targets` is ordered by slot. */
export function targetsIn(targets: readonly Target[], slots: ReadonlySet<Slot> | undefined): readonly Target[] {
  if (slots === undefined) return targets;
  const found: Target[] = [];
  for (const slot of slots) {
    const target = targets[lowerBound(targets, slot)];
    if (target?.slot === slot) found.push(target);
  }
  return found;
}

/** The index of the first target whose slot is not below `slot`. */
function lowerBound(targets: readonly Target[], slot: Slot): number {
  let [low, high] = [0, targets.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((targets[middle]?.slot ?? 0) < slot) low = middle + 1;
    else high = middle;
  }
  return low;
}
