/**
 * A pool while one event is handled: a mutable copy that becomes a transition. Each file beside this one decides about
 * one concern and changes the draft; worker states change only through the worker state machine (`send`).
 */
import type { Instant } from "../../base/time.ts";
import type { WideLifecycleEvent } from "../event.ts";
import type { Slot } from "../identity.ts";
import { acceptProof, type LivenessHistory } from "../policy/massFailure.ts";
import type { Replacement } from "../policy/rollout.ts";
import type { PoolSpec } from "../spec.ts";
import { type PoolTally, tallyEvent } from "../tally.ts";
import type { DistributiveOmit, WorkerEvent } from "../worker/event.ts";
import { awaitsAdmission, bornAt, newWorker, type WorkerState } from "../worker/state.ts";
import { stepWorker } from "../worker/table.ts";
import { concerns, countsAgainst, kindOf, type QueuedOperation, type RunningOperation } from "./order.ts";
import { Roster } from "./roster.ts";
import { type Gate, type PoolEffect, type PoolState, type PoolTransition, slotCount } from "./state.ts";

export class PoolDraft {
  /** Time of the event. */
  readonly at: Instant;
  /** 0 … 1. */
  readonly random: number;
  /** Whether workers whose turn has come start at once; otherwise the controller admits them. */
  readonly startsFreely: boolean;
  spec: PoolSpec;
  gate: Gate;
  abandonedAt: Instant | undefined;
  readonly roster: Roster;
  readonly effects: PoolEffect[] = [];
  running: readonly RunningOperation[];
  queue: readonly QueuedOperation[];
  nextStartAt: Instant;
  leaving: boolean;
  wasHealthy: boolean | undefined;
  measuredReplicas: number;
  doubted: readonly Slot[];
  tally: PoolTally;
  liveness: LivenessHistory;
  deadline: Instant | undefined;
  /** Why a running operation has failed, by its id. */
  readonly failures = new Map<string, string>();
  #replacements: readonly Replacement[] = [];
  #olds: ReadonlySet<Slot> = new Set();
  #successors: ReadonlySet<Slot> = new Set();

  constructor(state: PoolState, at: Instant, random: number, startsFreely: boolean) {
    this.at = at;
    this.random = random;
    this.startsFreely = startsFreely;
    this.spec = state.spec;
    this.gate = state.gate;
    this.abandonedAt = state.abandonedAt;
    this.roster = new Roster(state.workers, state.census);
    this.replacements = state.replacements;
    this.running = state.running;
    this.queue = state.queue;
    this.nextStartAt = state.nextStartAt;
    this.leaving = state.leaving;
    this.wasHealthy = state.wasHealthy;
    this.measuredReplicas = state.measuredReplicas;
    this.doubted = state.doubted;
    this.tally = state.tally;
    this.liveness = state.liveness;
    this.deadline = state.deadline;
  }

  get replacements(): readonly Replacement[] {
    return this.#replacements;
  }

  set replacements(replacements: readonly Replacement[]) {
    this.#replacements = replacements;
    this.#olds = new Set(replacements.map(({ old }) => old));
    this.#successors = new Set(replacements.map(({ successor }) => successor));
  }

  /** Whether a successor is on its way for the worker in `slot`. */
  isReplaced(slot: Slot): boolean {
    return this.#olds.has(slot);
  }

  isSuccessor(slot: Slot): boolean {
    return this.#successors.has(slot);
  }

  toTransition(): PoolTransition {
    const { spec, gate, roster, replacements, running, queue, nextStartAt, leaving, wasHealthy, effects } = this;
    const { abandonedAt, measuredReplicas, doubted, tally, liveness, deadline } = this;
    const { workers, census } = roster;
    return {
      state: {
        spec,
        gate,
        abandonedAt,
        workers,
        census,
        replacements,
        running,
        queue,
        nextStartAt,
        leaving,
        wasHealthy,
        measuredReplicas,
        doubted,
        tally,
        liveness,
        deadline,
      },
      effects,
    };
  }

  /** Passes an event to the worker in `slot`, at the time of the draft. */
  send(slot: Slot, event: DistributiveOmit<WorkerEvent, "at">): void {
    this.pass(slot, { ...event, at: this.at });
  }

  /** Passes an event to the worker in `slot`. */
  pass(slot: Slot, event: WorkerEvent): void {
    const before = this.roster.at(slot);
    const spawnedAt = bornAt(before);
    if (event.kind === "becameAlive" && spawnedAt !== undefined)
      this.liveness = acceptProof(this.liveness, spawnedAt, event.at, this.spec.livenessPacing);
    const { state, effects } = stepWorker(before, event, this.spec);
    this.roster.set(state);
    for (const effect of effects) {
      if (effect.kind === "emit") {
        const { kind } = effect.event;
        // A worker whose first liveness check fails counts as failed, as if it had never become ready.
        const isHung = kind === "unready" && event.kind === "livenessFailed";
        const isFailed = kind === "ended" && effect.event.isFailure;
        // A run of a oneshot pool has failed only when it is not retried.
        const isCrash = kind === "backing_off" && this.spec.type === "service";
        if (isCrash || kind === "gave_up" || isHung || isFailed) this.#noteFailure(before, effect.event.reason);
        // A successor that crashes is abandoned, not restarted.
        if (kind === "backing_off" && this.isSuccessor(slot)) continue;
        this.tally = tallyEvent(this.tally, effect.event);
      }
      this.effects.push(effect);
    }
    if (this.startsFreely && awaitsAdmission(state)) this.pass(slot, { kind: "admit", at: event.at });
  }

  /** Only processes that an operation started, or that it is about, make it fail. */
  #noteFailure(worker: WorkerState, reason: string): void {
    const startedAt = bornAt(worker) ?? worker.since;
    for (const operation of this.running)
      if (concerns(operation, worker.slot) && countsAgainst(operation, startedAt, worker.revision))
        this.failures.set(operation.id, `${this.spec.name}-${worker.slot} ${reason}`);
  }

  /** Makes the slots that the specification needs. */
  growSlots(): void {
    for (let slot = this.roster.workers.length; slot < slotCount(this.spec); slot++)
      this.roster.set(newWorker(slot, this.at));
  }

  /** Has the pool look again at `instant`, if that is earlier than already planned. */
  lookAgainAt(instant: Instant | undefined): void {
    if (instant !== undefined && (this.deadline === undefined || instant < this.deadline)) this.deadline = instant;
  }

  emit(event: WideLifecycleEvent): void {
    this.effects.push({ kind: "emitWide", event });
  }

  emitOperation(
    kind: Extract<WideLifecycleEvent, { operation: string }>["kind"],
    operation: QueuedOperation | RunningOperation,
    reason: string = operation.reason,
  ): void {
    const total = "total" in operation ? operation.total : 0;
    const left = "left" in operation ? operation.left.length : 0;
    const what = kindOf(operation);
    this.emit({ kind, pool: this.spec.name, operation: operation.id, what, done: total - left, total, reason });
  }
}
