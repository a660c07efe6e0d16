/** Names of things. A slot is a place in a pool, an incarnation is the nth process that lived in it. */

/** Index of a pool, of workers or a proxy, in the state of the controller. A pool keeps it; no other pool gets it. */
export type PoolIndex = number;

/** Index of a place in a pool: 0 … replicas + standby + surge - 1. */
export type Slot = number;

/** The nth process of a slot, from 1. 0 means that no process has lived there yet. */
export type Incarnation = number;

/** One incarnation of a slot. Events and reports about a process refer to it. */
export interface WorkerRef {
  readonly pool: PoolIndex;
  readonly slot: Slot;
  readonly incarnation: Incarnation;
}

/** Stable id of the worker in a slot: `<pool>-<slot>`. */
export type WorkerId = string;

/**
 * Whether a text can be the name of a pool or the id of a worker. Such names mean nothing to shells, terminals, URLs and
 * file systems, so everything that comes as one over a connection is checked.
 */
export function isName(text: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/u.test(text);
}

/** The id of the worker in `slot` of `pool`. */
export function workerId(pool: string, slot: Slot): WorkerId {
  return `${pool}-${slot}`;
}

/** Key of a slot, for maps that hold its latest incarnation. */
export function slotKey({ pool, slot }: Pick<WorkerRef, "pool" | "slot">): string {
  return `${pool}/${slot}`;
}

/** Key of an incarnation, for maps that hold several of a slot. */
export function refKey({ pool, slot, incarnation }: WorkerRef): string {
  return `${pool}/${slot}/${incarnation}`;
}
