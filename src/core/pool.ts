/**
 * The pool machine: slots, replicas and planned replacements of one command. It passes events to the worker machines
 * and then reconciles: starts what is missing, replaces what is due, within surge and unavailable bounds.
 */
import type { Instant } from "../base/time.ts";
import { formatDuration } from "../base/units.ts";
import type { WideLifecycleEvent } from "./event.ts";
import type { Slot } from "./identity.ts";
import { decideLifespanMs } from "./limits.ts";
import { decideReplacement, decideRoom, type Replacement } from "./rollout.ts";
import type { PoolSpec } from "./spec.ts";
import { EMPTY_TALLY, type PoolTally, tallyEvent } from "./tally.ts";
import {
  newWorker,
  type ReadyState,
  type StopOrder,
  stepWorker,
  type UnreadyState,
  type WorkerEffect,
  type WorkerEvent,
  type WorkerState,
} from "./worker.ts";

export interface PoolState {
  /** One state a slot: replicas + surge of them. */
  readonly workers: readonly WorkerState[];
  readonly replacements: readonly Replacement[];
  /** Before this instant no further worker starts at boot or on scaling up. */
  readonly nextStartAt: Instant;
  /** Set once the pool has to leave: nothing is started any more. */
  readonly leaving: boolean;
  /** Whether it was healthy once, so that the first boot is not reported as a recovery. */
  readonly wasHealthy: boolean | undefined;
  readonly tally: PoolTally;
}

export type PoolEvent =
  | { readonly kind: "boot"; readonly at: Instant; readonly random: number }
  | { readonly kind: "worker"; readonly slot: Slot; readonly event: WorkerEvent; readonly random: number }
  | { readonly kind: "leave"; readonly at: Instant; readonly order: StopOrder }
  | { readonly kind: "kill"; readonly at: Instant; readonly reason: string };

export type PoolEffect = WorkerEffect | { readonly kind: "tellWide"; readonly event: WideLifecycleEvent };

export interface PoolTransition {
  readonly state: PoolState;
  readonly effects: readonly PoolEffect[];
}

/** An empty pool. */
export function newPool(spec: PoolSpec, at: Instant): PoolState {
  const slots = spec.replicas + spec.rollout.maxSurge;
  return {
    workers: Array.from({ length: slots }, (_, slot) => newWorker(slot, at)),
    replacements: [],
    nextStartAt: at,
    leaving: false,
    wasHealthy: undefined,
    tally: EMPTY_TALLY,
  };
}

/** Decides what `event` means for the pool. */
export function stepPool(state: PoolState, event: PoolEvent, spec: PoolSpec): PoolTransition {
  const draft = new PoolDraft(state, spec);
  switch (event.kind) {
    case "boot":
      draft.reconcile(event.at, event.random);
      break;
    case "worker":
      if (event.event.kind === "start" && !mayStart(state, event.slot)) break;
      draft.send(event.slot, event.event);
      draft.reconcile(event.event.at, event.random);
      break;
    case "leave":
      draft.leaving = true;
      draft.replacements = [];
      for (const { slot } of state.workers) draft.send(slot, { kind: "stop", at: event.at, order: event.order });
      break;
    case "kill":
      draft.leaving = true;
      for (const { slot } of state.workers) draft.send(slot, { kind: "kill", at: event.at, reason: event.reason });
      break;
  }
  draft.judgeHealth();
  return draft.transition();
}

/** Whether an order to start makes sense: only for what an operator stopped or what gave up; free slots are the pool's. */
function mayStart(state: PoolState, slot: Slot): boolean {
  const worker = state.workers[slot];
  return !state.leaving && worker?.phase === "down" && worker.kind !== "free";
}

/** Workers in phase ready. */
export function countReady(state: PoolState): number {
  return count(state.workers, (worker) => worker.phase === "ready");
}

/** How many items match; pools have hundreds of slots and this runs at every event, so nothing is allocated. */
function count<T>(items: readonly T[], matches: (item: T) => boolean): number {
  let found = 0;
  for (const item of items) if (matches(item)) found++;
  return found;
}

/** Whether enough replicas are ready. */
export function isHealthy(state: PoolState, spec: PoolSpec): boolean {
  return countReady(state) * 100 >= spec.desiredHealthyPercentage * spec.replicas;
}

/** Whether no process of the pool is left and none is about to start. */
export function isEmpty(state: PoolState): boolean {
  return state.workers.every((worker) => worker.phase === "down");
}

