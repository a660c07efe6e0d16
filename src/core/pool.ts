/**
 * The pool machine: slots, replicas, planned replacements and what operators ask of one command. It passes events to the
 * worker machines and then reconciles what is with what is desired: starts what is missing, stops what is too much,
 * replaces what is due, within surge and unavailable bounds.
 */
import { after, type Instant } from "../base/time.ts";
import { formatDuration } from "../base/units.ts";
import type { ReplaceReason, WideLifecycleEvent } from "./event.ts";
import type { Incarnation, Slot } from "./identity.ts";
import { decideLifespanMs } from "./limits.ts";
import {
  acceptProof,
  decideLivenessReplacements,
  isPanic,
  type LivenessHistory,
  NO_REPLACEMENTS,
} from "./massFailure.ts";
import {
  isExclusive,
  isTargetDone,
  kindOf,
  type Order,
  type QueuedOperation,
  type RunningOperation,
  type Target,
  targetsIn,
  targetsOf,
} from "./operation.ts";
import { doubtedUntil, proofDueAt } from "./proof.ts";
import { decideReplacement, decideRoom, type Replacement, type RolloutRoom } from "./rollout.ts";
import { type Census, dueOf, isHung, isInUse, isServing, isSpare, Roster, takeCensus } from "./roster.ts";
import type { PoolSpec } from "./spec.ts";
import { EMPTY_TALLY, type PoolTally, tallyEvent } from "./tally.ts";
import {
  type Due,
  newWorker,
  type ReadyState,
  type StopOrder,
  stepWorker,
  type UnreadyState,
  type WorkerEffect,
  type WorkerEvent,
  type WorkerState,
} from "./worker.ts";

/** Multiples of it, modulo 1, lie evenly in 0 … 1 however many there are. */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;

export interface PoolState {
  /** What is desired. */
  readonly spec: PoolSpec;
  /** One state a slot: replicas + standby + surge of them, more while a pool that was larger shrinks. */
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
  /** Set once the pool has to leave: nothing is started any more. */
  readonly leaving: boolean;
  /** Whether it was healthy once, so that the first boot is not reported as a recovery. */
  readonly wasHealthy: boolean | undefined;
  /**
   * Replicas that health is measured against: those desired or, after more were asked for, those desired before, until
   * enough of the new number were ready once. Who serves as well as before is not unhealthy because more are to come.
   */
  readonly measuredReplicas: number;
  /** Slots whose ready worker does not count for health, because it crashed repeatedly and may do so again. */
  readonly doubted: readonly Slot[];
  readonly tally: PoolTally;
  /** What replacements for liveness have brought so far. */
  readonly liveness: LivenessHistory;
  /** When to look again, because something waits for time to pass; undefined where nothing does. */
  readonly deadline: Instant | undefined;
}

export type PoolEvent =
  /** Its deadline has come. */
  | { readonly kind: "deadline"; readonly at: Instant; readonly random: number }
  | { readonly kind: "boot"; readonly at: Instant; readonly random: number }
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

export type PoolEffect = WorkerEffect | { readonly kind: "tellWide"; readonly event: WideLifecycleEvent };

export interface PoolTransition {
  readonly state: PoolState;
  readonly effects: readonly PoolEffect[];
}

