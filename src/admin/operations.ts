/**
 * What operators asked of pools and what became of it: a log of bounded length, folded from lifecycle events. It decides
 * nothing; core/pool.ts carries operations out. The CLI folds the same events with `foldOperation`. Pure but for the
 * clock it is given.
 */
import type { LifecycleEvent, WideLifecycleEvent } from "../core/event.ts";
import type { Operation } from "./api.ts";

/** Operations that are kept; of more, the oldest that have ended are forgotten first. */
const KEPT_OPERATIONS = 200;

/** An event that tells about an operation. */
export type OperationEvent = Extract<WideLifecycleEvent, { operation: string }>;

/** Whether `event` tells about an operation. */
export function isOperationEvent<Event extends LifecycleEvent>(event: Event): event is Event & OperationEvent {
  return "operation" in event;
}

/** Whether nothing more will happen to it. */
export function hasEnded(operation: Operation): boolean {
  return operation.state === "succeeded" || operation.state === "failed";
}

/** The operation after `event`; `time` is the event's, ISO 8601 in UTC. */
export function foldOperation(before: Operation | undefined, event: OperationEvent, time: string): Operation {
  const { operation: id, pool, what, done, total } = event;
  // The reason of a failure is why it failed; the operation keeps the reason it was asked for.
  const reason = before?.reason ?? event.reason;
  const startedAt = before?.started_at ?? null;
  const common = { id, pool, what, done, total, reason };
  switch (event.kind) {
    case "operation_queued":
      return { ...common, state: "queued", started_at: null, ended_at: null };
    case "operation_started":
      return { ...common, state: "running", started_at: time, ended_at: null };
    case "operation_progressed":
      return { ...common, state: "running", started_at: startedAt, ended_at: null };
    case "operation_finished":
      return { ...common, state: "succeeded", started_at: startedAt, ended_at: time };
    case "operation_failed":
      return { ...common, state: "failed", error: event.reason, started_at: startedAt, ended_at: time };
  }
}

export class OperationLog {
  /** By id, oldest first. */
  readonly #operations = new Map<string, Operation>();
  readonly #wallClock: () => Date;

  constructor(wallClock: () => Date) {
    this.#wallClock = wallClock;
  }

  /** Takes what happened; anything but news of operations is passed over. */
  handle(event: LifecycleEvent): void {
    if (!isOperationEvent(event)) return;
    const before = this.#operations.get(event.operation);
    this.#operations.set(event.operation, foldOperation(before, event, this.#wallClock().toISOString()));
    if (this.#operations.size > KEPT_OPERATIONS) this.#forgetOne();
  }

  /** The operation with this id; undefined where there was none or it is forgotten. */
  get(id: string): Operation | undefined {
    return this.#operations.get(id);
  }

  /** All that are kept, oldest first. */
  list(): readonly Operation[] {
    return [...this.#operations.values()];
  }

  /** Those that have not ended, oldest first. */
  pending(): readonly Operation[] {
    return this.list().filter((operation) => !hasEnded(operation));
  }

  #forgetOne(): void {
    const all = this.list();
    const oldest = all.find(hasEnded) ?? all[0];
    if (oldest !== undefined) this.#operations.delete(oldest.id);
  }
}