/** Whether as many slots as there are replicas have used up their restarts and nothing runs beside them. */
export function hasGivenUp(state: PoolState, spec: PoolSpec): boolean {
  // A successor that gave up does not count against the predecessor that still runs.
  if (!isEmpty(state)) return false;
  return count(state.workers, (worker) => worker.phase === "down" && worker.kind === "gave-up") >= spec.replicas;
}

/** One step under way: a mutable copy that ends as a transition. */
class PoolDraft {
  leaving: boolean;
  replacements: readonly Replacement[];
  readonly #spec: PoolSpec;
  readonly #workers: WorkerState[];
  readonly #effects: PoolEffect[] = [];
  #nextStartAt: Instant;
  #wasHealthy: boolean | undefined;
  #tally: PoolTally;

  constructor(state: PoolState, spec: PoolSpec) {
    this.#spec = spec;
    this.#workers = [...state.workers];
    this.leaving = state.leaving;
    this.replacements = state.replacements;
    this.#nextStartAt = state.nextStartAt;
    this.#wasHealthy = state.wasHealthy;
    this.#tally = state.tally;
  }

  transition(): PoolTransition {
    return {
      state: {
        workers: this.#workers,
        replacements: this.replacements,
        nextStartAt: this.#nextStartAt,
        leaving: this.leaving,
        wasHealthy: this.#wasHealthy,
        tally: this.#tally,
      },
      effects: this.#effects,
    };
  }