/** An empty pool. */
export function newPool(spec: PoolSpec, at: Instant): PoolState {
  const workers = Array.from({ length: slotCount(spec) }, (_, slot) => newWorker(slot, at));
  return {
    spec,
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

function slotCount(spec: PoolSpec): number {
  return spec.replicas + spec.standby + spec.rollout.maxSurge;
}

/** Decides what `event` means for the pool. */
export function stepPool(state: PoolState, event: PoolEvent): PoolTransition {
  const draft = new PoolDraft(state);
  switch (event.kind) {
    case "boot":
    case "deadline":
      draft.lookAtAll();
      draft.reconcile(event.at, event.random);
      break;
    case "worker":
      draft.send(event.slot, event.event);
      draft.reconcile(event.event.at, event.random);
      break;
    case "order":
      draft.enqueue({ id: event.id, order: event.order, reason: event.reason });
      draft.reconcile(event.at, event.random);
      break;
    case "leave":
      draft.leave();
      for (const { slot } of state.workers) draft.send(slot, { kind: "stop", at: event.at, order: event.order });
      break;
    case "kill":
      draft.leave();
      for (const { slot } of state.workers) draft.send(slot, { kind: "kill", at: event.at, reason: event.reason });
      break;
  }
  draft.judgeHealth("at" in event ? event.at : event.event.at);
  return draft.transition();
}

/** Workers in phase ready, without those in reserve. */
export function countReady(state: PoolState): number {
  return state.census.serving;
}

/** Whether it serves on although its liveness probe says no: most fail, and it is not being replaced yet. */
export function servesInPanic(state: PoolState, worker: WorkerState): boolean {
  const isDoubted = worker.phase === "unready" && worker.liveness !== undefined && worker.readiness === "passing";
  if (!isDoubted || state.replacements.some(({ old }) => old === worker.slot)) return false;
  return isPanic(countReady(state), state.measuredReplicas);
}

/** How many items match; pools have hundreds of slots and this runs at every event, so nothing is allocated. */
function count<T>(items: readonly T[], matches: (item: T) => boolean): number {
  let found = 0;
  for (const item of items) if (matches(item)) found++;
  return found;
}

/** Whether enough replicas are ready and not in a crash loop. */
export function isHealthy(state: PoolState): boolean {
  const { workers, census, doubted, measuredReplicas, spec } = state;
  return isEnough(countHealthy(workers, census, doubted), measuredReplicas - census.completed, spec);
}

/** Workers that serve and are not in a crash loop. */
function countHealthy(workers: readonly WorkerState[], census: Census, doubted: readonly Slot[]): number {
  return census.serving - count(doubted, (slot) => workers[slot] !== undefined && isServing(workers[slot]));
}

function isEnough(ready: number, replicas: number, { desiredHealthyPercentage }: PoolSpec): boolean {
  return ready * 100 >= desiredHealthyPercentage * replicas;
}

/** Whether no process of the pool is left and none is about to start. */
export function isEmpty(state: PoolState): boolean {
  return state.workers.every((worker) => worker.phase === "down");
}

/**
 * The outcome of a pool without processes whose replicas will not start again by themselves. `completed`: all of them
 * completed. `failed`: one used up its restarts or failed under `restart.policy: never`. undefined while the pool runs.
 */
export function outcomeOf(state: PoolState): "completed" | "failed" | undefined {
  // A successor that gave up does not count against the predecessor that still runs.
  if (!isEmpty(state) || state.spec.replicas === 0) return undefined;
  const failed = count(
    state.workers,
    (worker) => worker.phase === "down" && (worker.kind === "gave-up" || worker.kind === "failed"),
  );
  if (failed + state.census.completed < state.spec.replicas) return undefined;
  return failed > 0 ? "failed" : "completed";
}

/** A worker whose liveness fails. */
interface DueWorker {
  readonly worker: ReadyState | UnreadyState;
  readonly due: Due;
}

/** One step under way: a mutable copy that ends as a transition. */
class PoolDraft {
  #spec: PoolSpec;
  readonly #roster: Roster;
  readonly #effects: PoolEffect[] = [];
  #pairs: readonly Replacement[] = [];
  /** Slots of `#pairs`. */
  #olds: ReadonlySet<Slot> = new Set();
  #successors: ReadonlySet<Slot> = new Set();
  #running: readonly RunningOperation[];
  #queue: readonly QueuedOperation[];
  #nextStartAt: Instant;
  #leaving: boolean;
  #wasHealthy: boolean | undefined;
  #measuredReplicas: number;
  #doubted: readonly Slot[];
  #tally: PoolTally;
  #liveness: LivenessHistory;
  #deadline: Instant | undefined;
  /** Why a running operation has failed, by its id. */
  readonly #failures = new Map<string, string>();

  constructor(state: PoolState) {
    this.#spec = state.spec;
    this.#roster = new Roster(state.workers, state.census);
    this.#replacements = state.replacements;
    this.#running = state.running;
    this.#queue = state.queue;
    this.#nextStartAt = state.nextStartAt;
    this.#leaving = state.leaving;
    this.#wasHealthy = state.wasHealthy;
    this.#measuredReplicas = state.measuredReplicas;
    this.#doubted = state.doubted;
    this.#tally = state.tally;
    this.#liveness = state.liveness;
    this.#deadline = state.deadline;
  }

  get #replacements(): readonly Replacement[] {
    return this.#pairs;
  }

  set #replacements(pairs: readonly Replacement[]) {
    this.#pairs = pairs;
    this.#olds = new Set(pairs.map(({ old }) => old));
    this.#successors = new Set(pairs.map(({ successor }) => successor));
  }

  transition(): PoolTransition {
    return {
      state: {
        spec: this.#spec,
        workers: this.#roster.workers,
        census: this.#roster.census,
        replacements: this.#replacements,
        running: this.#running,
        queue: this.#queue,
        nextStartAt: this.#nextStartAt,
        leaving: this.#leaving,
        wasHealthy: this.#wasHealthy,
        measuredReplicas: this.#measuredReplicas,
        doubted: this.#doubted,
        tally: this.#tally,
        liveness: this.#liveness,
        deadline: this.#deadline,
      },
      effects: this.#effects,
    };
  }

  send(slot: Slot, event: WorkerEvent): void {
    const before = this.#roster.at(slot);
    if (event.kind === "becameAlive" && "spawnedAt" in before && before.spawnedAt !== undefined)
      this.#liveness = acceptProof(this.#liveness, before.spawnedAt, event.at, this.#spec.livenessPacing);
    const { state, effects } = stepWorker(before, event, this.#spec);
    this.#roster.set(state);
    for (const effect of effects) {
      if (effect.kind === "tell") {
        this.#tally = tallyEvent(this.#tally, effect.event);
        const { kind } = effect.event;
        // Who is ready only until its liveness is asked is no better than who never is.
        const isHung = kind === "unready" && event.kind === "livenessFailed";
        const isFailed = kind === "ended" && effect.event.isFailure;
        if (kind === "backing_off" || kind === "gave_up" || isHung || isFailed)
          this.#noteFailure(before, effect.event.reason);
      }
      this.#effects.push(effect);
    }
  }

  enqueue(operation: QueuedOperation): void {
    this.#queue = [...this.#queue, operation];
    if (this.#leaving || !this.#mayBegin(operation)) this.#tellOperation("operation_queued", operation);
  }

  /** Has every worker checked against the operations, not only those that change. */
  lookAtAll(): void {
    this.#roster.markAllChanged();
  }

  /** From now on nothing is started or replaced. */
  leave(): void {
    this.#leaving = true;
    this.#deadline = undefined;
    this.#replacements = [];
    for (const operation of [...this.#running, ...this.#queue])
      this.#tellOperation("operation_failed", operation, "the controller shuts down");
    this.#running = [];
    this.#queue = [];
  }

  reconcile(at: Instant, random: number): void {
    if (this.#leaving) {
      this.leave();
      return;
    }
    // What one does may make room for another: an operation that begins concerns a replacement, a slot that gets free is
    // one for a successor. Nothing but this loop would tell them so. It ends because the machines do: without news from
    // outside each of them does only so much.
    let hasMoved: boolean;
    do {
      // Each pass says anew when to look again.
      this.#deadline = undefined;
      this.#doubt(at);
      const effects = this.#effects.length;
      for (const replacement of this.#replacements) this.#follow(replacement, at, random);
      hasMoved = this.#operate(at, random);
      this.#enlist();
      this.#replaceDue(at);
      this.#enlist();
      const surplus = this.#surplus();
      if (surplus > 0) hasMoved = this.#stopSurplus(at) || hasMoved;
      else this.#startMissing(-surplus, at);
      hasMoved = this.#operate(at, random) || hasMoved || this.#effects.length > effects;
    } while (hasMoved);
  }

  judgeHealth(at: Instant): void {
    if (this.#leaving) return;
    const { name, desiredHealthyPercentage } = this.#spec;
    this.#doubt(at);
    const counting = this.#countHealthy();
    const looping = this.#roster.census.serving - counting;
    this.#measure();
    const healthy = isEnough(counting, this.#measuredReplicas - this.#roster.census.completed, this.#spec);
    const reason =
      `${counting} of ${this.#measuredReplicas} replicas ready` +
      `${looping > 0 ? ` and ${looping} in a crash loop` : ""}, ${desiredHealthyPercentage} % required`;
    if (this.#wasHealthy === true && !healthy) this.#tellWide({ kind: "pool_degraded", pool: name, reason });
    if (this.#wasHealthy === false && healthy) this.#tellWide({ kind: "pool_recovered", pool: name, reason });
    if (healthy || this.#wasHealthy !== undefined) this.#wasHealthy = healthy;
  }

  /** Finds the ready workers that may crash again, and when the next of them will have proved itself. */
  #doubt(at: Instant): void {
    let doubted: Slot[] | undefined;
    if (this.#roster.census.crashedRepeatedly > 0)
      for (const worker of this.#roster.workers) {
        const until = doubtedUntil(worker, this.#spec, at);
        if (until === undefined) continue;
        doubted ??= [];
        doubted.push(worker.slot);
        this.#lookAgainAt(until);
      }
    this.#doubted = doubted ?? [];
  }

  #lookAgainAt(instant: Instant | undefined): void {
    if (instant !== undefined && (this.#deadline === undefined || instant < this.#deadline)) this.#deadline = instant;
  }

  /** Brings the number that health is measured against up to date. */
  #measure(): void {
    const { replicas } = this.#spec;
    const measured = this.#measuredReplicas;
    // A pool that comes back after it was removed boots anew.
    const missable = this.#roster.census.completed;
    if (measured === 0 || replicas < measured || isEnough(this.#countHealthy(), replicas - missable, this.#spec))
      this.#measuredReplicas = replicas;
  }

  // Operations

  /** Begins what may begin, follows what runs, ends what is done. Whether an operation began or ended. */
  #operate(at: Instant, random: number): boolean {
    let hasMoved = this.#makeWay(at, random);
    for (let next = this.#nextToBegin(); next !== undefined; next = this.#nextToBegin()) {
      const begun = next;
      this.#queue = this.#queue.filter((each) => each !== begun);
      this.#begin(begun, at, random);
      hasMoved = true;
    }
    const changed = this.#roster.takeChanged();
    for (const running of this.#running) {
      const looked = targetsIn(running.left, changed);
      const done = new Set(looked.filter((each) => isTargetDone(running.order, each, this.#roster.at(each.slot))));
      const left = done.size === 0 ? running.left : running.left.filter((each) => !done.has(each));
      const followed = done.size === 0 ? running : { ...running, left };
      if (followed !== running) this.#running = this.#running.map((each) => (each === running ? followed : each));
      const failure = this.#failures.get(running.id) ?? this.#stoppedMeanwhile(followed);
      if (failure === undefined && left.length < running.left.length)
        this.#tellOperation("operation_progressed", followed);
      if (failure !== undefined) this.#fail(followed, failure, at, random);
      else if (left.length === 0 && this.#isSettled(followed.order) && this.#isProved(followed, at))
        this.#end(followed, "operation_finished");
      else {
        for (const target of looked) if (!done.has(target)) this.#pursue(followed, target, at);
        continue;
      }
      hasMoved = true;
    }
    return hasMoved;
  }

  /** Why a start cannot succeed any more: somebody else wants a worker of it down. */
  #stoppedMeanwhile({ order, left }: RunningOperation): string | undefined {
    const stopped =
      order.kind === "start" ? left.find(({ slot }) => this.#roster.at(slot).phase === "down") : undefined;
    return stopped === undefined ? undefined : `${this.#spec.name}-${stopped.slot} was stopped before it was ready`;
  }

  /**
   * A reload of a pool that is not healthy may be what repairs it, and a removal ends it: they do not wait for what will
   * not succeed without them. Whether something was given up for one.
   */
  #makeWay(at: Instant, random: number): boolean {
    if (this.#queue.length === 0) return false;
    this.#measure();
    if (isEnough(this.#countHealthy(), this.#measuredReplicas - this.#roster.census.completed, this.#spec))
      return false;
    const { revision } = this.#spec;
    const next = this.#queue.find(({ order }) => {
      const resolved = this.#resolve(order);
      return resolved.kind === "reload" && (resolved.spec.revision !== revision || resolved.spec.replicas === 0);
    });
    const inTheWay = next === undefined ? [] : this.#running.filter(isExclusive);
    for (const running of inTheWay)
      this.#fail(running, `the pool is not healthy, reload ${next?.id} goes on`, at, random);
    return inTheWay.length > 0;
  }

  #nextToBegin(): QueuedOperation | undefined {
    return this.#queue.find((operation) => this.#mayBegin(operation));
  }

  #mayBegin(operation: QueuedOperation): boolean {
    return !isExclusive(operation) || !this.#running.some(isExclusive);
  }

  #end(operation: RunningOperation, kind: "operation_finished" | "operation_failed", reason?: string): void {
    this.#running = this.#running.filter(({ id }) => id !== operation.id);
    this.#tellOperation(kind, operation, reason);
  }

  #begin(queued: QueuedOperation, at: Instant, random: number): void {
    const operation = { ...queued, order: this.#resolve(queued.order) };
    const { order } = operation;
    const previous = this.#spec;
    if (order.kind === "scale") {
      this.#respec({ ...this.#spec, replicas: order.replicas, rollout: order.rollout }, at, random);
    } else if (order.kind === "reload") this.#respec(order.spec, at, random);
    const left = targetsOf(order, this.#roster.workers, this.#spec.revision);
    const running = { ...operation, startedAt: at, left, total: left.length, previous };
    this.#running = [...this.#running, running];
    this.#roster.markAllChanged();
    this.#tellOperation("operation_started", running);
    const reason = operation.reason;
    for (const { slot } of left) {
      if (order.kind === "stop")
        this.send(slot, { kind: "stop", at, order: { cause: "operator", reason, next: "down" } });
      if (order.kind === "start") this.send(slot, { kind: "start", at, delayMs: 0, reason });
    }
  }

  /** What an order means as things are now. */
  #resolve(order: Order): Order {
    if (order.kind !== "reload") return order;
    const { keeps = [], spec } = order;
    const { revision, replicas } = this.#spec;
    const kept = {
      ...(keeps.includes("revision") ? { revision } : {}),
      ...(keeps.includes("replicas") ? { replicas } : {}),
    };
    return { ...order, spec: { ...spec, ...kept } };
  }

  /** Another life span holds for who lives already, too. */
  #adopt(spec: PoolSpec, random: number): void {
    const { limits: before } = this.#spec;
    this.#spec = spec;
    const { limits } = spec;
    if (limits.lifespanMs === before.lifespanMs && limits.jitterRatio === before.jitterRatio) return;
    for (const worker of this.#roster.workers) {
      if (!("spawnedAt" in worker) || worker.spawnedAt === undefined) continue;
      // One chance for all, spread evenly over them.
      const lifespanMs = decideLifespanMs(limits, (random + worker.slot * GOLDEN_RATIO) % 1);
      const agesAt = lifespanMs === undefined ? undefined : after(worker.spawnedAt, lifespanMs);
      if (worker.phase === "starting") this.#roster.set({ ...worker, agesAt });
      else if ((worker.phase === "ready" || worker.phase === "unready") && worker.due === undefined)
        this.#roster.set({ ...worker, deadline: agesAt });
    }
  }

  /** Makes room for what is desired now. */
  #respec(spec: PoolSpec, at: Instant, random: number): void {
    this.#adopt(spec, random);
    this.#callOff("a reload wants another one", at);
    for (let slot = this.#roster.workers.length; slot < slotCount(spec); slot++) this.#roster.set(newWorker(slot, at));
  }

  /** A target that is ready only now is to be replaced like the others. */
  #pursue({ order, reason }: RunningOperation, { slot, incarnation }: Target, at: Instant): void {
    if (order.kind === "restart") this.send(slot, { kind: "replace", at, incarnation, reason });
    if (order.kind === "reload") this.#renew(slot, incarnation, reason, at);
  }

  /**
   * Has a process replaced that was launched with what is not desired any more. One that still boots serves nobody and
   * may never be ready: it begins again at once.
   */
  #renew(slot: Slot, incarnation: Incarnation, reason: string, at: Instant): void {
    this.send(slot, { kind: "replace", at, incarnation, reason });
    const worker = this.#roster.at(slot);
    if (worker.phase !== "starting" || worker.incarnation !== incarnation || this.#isReplacing(slot)) return;
    // One that only waits for its turn is launched with what is desired then.
    if (worker.pid === undefined && worker.deadline !== undefined) return;
    this.send(slot, { kind: "stop", at, order: { cause: "rollout", reason, next: "respawn" } });
  }

  /**
   * Whether the pool is as it is desired to be. What an operator stopped or what gave up is not waited for, and who was
   * ready once has arrived: that a probe says no since then may last for ever and is the pool's health, not the order's.
   */
  #isSettled(order: Order): boolean {
    if (order.kind === "stop" || order.kind === "start") return true;
    const absent = this.#roster.census.absent;
    const leaving = this.#roster.census.leaving;
    const arrived = this.#roster.census.arrived;
    return arrived + absent === this.#spec.replicas + this.#spec.standby && leaving === 0;
  }

  #fail(operation: RunningOperation, reason: string, at: Instant, random: number): void {
    const { kind } = operation.order;
    if (kind === "restart" || kind === "reload") {
      for (const worker of this.#roster.workers)
        if ("due" in worker && worker.due?.cause === "rollout") this.#postpone(worker.slot, at, random);
    }
    if (kind === "reload") this.#goBack(operation, at, random);
    this.#end(operation, "operation_failed", reason);
  }

  /** What was desired before is desired again, also of those that were replaced already. */
  #goBack({ previous }: RunningOperation, at: Instant, random: number): void {
    this.#adopt(previous, random);
    this.#callOff("its reload failed", at);
    for (const worker of this.#roster.workers)
      if (worker.revision > previous.revision) this.#renew(worker.slot, worker.incarnation, "its reload failed", at);
  }

  /** Only what was started since an operation began, and with what it wants, speaks against it. */
  #noteFailure(worker: WorkerState, reason: string): void {
    const bornAt = "spawnedAt" in worker && worker.spawnedAt !== undefined ? worker.spawnedAt : worker.since;
    for (const operation of this.#running) {
      const isConcerned = isExclusive(operation) || operation.left.some(({ slot }) => slot === worker.slot);
      if (isConcerned && speaksAgainst(operation, bornAt, worker.revision))
        this.#failures.set(operation.id, `${this.#spec.name}-${worker.slot} ${reason}`);
    }
  }

  // Replacements

  /** Whether a replacement may stop a predecessor: in a rollout, the first new workers prove themselves before. */
  #mayGoOn(cause: ReplaceReason, at: Instant): boolean {
    const rollout = cause === "rollout" ? this.#running.find(isExclusive) : undefined;
    return rollout === undefined || this.#isProved(rollout, at);
  }

  #isProved({ order, startedAt }: RunningOperation, at: Instant): boolean {
    const dueAt = isExclusive({ order }) ? proofDueAt(this.#roster.workers, startedAt, this.#spec, at) : undefined;
    this.#lookAgainAt(dueAt);
    return dueAt === undefined;
  }

  #follow(replacement: Replacement, at: Instant, random: number): void {
    const { old, successor, cause, reason } = replacement;
    const verdict = decideReplacement(replacement, this.#roster.at(old), this.#roster.at(successor));
    if (verdict.kind === "wait") return;
    if (verdict.kind === "take-over" && !this.#mayGoOn(cause, at)) return;
    this.#replacements = this.#replacements.filter((each) => each !== replacement);
    const pool = this.#spec.name;
    if (verdict.kind === "take-over") {
      this.send(old, {
        kind: "stop",
        at,
        order: { cause, reason: `${reason}, replaced by ${pool}-${successor}`, next: "down" },
      });
      this.#countRollout("finished");
      this.#tellWide({ kind: "rollout_finished", pool, reason: `${pool}-${successor} took over from ${pool}-${old}` });
      return;
    }
    if (verdict.kind === "abort") {
      const failure = `successor ${pool}-${successor} ${verdict.reason}`;
      this.#tellAborted(replacement, failure);
      this.#postpone(old, at, random);
      const rollout = cause === "rollout" ? this.#running.find(isExclusive) : undefined;
      if (rollout !== undefined && speaksAgainst(rollout, replacement.startedAt, replacement.revision))
        this.#failures.set(rollout.id, failure);
    }
    // A successor spends nobody's budget: its failure ends the replacement, not its slot and not the pool.
    this.#release(successor);
    if (verdict.kind === "obsolete" && isStartedAnew(this.#roster.at(old))) {
      // After a crash, and its successor is further: that one stays in its place.
      const order: StopOrder = { cause, reason: `${reason}, ${pool}-${successor} takes its place`, next: "down" };
      this.send(old, { kind: "stop", at, order });
      this.#release(old);
    } else if (verdict.kind === "abort" || isInUse(this.#roster.at(old))) this.#stopSuccessor(successor, at);
  }

  /** Ends replacements by successors that were launched with what is not desired any more. */
  #callOff(reason: string, at: Instant): void {
    for (const replacement of this.#replacements.filter(({ revision }) => revision !== this.#spec.revision)) {
      this.#replacements = this.#replacements.filter((each) => each !== replacement);
      this.#tellAborted(replacement, reason);
      this.#stopSuccessor(replacement.successor, at);
    }
  }

  #tellAborted({ old }: Replacement, reason: string): void {
    const { name: pool } = this.#spec;
    this.#countRollout("aborted");
    this.#tellWide({ kind: "rollout_aborted", pool, reason: `${pool}-${old} stays: ${reason}` });
  }

  #countRollout(end: "finished" | "aborted"): void {
    const { rollouts } = this.#tally;
    this.#tally = { ...this.#tally, rollouts: { ...rollouts, [end]: rollouts[end] + 1 } };
  }

  #stopSuccessor(successor: Slot, at: Instant): void {
    const order: StopOrder = { cause: "rollout", reason: "its replacement is off", next: "down" };
    this.send(successor, { kind: "stop", at, order });
    this.#release(successor);
  }

  /** A successor that stays down is not a missing replica: its slot is free for the next one. */
  #release(slot: Slot): void {
    const worker = this.#roster.at(slot);
    if (worker.phase === "down" && worker.kind !== "held") this.#roster.set({ ...worker, kind: "free" });
  }

  /** Gives a worker that is not replaced after all another life span, so that the next try does not follow at once. */
  #postpone(slot: Slot, at: Instant, random: number): void {
    const worker = this.#roster.at(slot);
    if (worker.phase !== "ready" && worker.phase !== "unready") return;
    const lifespanMs = decideLifespanMs(this.#spec.limits, random);
    this.#roster.set({
      ...worker,
      due: undefined,
      deadline: lifespanMs === undefined ? undefined : after(at, lifespanMs),
    });
  }

  /** Replaces due workers while there is room. */
  #replaceDue(at: Instant): void {
    if (this.#roster.census.due === 0) return;
    if (this.#roster.census.hung > 0) this.#replaceHung(at);
    while (this.#mayReplace()) {
      const worker = this.#mostUrgent();
      if (worker?.due === undefined || !this.#replace(worker, worker.due, at)) return;
    }
  }

  /** Whether there is room for any replacement; most events of a rollout leave none. */
  #mayReplace(): boolean {
    const { serving, standby, arrived, absent } = this.#roster.census;
    if (standby > 0 || arrived > serving) return true;
    const { surge, inPlace } = this.#roomBeside(this.#spec.replicas - absent - serving);
    return surge > 0 || inPlace > 0;
  }

  /** The worker that is due for longest; standby and unready workers come first, because replacing them costs nothing. */
  #mostUrgent(): (ReadyState | UnreadyState) | undefined {
    let first: ReadyState | UnreadyState | undefined;
    for (const worker of this.#roster.workers) {
      if ((worker.phase !== "ready" && worker.phase !== "unready") || worker.due === undefined) continue;
      if (isHung(worker) || this.#olds.has(worker.slot)) continue;
      const isBefore =
        first?.due === undefined || servedRank(worker) - servedRank(first) || worker.due.at - first.due.at;
      if (isBefore === true || isBefore < 0) first = worker;
    }
    return first;
  }

  /** Replaces one as the policy allows; false where there is no room now. */
  #replace(worker: ReadyState | UnreadyState, due: Due, at: Instant): boolean {
    if (!this.#mayGoOn(due.cause, at)) return false;
    const inPlace: StopOrder = { cause: due.cause, reason: due.reason, next: "respawn" };
    if (isSpare(worker)) {
      this.send(worker.slot, { kind: "stop", at, order: inPlace });
      return true;
    }
    const leaving = this.#roster.census.leaving;
    const room = this.#room(worker);
    const spare = leaving <= this.#spec.rollout.maxSurge ? this.#freshSpare(due) : undefined;
    if (spare !== undefined) {
      const { name } = this.#spec;
      this.#putToWork(spare, `successor of ${name}-${worker.slot}`);
      const reason = `${due.reason}, replaced by ${name}-${spare.slot}`;
      this.send(worker.slot, { kind: "stop", at, order: { cause: due.cause, reason, next: "down" } });
      return true;
    }
    // A reserve that is being renewed is the next successor: it takes the place of one that would be started beside it.
    const free = room.surge > this.#renewingSpares() ? this.#roster.freeSlot() : undefined;
    if (free !== undefined) this.#startSuccessor(worker, free, due, at);
    // In place one that serves nobody takes nothing away.
    else if (room.inPlace > 0 || (worker.phase === "unready" && this.#spec.rollout.maxSurge === 0))
      this.send(worker.slot, { kind: "stop", at, order: inPlace });
    else return false;
    return true;
  }

  #room(worker: WorkerState): RolloutRoom {
    const { serving, absent } = this.#roster.census;
    // A wait for absent workers would never end.
    return this.#roomBeside(this.#spec.replicas - absent - serving - (worker.phase === "ready" ? 0 : 1));
  }

  #roomBeside(missing: number): RolloutRoom {
    const surging = this.#replacements.length + this.#roster.census.leaving;
    return decideRoom(this.#spec.rollout, surging, Math.max(0, missing));
  }

  /** Those whose liveness fails serve nobody: they are replaced without regard to who else is missing, but not all at once. */
  #replaceHung(at: Instant): void {
    const hung: DueWorker[] = [];
    for (const worker of this.#roster.workers) {
      if (!isHung(worker) || this.#olds.has(worker.slot)) continue;
      const due = dueOf(worker);
      if (due !== undefined) hung.push({ worker, due });
    }
    if (hung.length === 0) return;
    hung.sort((a, b) => a.due.at - b.due.at);
    const { rollout, livenessPacing: pacing } = this.#spec;
    // Of those who serve: more that are only to come do not make more of them dispensable.
    const cap = {
      replicas: Math.min(this.#spec.replicas, this.#measuredReplicas),
      maxUnavailable: rollout.maxUnavailable,
      pacing,
    };
    const slots = hung.map(({ worker }) => worker.slot);
    const decision = decideLivenessReplacements(this.#liveness, slots, at, cap);
    this.#liveness = decision.history;
    this.#lookAgainAt(decision.retryAt);
    for (const { worker, due } of hung) {
      if (!decision.replace.includes(worker.slot)) continue;
      const free = this.#room(worker).surge > 0 ? this.#roster.freeSlot() : undefined;
      if (free !== undefined) this.#startSuccessor(worker, free, due, at);
      else {
        const order: StopOrder = { cause: due.cause, reason: due.reason, next: "respawn" };
        this.send(worker.slot, { kind: "stop", at, order });
      }
    }
  }

  // Reserve

  /** Keeps as many at work as there are replicas, as far as the reserve goes; who is ready beyond that is the reserve. */
  #enlist(): void {
    const { replicas, standby, name } = this.#spec;
    if (standby === 0 && this.#roster.census.standby === 0) return;
    for (let missing = replicas - this.#roster.census.serving; missing > 0; missing--) {
      const spare = this.#roster.workers.find((worker): worker is ReadyState => isSpare(worker));
      if (spare === undefined) return;
      this.#putToWork(spare, `pool "${name}" has ${replicas - missing} of ${replicas}`);
    }
    // A successor of a replacement takes its predecessor's place and is no reserve.
    if (this.#roster.census.serving <= replicas) return;
    const serving = this.#roster.workers.filter(
      (worker): worker is ReadyState => isServing(worker) && !this.#successors.has(worker.slot),
    );
    serving.sort((a, b) => b.since - a.since);
    for (const worker of serving.slice(0, Math.max(0, serving.length - replicas)))
      this.#roster.set({ ...worker, isSpare: true });
  }

  #putToWork(spare: ReadyState, reason: string): void {
    this.#roster.set({ ...spare, isSpare: false });
    const { name: pool } = this.#spec;
    const { slot, incarnation } = spare;
    const event = { pool, slot, incarnation, kind: "enlisted", reason } as const;
    this.#tally = tallyEvent(this.#tally, event);
    this.#effects.push({ kind: "tell", event });
  }

  /** A spare that can be the successor of who is due: of the present revision, and younger than the rollout. */
  #freshSpare(due: Due): ReadyState | undefined {
    if (this.#roster.census.standby === 0) return undefined;
    const begunAt = due.cause === "rollout" ? due.at : Number.NEGATIVE_INFINITY;
    return this.#roster.workers.find(
      (worker): worker is ReadyState =>
        isSpare(worker) &&
        worker.phase === "ready" &&
        worker.due === undefined &&
        worker.revision === this.#spec.revision &&
        worker.spawnedAt >= begunAt,
    );
  }

  /** How many are on their way, beyond those that are missing and those that take a predecessor's place. */
  #renewingSpares(): number {
    if (this.#spec.standby === 0) return 0;
    const coming = count(this.#roster.workers, (worker) => isComing(worker) && !this.#isReplacing(worker.slot));
    return Math.max(0, coming - Math.max(0, this.#spec.replicas - this.#roster.census.serving));
  }

  #startSuccessor(old: ReadyState | UnreadyState, slot: Slot, due: Due, at: Instant): void {
    const pool = this.#spec.name;
    const { cause, reason } = due;
    const replacement: Replacement = {
      old: old.slot,
      oldIncarnation: old.incarnation,
      successor: slot,
      successorIncarnation: this.#roster.at(slot).incarnation + 1,
      revision: this.#spec.revision,
      startedAt: at,
      cause,
      reason,
    };
    this.#replacements = [...this.#replacements, replacement];
    this.#tellWide({
      kind: "rollout_started",
      pool,
      reason: `${pool}-${old.slot} is due (${reason}), ${pool}-${slot} starts`,
    });
    const { settleMs } = this.#spec.rollout;
    this.send(slot, { kind: "start", at, delayMs: 0, settleMs, reason: `successor of ${pool}-${old.slot}` });
  }

  // Numbers

  #startMissing(missing: number, at: Instant): void {
    // Those who leave for a successor still live; a pool that was larger has slots enough, but no room for more.
    let room = slotCount(this.#spec) - this.#roster.census.occupied;
    for (let left = missing; left > 0 && room > 0; left--, room--) {
      const slot = this.#roster.freeSlot();
      if (slot === undefined) return;
      const startAt = Math.max(at, this.#nextStartAt) as Instant;
      const delayMs = startAt - at;
      const reason = delayMs > 0 ? `waits ${formatDuration(delayMs)} for its turn` : "wanted by replicas";
      // What an operation adds to a pool that serves must prove itself like a successor; a first boot waits for nothing.
      const isAdded = this.#wasHealthy !== undefined && this.#running.some(isExclusive);
      const settleMs = isAdded ? this.#spec.rollout.settleMs : 0;
      this.send(slot, { kind: "start", at, delayMs, settleMs, reason });
      this.#nextStartAt = after(startAt, this.#spec.startupWaitMs);
    }
  }

  /** Workers above the desired number leave: those that serve nobody first, then the highest slots. Whether a slot got free. */
  #stopSurplus(at: Instant): boolean {
    let hasFreed = false;
    while (this.#surplus() > 0) {
      const spare = this.#roster.workers.filter((worker) => isInUse(worker) && !this.#isReplacing(worker.slot));
      const [worker] = spare.sort((a, b) => rank(a) - rank(b) || b.slot - a.slot);
      if (worker === undefined) {
        const last = this.#replacements.at(-1);
        if (last === undefined) return hasFreed;
        this.#replacements = this.#replacements.slice(0, -1);
        this.#stopSuccessor(last.successor, at);
      } else if (worker.phase === "down") {
        const reason = `the pool has ${this.#spec.replicas} replicas and does not use this slot`;
        this.#roster.set({ ...worker, kind: "free", reason });
        hasFreed = true;
      } else {
        const { replicas, standby } = this.#spec;
        const reason = `${replicas} replicas${standby > 0 ? ` and ${standby} in reserve` : ""} are wanted`;
        this.send(worker.slot, { kind: "stop", at, order: { cause: "scale", reason, next: "down" } });
        // One that waited for its restart has nothing to stop.
        if (this.#roster.at(worker.slot).phase === "down") hasFreed = true;
      }
    }
    return hasFreed;
  }

  /** How many workers there are above what is desired; successors of replacements are no surplus. */
  #surplus(): number {
    const { replicas, standby } = this.#spec;
    return this.#roster.census.inUse - replicas - standby - this.#replacements.length;
  }

  #isReplacing(slot: Slot): boolean {
    return this.#olds.has(slot) || this.#successors.has(slot);
  }

  #countHealthy(): number {
    return countHealthy(this.#roster.workers, this.#roster.census, this.#doubted);
  }

  #tellWide(event: WideLifecycleEvent): void {
    this.#effects.push({ kind: "tellWide", event });
  }

  #tellOperation(
    kind: Extract<WideLifecycleEvent, { operation: string }>["kind"],
    operation: QueuedOperation | RunningOperation,
    reason: string = operation.reason,
  ): void {
    const total = "total" in operation ? operation.total : 0;
    const left: readonly Target[] = "left" in operation ? operation.left : [];
    const done = total - left.length;
    const what = kindOf(operation);
    this.#tellWide({ kind, pool: this.#spec.name, operation: operation.id, what, done, total, reason });
  }
}

/** Whether it will be ready soon or fail: what waits for it does not wait for ever. */
function isComing(worker: WorkerState): boolean {
  if (worker.phase === "starting") return worker.pendingStop === undefined || worker.pendingStop.next !== "down";
  return (worker.phase === "draining" || worker.phase === "stopping") && worker.order.next === "respawn";
}

/** Whether what was launched at `bornAt` and fails is a failure of the operation: its own, and with what it wants. */
function speaksAgainst({ order, startedAt }: RunningOperation, bornAt: Instant, revision: number): boolean {
  if (order.kind === "stop" || bornAt < startedAt) return false;
  return order.kind !== "reload" || revision === order.spec.revision;
}

/** Whether a predecessor that left by itself has no process that serves: it begins anew, or has given up. */
function isStartedAnew(worker: WorkerState): boolean {
  if (worker.phase === "stopping") return worker.order.cause !== "operator";
  const hasFailed = worker.phase === "down" && (worker.kind === "gave-up" || worker.kind === "failed");
  return worker.phase === "starting" || worker.phase === "backoff" || hasFailed;
}

/** Who is replaced first: 0 before 1 before 2. */
function servedRank(worker: WorkerState): number {
  if (isSpare(worker)) return 0;
  return worker.phase === "ready" ? 2 : 1;
}

/** What is stopped first when there are too many: 0 before 1 before 2. */
function rank(worker: WorkerState): number {
  if (worker.phase === "down" || worker.phase === "backoff") return 0;
  return isServing(worker) ? 2 : 1;
}
