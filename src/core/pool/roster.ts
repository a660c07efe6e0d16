/**
 * The workers of a pool while one event is handled, with their census: how many are in which situation. Keeping the
 * numbers as workers change makes an event of a large pool as cheap as one of a small pool.
 */
import type { Slot } from "../identity.ts";
import { awaitsAdmission, type Due, type ReadyState, type UnreadyState, type WorkerState } from "../worker/state.ts";

/** Numbers of workers by situation; a worker counts in every row that fits. */
export interface Census {
  /** Ready and not a standby worker. */
  readonly serving: number;
  readonly standby: number;
  /** Ready or unready: was ready once. */
  readonly arrived: number;
  /** Does not start again by itself: stopped by an operator, gave up, completed or failed. */
  readonly absent: number;
  readonly completed: number;
  readonly gaveUp: number;
  readonly failed: number;
  /** Stops for good, and not because of an operator who may want it back. */
  readonly leaving: number;
  /** Counts as one of the replicas: neither free nor leaving. */
  readonly inUse: number;
  /** Not down, and not stopping because there were too many. */
  readonly occupied: number;
  /** One of the replicas that has, or once had, a process. */
  readonly launched: number;
  /** Its turn to start has come, and it waits to be admitted. */
  readonly waiting: number;
  /** Was admitted, and has been neither ready nor failed since. */
  readonly booting: number;
  /** Must be replaced, for any reason. */
  readonly due: number;
  /** Must be replaced because its liveness fails. */
  readonly hung: number;
  /** Ready after repeated crashes. */
  readonly crashedRepeatedly: number;
}

type Situation = keyof Census;

const SITUATIONS: { readonly [S in Situation]: (worker: WorkerState) => boolean } = {
  serving: isServing,
  standby: isStandby,
  arrived: ({ phase }) => phase === "ready" || phase === "unready",
  absent: (worker) => worker.phase === "down" && worker.kind !== "free",
  completed: (worker) => worker.phase === "down" && worker.kind === "completed",
  gaveUp: (worker) => worker.phase === "down" && worker.kind === "gave-up",
  failed: (worker) => worker.phase === "down" && worker.kind === "failed",
  leaving: isLeaving,
  inUse: isInUse,
  occupied: (worker) => worker.phase !== "down" && !("order" in worker && worker.order.cause === "scale"),
  launched: (worker) => isInUse(worker) && worker.incarnation > (worker.phase === "spawning" ? 1 : 0),
  waiting: awaitsAdmission,
  booting: ({ phase }) => phase === "spawning" || phase === "booting",
  due: (worker) => (worker.phase === "ready" || worker.phase === "unready") && dueOf(worker) !== undefined,
  hung: isHung,
  crashedRepeatedly: (worker) => worker.phase === "ready" && worker.crashes.streak >= 2,
};

const ROWS = Object.entries(SITUATIONS) as [Situation, (worker: WorkerState) => boolean][];

type Counts = { -readonly [S in Situation]: number };

function add(counts: Counts, worker: WorkerState, one: 1 | -1): void {
  for (const [situation, fits] of ROWS) if (fits(worker)) counts[situation] += one;
}

/** The census of `workers`, counted from nothing. */
export function takeCensus(workers: readonly WorkerState[]): Census {
  const counts = Object.fromEntries(ROWS.map(([situation]) => [situation, 0])) as Counts;
  for (const worker of workers) add(counts, worker, 1);
  return counts;
}

/** Whether it is ready and receives requests. */
export function isServing(worker: WorkerState): worker is ReadyState & { readonly isStandby: false } {
  return worker.phase === "ready" && !worker.isStandby;
}

/** Whether it is a ready standby worker. */
export function isStandby(worker: WorkerState): worker is ReadyState & { readonly isStandby: true } {
  return worker.phase === "ready" && worker.isStandby;
}

/** Whether it counts as one of the replicas: any worker but a free or leaving one. */
export function isInUse(worker: WorkerState): boolean {
  return worker.phase === "down" ? worker.kind !== "free" : !isLeaving(worker);
}

function isLeaving(worker: WorkerState): boolean {
  const order = "order" in worker ? worker.order : worker.phase === "spawning" ? worker.pendingStop : undefined;
  return order !== undefined && order.next === "down" && order.cause !== "operator" && order.ends === undefined;
}

/** Whether its liveness fails. */
export function isHung(worker: WorkerState): worker is UnreadyState {
  return worker.phase === "unready" && worker.liveness !== undefined;
}

/** Why a worker must be replaced; failed liveness takes precedence. */
export function dueOf(worker: ReadyState | UnreadyState): Due | undefined {
  if (isHung(worker) && worker.liveness !== undefined) return { cause: "liveness", ...worker.liveness };
  return worker.due;
}

/** A mutable copy of a pool's workers. */
export class Roster implements Iterable<WorkerState> {
  readonly workers: WorkerState[];
  readonly #census: Counts;
  /** No slot below it is free. */
  #firstFree = 0;
  #changed: Set<Slot> | undefined = new Set();

  constructor(workers: readonly WorkerState[], census: Census) {
    this.workers = [...workers];
    this.#census = { ...census };
  }

  get census(): Census {
    return this.#census;
  }

  [Symbol.iterator](): Iterator<WorkerState> {
    return this.workers[Symbol.iterator]();
  }

  /** @throws RangeError if there is no such slot */
  at(slot: Slot): WorkerState {
    const worker = this.workers[slot];
    if (worker === undefined) throw new RangeError(`there is no slot ${slot}`);
    return worker;
  }

  /** Replaces the state of `worker.slot`, or adds the slot after the last one. */
  set(worker: WorkerState): void {
    const { slot } = worker;
    const before = this.workers[slot];
    if (before === worker) return;
    if (before !== undefined) add(this.#census, before, -1);
    add(this.#census, worker, 1);
    this.workers[slot] = worker;
    this.#changed?.add(slot);
    if (slot < this.#firstFree) this.#firstFree = slot;
  }

  /** The lowest slot that is free. */
  freeSlot(): Slot | undefined {
    for (let slot = this.#firstFree; slot < this.workers.length; slot++) {
      this.#firstFree = slot;
      const worker = this.workers[slot];
      if (worker?.phase === "down" && worker.kind === "free") return slot;
    }
    return undefined;
  }

  /** From now on `takeChanged` reports every slot once. */
  markAllChanged(): void {
    this.#changed = undefined;
  }

  /** The slots that changed since the last call; undefined stands for all. */
  takeChanged(): ReadonlySet<Slot> | undefined {
    const changed = this.#changed;
    this.#changed = new Set();
    return changed;
  }
}
