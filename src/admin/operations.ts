/**
 * The operations that operators requested and their outcomes: a bounded log, folded from lifecycle events. It decides
 * nothing; core/pool.ts carries operations out. The CLI folds the same events with `foldOperation`. Pure except for the
 * clock passed in.
 */
import type { LifecycleEvent, WideLifecycleEvent } from "../core/event.ts";
import type { Operation } from "./api.ts";

/** Maximum number of operations kept. Beyond it, the oldest finished operation is dropped first. */
const KEPT_OPERATIONS = 200;

/** An event that reports on an operation. */
export type OperationEvent = Extract<WideLifecycleEvent, { operation: string }>;

/** Whether `event` reports on an operation. */
export function isOperationEvent<Event extends LifecycleEvent>(event: Event): event is Event & OperationEvent {
  return "operation" in event;
}

/** Whether the operation has succeeded or failed. */
export function hasEnded(operation: Operation): boolean {
  return operation.state === "succeeded" || operation.state === "failed";
}

/** The operation after `event`; `time` is when the event occurred, ISO 8601 in UTC. */
export function foldOperation(before: Operation | undefined, event: OperationEvent, time: string): Operation {
  const { operation: id, pool, what, done, total } = event;
  // A failure event's reason explains the failure; the operation keeps the reason it was requested for.
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

  /** Records an event; ignores events that do not report on an operation. */
  handle(event: LifecycleEvent): void {
    if (!isOperationEvent(event)) return;
    const before = this.#operations.get(event.operation);
    this.#operations.set(event.operation, foldOperation(before, event, this.#wallClock().toISOString()));
    if (this.#operations.size > KEPT_OPERATIONS) this.#forgetOne();
  }

  /** The operation with this id; undefined if it never existed or was dropped. */
  get(id: string): Operation | undefined {
    return this.#operations.get(id);
  }

  /** All kept operations, oldest first. */
  list(): readonly Operation[] {
    return [...this.#operations.values()];
  }

  /** Operations that have not finished, oldest first. */
  pending(): readonly Operation[] {
    return this.list().filter((operation) => !hasEnded(operation));
  }

  #forgetOne(): void {
    const all = this.list();
    const oldest = all.find(hasEnded) ?? all[0];
    if (oldest !== undefined) this.#operations.delete(oldest.id);
  }
}
