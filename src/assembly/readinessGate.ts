/**
 * Puts together what decides whether a worker is ready: its own readiness, by its probes or by what is seen of it; that
 * nobody else listens where it does; and that somebody accepts from the shared sockets of its pool. A worker is ready when
 * there is no objection.
 */
import type { Incarnation, Slot } from "../core/identity.ts";

/** One incarnation of a worker; the pool by its index. */
export type WorkerKey = readonly [pool: number, slot: Slot, incarnation: Incarnation];

/** Who may object: the worker's own readiness, a stranger at its address, the accept queue of its pool. */
export type ObjectionSource = "readiness" | "owner" | "queue";

/** Gets each change. */
export interface ReadinessListener {
  becameReady(...worker: WorkerKey): void;
  becameUnready(...worker: readonly [...WorkerKey, reason: string]): void;
}

interface Entry {
  readonly worker: WorkerKey;
  readonly objections: Map<ObjectionSource, string>;
}

export class ReadinessGate {
  readonly #listener: ReadinessListener;
  readonly #entries = new Map<string, Entry>();
  /** Why nobody of a pool is ready, by its index. */
  readonly #stalled = new Map<number, string>();

  constructor(listener: ReadinessListener) {
    this.#listener = listener;
  }

  /** A worker begins, and is not ready. An earlier one of the slot is forgotten. */
  begin(worker: WorkerKey): void {
    const [pool] = worker;
    const objections = new Map<ObjectionSource, string>([["readiness", "starting"]]);
    const stalled = this.#stalled.get(pool);
    if (stalled !== undefined) objections.set("queue", stalled);
    this.#entries.set(keyOf(worker), { worker, objections });
  }

  /** The worker leaves or is gone. */
  forget(worker: WorkerKey): void {
    if (this.#find(worker) !== undefined) this.#entries.delete(keyOf(worker));
  }

  isReady(worker: WorkerKey): boolean {
    return this.#find(worker)?.objections.size === 0;
  }

  /** Why it is not ready; undefined where it is, or is not known. */
  objectionTo(worker: WorkerKey): string | undefined {
    return this.#find(worker)?.objections.values().next().value;
  }

  object(worker: WorkerKey, source: ObjectionSource, reason: string): void {
    const entry = this.#find(worker);
    if (entry === undefined) return;
    const wasReady = entry.objections.size === 0;
    entry.objections.set(source, reason);
    if (wasReady) this.#listener.becameUnready(...worker, reason);
  }

  withdraw(worker: WorkerKey, source: ObjectionSource): void {
    const entry = this.#find(worker);
    if (entry?.objections.delete(source) === true && entry.objections.size === 0) this.#listener.becameReady(...worker);
  }

  /** The worker counts as ready because it has survived: nothing is told unless another objection stands. */
  accept(worker: WorkerKey): void {
    const entry = this.#find(worker);
    if (entry?.objections.delete("readiness") !== true) return;
    const [reason] = entry.objections.values();
    if (reason !== undefined) this.#listener.becameUnready(...worker, reason);
  }

  /** Nobody accepts from a socket of the pool. */
  stall(pool: number, reason: string): void {
    this.#stalled.set(pool, reason);
    for (const worker of this.#of(pool)) this.object(worker, "queue", reason);
  }

  /** Somebody accepts again. */
  resume(pool: number): void {
    this.#stalled.delete(pool);
    for (const worker of this.#of(pool)) this.withdraw(worker, "queue");
  }

  #of(pool: number): readonly WorkerKey[] {
    return [...this.#entries.values()].map(({ worker }) => worker).filter(([each]) => each === pool);
  }

  #find(worker: WorkerKey): Entry | undefined {
    const entry = this.#entries.get(keyOf(worker));
    return entry?.worker[2] === worker[2] ? entry : undefined;
  }
}

function keyOf([pool, slot]: WorkerKey): string {
  return `${pool}/${slot}`;
}
