/**
 * Decides whether a worker is ready. Six sources may object: its own readiness (probes, or whether it is seen serving), a
 * foreign process that listens at its address, a socket that the proxy must not use, a shared socket of its pool whose
 * connections no worker accepts, sockets of its own that it has closed, and its report that it is stopping. A worker is
 * ready when no source objects.
 */
import { type PoolIndex, slotKey, type WorkerRef } from "../../core/identity.ts";

/** In the order above. */
export type ObjectionSource = "readiness" | "owner" | "socket" | "queue" | "closed" | "stopping";

/** Notified of each change. */
export interface ReadinessListener {
  becameReady(worker: WorkerRef): void;
  becameUnready(worker: WorkerRef, reason: string): void;
}

interface Entry {
  readonly worker: WorkerRef;
  readonly objections: Map<ObjectionSource, string>;
}

export class ReadinessGate {
  readonly #listener: ReadinessListener;
  readonly #entries = new Map<string, Entry>();
  /** Why no worker of a pool is ready. */
  readonly #stalled = new Map<PoolIndex, string>();

  constructor(listener: ReadinessListener) {
    this.#listener = listener;
  }

  /** A worker was spawned and is not ready. It replaces an earlier worker of its slot. */
  begin(worker: WorkerRef): void {
    const objections = new Map<ObjectionSource, string>([["readiness", "starting"]]);
    const stalled = this.#stalled.get(worker.pool);
    if (stalled !== undefined) objections.set("queue", stalled);
    this.#entries.set(slotKey(worker), { worker, objections });
  }

  /** The worker is draining, stopping or has exited. */
  forget(worker: WorkerRef): void {
    if (this.#find(worker) !== undefined) this.#entries.delete(slotKey(worker));
  }

  isReady(worker: WorkerRef): boolean {
    return this.#find(worker)?.objections.size === 0;
  }

  object(worker: WorkerRef, source: ObjectionSource, reason: string): void {
    const entry = this.#find(worker);
    if (entry === undefined) return;
    const wasReady = entry.objections.size === 0;
    entry.objections.set(source, reason);
    if (wasReady) this.#listener.becameUnready(worker, reason);
  }

  withdraw(worker: WorkerRef, source: ObjectionSource): void {
    const entry = this.#find(worker);
    if (entry?.objections.delete(source) === true && entry.objections.size === 0) this.#listener.becameReady(worker);
  }

  /** The worker counts as ready because it has survived. The listener is notified only if another objection stands. */
  accept(worker: WorkerRef): void {
    if (this.#find(worker)?.objections.delete("readiness") === true) this.repeat(worker);
  }

  /** The worker counts as ready: notifies the listener of an objection that was made while it was still starting. */
  repeat(worker: WorkerRef): void {
    const [reason] = this.#find(worker)?.objections.values() ?? [];
    if (reason !== undefined) this.#listener.becameUnready(worker, reason);
  }

  /** Why no worker of the pool accepts connections from a shared socket; undefined if one accepts them again. */
  setStalled(pool: PoolIndex, reason: string | undefined): void {
    if (reason === undefined) this.#stalled.delete(pool);
    else this.#stalled.set(pool, reason);
    for (const { worker } of [...this.#entries.values()].filter(({ worker: each }) => each.pool === pool))
      if (reason === undefined) this.withdraw(worker, "queue");
      else this.object(worker, "queue", reason);
  }

  #find(worker: WorkerRef): Entry | undefined {
    const entry = this.#entries.get(slotKey(worker));
    return entry?.worker.incarnation === worker.incarnation ? entry : undefined;
  }
}