  send(slot: Slot, event: WorkerEvent): void {
    const worker = this.#worker(slot);
    const { state, effects } = stepWorker(worker, event, this.#spec);
    this.#workers[slot] = state;
    for (const effect of effects) {
      if (effect.kind === "tell") this.#tally = tallyEvent(this.#tally, effect.event);
      this.#effects.push(effect);
    }
  }

  reconcile(at: Instant, random: number): void {
    if (this.leaving) return;
    for (const replacement of this.replacements) this.#follow(replacement, at, random);
    this.#replaceDue(at);
    this.#startMissing(at);
  }

  judgeHealth(): void {
    if (this.leaving) return;
    const ready = count(this.#workers, (worker) => worker.phase === "ready");
    const healthy = ready * 100 >= this.#spec.desiredHealthyPercentage * this.#spec.replicas;
    const reason = `${ready} of ${this.#spec.replicas} replicas are ready, ${this.#spec.desiredHealthyPercentage} % are wanted`;
    if (this.#wasHealthy === true && !healthy) this.#tellWide({ kind: "pool_degraded", pool: this.#spec.name, reason });
    if (this.#wasHealthy === false && healthy)
      this.#tellWide({ kind: "pool_recovered", pool: this.#spec.name, reason });
    if (healthy || this.#wasHealthy !== undefined) this.#wasHealthy = healthy;
  }

  #follow(replacement: Replacement, at: Instant, random: number): void {
    const { old, successor, reason } = replacement;
    const verdict = decideReplacement(replacement, this.#worker(old), this.#worker(successor));
    if (verdict.kind === "wait") return;
    this.replacements = this.replacements.filter((each) => each !== replacement);
    const pool = this.#spec.name;
    if (verdict.kind === "take-over") {
      const cause = this.#cause(old);
      this.send(old, {
        kind: "stop",
        at,
        order: { cause, reason: `${reason}, replaced by ${pool}-${successor}`, next: "down" },
      });
      this.#tally = {
        ...this.#tally,
        rollouts: { ...this.#tally.rollouts, finished: this.#tally.rollouts.finished + 1 },
      };
      this.#tellWide({ kind: "rollout_finished", pool, reason: `${pool}-${successor} took over from ${pool}-${old}` });
      return;
    }
    if (verdict.kind === "abort") {
      this.#tally = {
        ...this.#tally,
        rollouts: { ...this.#tally.rollouts, aborted: this.#tally.rollouts.aborted + 1 },
      };
      this.#tellWide({ kind: "rollout_aborted", pool, reason: `${pool}-${old} stays: ${verdict.reason}` });
      this.#postpone(old, at, random);
    }
    // A successor spends nobody's budget: its failure ends the replacement, not its slot and not the pool.
    const failed = this.#worker(successor);
    if (failed.phase === "down" && failed.kind === "gave-up") this.#workers[successor] = { ...failed, kind: "free" };
    // Either the successor failed, or it is one too many because the predecessor was restarted after a crash.
    if (verdict.kind === "abort" || this.#isInUse(this.#worker(old))) {
      this.send(successor, {
        kind: "stop",
        at,
        order: { cause: "rollout", reason: "its replacement is off", next: "down" },
      });
      this.#release(successor);
    }
  }

  /** A successor that used up its restarts is no replica that is missing: its slot is free for the next one. */
  #release(slot: Slot): void {
    const worker = this.#worker(slot);
    if (worker.phase === "down" && worker.kind === "gave-up") this.#workers[slot] = { ...worker, kind: "free" };
  }

  /** Gives a worker whose replacement failed another life span, so that the next try does not follow at once. */
  #postpone(slot: Slot, at: Instant, random: number): void {
    const worker = this.#worker(slot);
    if (worker.phase !== "ready" && worker.phase !== "unready") return;
    const lifespanMs = decideLifespanMs(this.#spec.limits, random);
    this.#workers[slot] = {
      ...worker,
      due: undefined,
      deadline: lifespanMs === undefined ? undefined : ((at + lifespanMs) as Instant),
    };
  }

  #replaceDue(at: Instant): void {
    const waiting: { worker: ReadyState | UnreadyState; due: NonNullable<ReadyState["due"]> }[] = [];
    for (const worker of this.#workers) {
      if (worker.phase !== "ready" && worker.phase !== "unready") continue;
      if (worker.due === undefined || this.replacements.some(({ old }) => old === worker.slot)) continue;
      waiting.push({ worker, due: worker.due });
    }
    waiting.sort((a, b) => a.due.at - b.due.at);
    for (const { worker, due } of waiting) {
      const leaving = count(this.#workers, (each) => this.#isLeavingForSuccessor(each));
      const missing = this.#spec.replicas - count(this.#workers, (each) => each.phase === "ready");
      const room = decideRoom(this.#spec.rollout, this.replacements.length + leaving, Math.max(0, missing));
      const reason = `${due.limit} limit: lived ${formatDuration(at - worker.spawnedAt)}`;
      const free = room.surge > 0 ? this.#freeSlot() : undefined;
      if (free !== undefined) {
        this.#startSuccessor(worker.slot, free, worker.incarnation, at, reason);
      } else if (room.inPlace > 0) {
        this.send(worker.slot, {
          kind: "stop",
          at,
          order: { cause: this.#cause(worker.slot), reason, next: "respawn" },
        });
      } else return;
    }
  }

  #startSuccessor(old: Slot, successor: Slot, oldIncarnation: number, at: Instant, reason: string): void {
    const pool = this.#spec.name;
    const successorIncarnation = this.#worker(successor).incarnation + 1;
    this.replacements = [...this.replacements, { old, oldIncarnation, successor, successorIncarnation, reason }];
    this.#tellWide({
      kind: "rollout_started",
      pool,
      reason: `${pool}-${old} is due (${reason}), ${pool}-${successor} starts`,
    });
    this.send(successor, { kind: "start", at, delayMs: 0, reason: `successor of ${pool}-${old}` });
  }

  #startMissing(at: Instant): void {
    const inUse = count(this.#workers, (worker) => this.#isInUse(worker));
    let missing = this.#spec.replicas + this.replacements.length - inUse;
    while (missing > 0) {
      const slot = this.#freeSlot();
      if (slot === undefined) return;
      const startAt = Math.max(at, this.#nextStartAt) as Instant;
      const delayMs = startAt - at;
      const reason = delayMs > 0 ? `waits ${formatDuration(delayMs)} for its turn` : "wanted by replicas";
      this.send(slot, { kind: "start", at, delayMs, reason });
      this.#nextStartAt = (startAt + this.#spec.startupWaitMs) as Instant;
      missing--;
    }
  }

  /** Counts as one of the replicas: anything but free and leaving slots. */
  #isInUse(worker: WorkerState): boolean {
    if (worker.phase === "down") return worker.kind !== "free";
    return !this.#isLeavingForSuccessor(worker);
  }

  #isLeavingForSuccessor(worker: WorkerState): boolean {
    const order = "order" in worker ? worker.order : worker.phase === "starting" ? worker.pendingStop : undefined;
    return order !== undefined && order.next === "down" && order.cause !== "operator";
  }

  #freeSlot(): Slot | undefined {
    return this.#workers.find((worker) => worker.phase === "down" && worker.kind === "free")?.slot;
  }

  #cause(slot: Slot): StopOrder["cause"] {
    const worker = this.#worker(slot);
    return "due" in worker && worker.due !== undefined ? worker.due.limit : "rollout";
  }

  #worker(slot: Slot): WorkerState {
    const worker = this.#workers[slot];
    if (worker === undefined) throw new RangeError(`pool "${this.#spec.name}" has no slot ${slot}`);
    return worker;
  }

  #tellWide(event: WideLifecycleEvent): void {
    this.#effects.push({ kind: "tellWide", event });
  }
}
