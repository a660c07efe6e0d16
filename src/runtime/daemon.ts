/**
 * The mailbox and the driver. The controller machine handles one event at a time; the driver performs its effects, and
 * their results come back as events. After TURN_MS, the rest of a large pool's work waits for the next turn of the
 * event loop, so that requests, signals and log lines are handled in between. The driver keeps one timer per worker
 * equal to the deadline in its state. It makes no decisions.
 */

import { InvariantError } from "../base/errors.ts";
import type { Instant } from "../base/time.ts";
import {
  type ControllerEffect,
  type ControllerEvent,
  type ControllerState,
  newController,
  stepController,
} from "../core/controller.ts";
import type { LifecycleEvent, LimitKind } from "../core/event.ts";
import type { ExitStatus } from "../core/exit.ts";
import type { Slot } from "../core/identity.ts";
import type { Order } from "../core/pool/order.ts";
import type { ControllerPolicy, ControllerSpec, PoolSpec } from "../core/spec.ts";
import type { ControllerView } from "../core/view.ts";
import { viewOf } from "../core/viewOf.ts";
import type { WorkerEvent } from "../core/worker/event.ts";
import type { WorkerState } from "../core/worker/state.ts";
import type { Clock } from "./clock.ts";

/** The process operations that the daemon needs. */
export interface ProcessControl {
  /** Starts a process. The returned function waits for its exec and returns its pid. Both throw if the start fails. */
  begin(pool: number, slot: Slot, incarnation: number, revision: number): () => number;
  signal(leader: number, signal: string, scope: "group" | "leader" | "escaped"): void;
  kill(leader: number): void;
}

/** Receives what happens. */
export interface DaemonListener {
  /** An event that an operator may want to see. */
  told(event: LifecycleEvent): void;
  /** Something changed; `view()` shows it. Called after all other effects of an event. */
  changed(): void;
  /** The proxy that is pool `pool` must finish its requests and accept no new ones. `proxyDrained` is the reply. */
  drainProxy(pool: number): void;
  /** All pools are running for the first time. */
  ready(): void;
  /** The shutdown begins. */
  stopping(): void;
  /** All processes have exited; the controller may exit. */
  finished(exitCode: number): void;
  /** A bug. The daemon has started to kill all processes. */
  broken(error: unknown): void;
}

interface ArmedTimer {
  readonly deadline: Instant;
  readonly timer: Disposable;
}

/** Time limit for handling events and effects in one turn of the event loop. */
const TURN_MS = 8;

/**
 * Slots whose worker state changed. A function of its own, because its loop runs for each event: V8 spends 20 ms of a
 * start with 500 workers on optimizing a loop that does more.
 */
function changedSlots(before: readonly WorkerState[] | undefined, after: readonly WorkerState[]): readonly Slot[] {
  const changed: Slot[] = [];
  if (before === after) return changed;
  for (let slot = 0; slot < after.length; slot++) if (before?.[slot] !== after[slot]) changed.push(slot);
  return changed;
}

/** Limit of processes that are begun but not yet confirmed; their programs are executed in the meantime. */
const MAX_UNCONFIRMED = 4;

/** Whether the effect acts on a process. */
function isDeed(effect: ControllerEffect): boolean {
  return effect.kind === "spawn" || effect.kind === "signal" || effect.kind === "kill";
}

export class Daemon {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #listener: DaemonListener;
  readonly #mailbox: ControllerEvent[] = [];
  /** Results of spawns: handled before the mailbox, because later events may concern the processes. */
  readonly #spawned: ControllerEvent[] = [];
  readonly #workerTimers = new Map<string, ArmedTimer>();
  readonly #poolTimers = new Map<number, ArmedTimer>();
  #controllerTimer: ArmedTimer | undefined;
  #processes: ProcessControl | undefined;
  #state: ControllerState;
  #view: ControllerView | undefined;
  /** Effects of the last event that are still to be performed. */
  readonly #todo: ControllerEffect[] = [];
  /** Whether events are being handled, now or in the next turn. */
  #busy = false;
  /** For each begun process, oldest first: waits for its exec and queues the resulting event. */
  readonly #begun: (() => void)[] = [];
  #broken = false;

  constructor(options: { spec: ControllerSpec; clock: Clock; random: () => number; listener: DaemonListener }) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#listener = options.listener;
    this.#state = newController(options.spec, options.clock.now());
  }

  /** Starts the workers. */
  boot(processes: ProcessControl): void {
    this.#processes = processes;
    this.#dispatch({ kind: "boot", at: this.#clock.now(), random: this.#random() });
  }

  /** The current state of the controller and its pools. */
  view(): ControllerView {
    this.#view ??= viewOf(this.#state);
    return this.#view;
  }

  /** Process ids of all proxies. Unlike `view()`, it is cheap even with hundreds of workers. */
  proxyPids(): readonly number[] {
    const proxies = this.#state.pools.filter(({ spec }) => spec.role === "proxy");
    return proxies.flatMap(({ workers }) =>
      workers.flatMap((worker) => ("pid" in worker && worker.pid !== undefined ? [worker.pid] : [])),
    );
  }

  /** The current spec of a pool. */
  specOf(pool: number): PoolSpec {
    const spec = this.#state.pools[pool]?.spec;
    if (spec === undefined) throw new RangeError(`there is no pool ${pool}`);
    return spec;
  }

  /** The current policy of the controller as a whole. */
  get policy(): ControllerPolicy {
    return this.#state.policy;
  }

  /**
   * Requests a graceful shutdown; a second request kills all processes. `settleMs` is how long to wait for
   * `groupSignaled` before workers are sent their stop signal.
   */
  shutdown(reason: string, settleMs = 0): void {
    this.#dispatch({ kind: "shutdown", at: this.#clock.now(), reason, exitCode: 0, settleMs });
  }

  /** Every process of the controller's group or service received `signal` when the controller did, at `at`. */
  groupSignaled(signal: string, at: Instant): void {
    this.#dispatch({ kind: "groupSignaled", at, signal });
  }

  /** Time since the first shutdown request; undefined if there was none. */
  msSinceShutdownRequest(): number | undefined {
    const { shutdownBound } = this.#state;
    if (shutdownBound === undefined) return undefined;
    return this.#clock.now() - (shutdownBound - this.#state.policy.shutdownTimeoutMs);
  }

  /** Requests an operation on a pool; events with this `id` report its progress. */
  order(pool: number, id: string, order: Order, reason: string): void {
    this.#dispatch({ kind: "order", at: this.#clock.now(), pool, id, order, reason, random: this.#random() });
  }

  /** Adds pools, empty until an order fills them; returns the index of the first. */
  addPools(specs: readonly PoolSpec[]): number {
    const first = this.#state.pools.length;
    this.#adopt({ kind: "addPools", at: this.#clock.now(), specs });
    return first;
  }

  /** Replaces the policy of the controller as a whole. */
  setPolicy(policy: ControllerPolicy): void {
    this.#adopt({ kind: "setPolicy", at: this.#clock.now(), policy });
  }

  /** The proxy that is pool `pool` has finished its requests. */
  proxyDrained(pool: number): void {
    this.#dispatch({ kind: "proxyDrained", at: this.#clock.now(), pool });
  }

  /** The worker's probes pass, and its proxy may balance over it. */
  answered(pool: number, slot: Slot, incarnation: number): void {
    this.#worker(pool, slot, { kind: "answered", at: this.#clock.now(), incarnation });
  }

  /** The worker is ready and serves. */
  becameReady(pool: number, slot: Slot, incarnation: number): void {
    this.#worker(pool, slot, { kind: "becameReady", at: this.#clock.now(), incarnation });
  }

  /** The worker runs but must not receive traffic. */
  becameUnready(pool: number, slot: Slot, incarnation: number, reason: string): void {
    this.#worker(pool, slot, { kind: "becameUnready", at: this.#clock.now(), incarnation, reason });
  }

  /** The worker runs but will not become ready. */
  startupFailed(pool: number, slot: Slot, incarnation: number, reason: string): void {
    this.#worker(pool, slot, { kind: "startupFailed", at: this.#clock.now(), incarnation, reason });
  }

  /** The worker runs but fails its liveness probe. */
  livenessFailed(pool: number, slot: Slot, incarnation: number, reason: string): void {
    this.#worker(pool, slot, { kind: "livenessFailed", at: this.#clock.now(), incarnation, reason });
  }

  /** The worker passes its liveness probe, for the first time or again. */
  becameAlive(pool: number, slot: Slot, incarnation: number): void {
    this.#worker(pool, slot, { kind: "becameAlive", at: this.#clock.now(), incarnation });
  }

  /** What the worker waits for to become ready, and the result of the last attempt. */
  waiting(pool: number, slot: Slot, incarnation: number, reason: string): void {
    this.#worker(pool, slot, { kind: "waiting", at: this.#clock.now(), incarnation, reason });
  }

  /** The worker has reached the limit `limit`. */
  limitReached(pool: number, slot: Slot, incarnation: number, limit: LimitKind, reason: string): void {
    this.#worker(pool, slot, { kind: "limitReached", at: this.#clock.now(), incarnation, limit, reason });
  }

  /** Number of requests in flight while the worker drains. */
  inFlight(pool: number, slot: Slot, incarnation: number, count: number): void {
    this.#worker(pool, slot, { kind: "inFlight", at: this.#clock.now(), incarnation, count });
  }

  /** The worker receives no new requests and has finished all earlier ones. */
  drained(pool: number, slot: Slot, incarnation: number): void {
    this.#worker(pool, slot, { kind: "drained", at: this.#clock.now(), incarnation });
  }

  /** The leader of an incarnation was reaped. */
  exited(pool: number, slot: Slot, incarnation: number, status: ExitStatus, survivors: boolean): void {
    this.#worker(pool, slot, {
      kind: "exited",
      at: this.#clock.now(),
      incarnation,
      status,
      survivors,
      random: this.#random(),
    });
  }

  /** All processes of an incarnation have exited. */
  vacated(pool: number, slot: Slot, incarnation: number): void {
    this.#worker(pool, slot, { kind: "vacated", at: this.#clock.now(), incarnation, random: this.#random() });
  }

  #worker(pool: number, slot: Slot, event: WorkerEvent): void {
    this.#dispatch({ kind: "worker", pool, slot, event, random: this.#random() });
  }

  /** Handled before queued events: it concerns none of their workers, and the caller relies on its result at once. */
  #adopt(event: Extract<ControllerEvent, { kind: "addPools" | "setPolicy" }>): void {
    if (this.#broken) return;
    try {
      this.#handle(event);
    } catch (error) {
      this.fail(error);
    }
    this.#run();
  }

  /** FIFO and not reentrant: an event caused by an effect waits until the current event is done. */
  #dispatch(event: ControllerEvent): void {
    // After a bug, make no more decisions: the machine would restart processes that `fail` has just killed.
    if (this.#broken) return;
    this.#mailbox.push(event);
    this.#run();
  }

  #run(): void {
    if (this.#busy) return;
    this.#busy = true;
    const startedAt = this.#clock.now();
    try {
      while (this.#handleNext()) {
        if (this.#clock.now() - startedAt < TURN_MS) continue;
        this.#confirmSpawns(0);
        this.#clock.nextTurn(() => {
          this.#busy = false;
          this.#run();
        });
        return;
      }
    } catch (error) {
      this.fail(error);
    }
    this.#busy = false;
  }

  /** Performs one effect or, if there is none, handles one event. Returns whether there may be more. */
  #handleNext(): boolean {
    const effect = this.#todo.shift();
    if (effect !== undefined) {
      this.#perform(effect);
      if (this.#todo.length === 0) this.#listener.changed();
      return true;
    }
    // Only now, so that other effects, such as writing log lines, overlap with the execs of the begun processes.
    this.#confirmSpawns(0);
    const queue = this.#spawned.length > 0 ? this.#spawned : this.#mailbox;
    const event = queue[0];
    if (event === undefined) return false;
    this.#handle(event);
    // Dequeue only now: if the machine fails, `fail` must still find the event and kill its process.
    queue.shift();
    return true;
  }

  #handle(event: ControllerEvent): void {
    const before = this.#state;
    const { state, effects } = stepController(before, event);
    this.#state = state;
    this.#view = undefined;
    this.#armTimers(before, state);
    // Process effects come first, so that writing log lines does not delay a successor.
    for (const effect of effects) if (isDeed(effect)) this.#todo.push(effect);
    for (const effect of effects) if (!isDeed(effect)) this.#todo.push(effect);
    if (effects.length === 0) this.#listener.changed();
  }

  #perform(effect: ControllerEffect): void {
    switch (effect.kind) {
      case "spawn":
        this.#spawn(effect);
        return;
      case "signal":
        this.#processes?.signal(effect.pid, effect.signal, effect.scope);
        return;
      case "kill":
        this.#processes?.kill(effect.pid);
        return;
      case "tell":
        this.#listener.told(effect.event);
        return;
      case "drainProxy":
        this.#listener.drainProxy(effect.pool);
        return;
      case "notifyReady":
        this.#listener.ready();
        return;
      case "notifyStopping":
        this.#listener.stopping();
        return;
      case "finish":
        this.#listener.finished(effect.exitCode);
        return;
    }
  }

  /** Waits for earlier processes only now: their programs were executed in the meantime. */
  #spawn({ pool, slot, incarnation, revision }: Extract<ControllerEffect, { kind: "spawn" }>): void {
    const random = this.#random();
    const settle = (start: () => number) => {
      let event: WorkerEvent;
      try {
        event = { kind: "spawned", at: this.#clock.now(), incarnation, pid: start(), random };
      } catch (error) {
        if (error instanceof InvariantError) throw error;
        const reason = error instanceof Error ? error.message : String(error);
        event = { kind: "spawnFailed", at: this.#clock.now(), incarnation, reason, random };
      }
      this.#spawned.push({ kind: "worker", pool, slot, event, random });
    };
    let confirm: () => number;
    try {
      if (this.#processes === undefined) throw new InvariantError("a spawn before the boot");
      confirm = this.#processes.begin(pool, slot, incarnation, revision);
    } catch (error) {
      confirm = () => {
        throw error;
      };
    }
    this.#begun.push(() => settle(confirm));
    this.#confirmSpawns(MAX_UNCONFIRMED);
  }

  // Before confirmation, only another spawn may happen: no signal, no exit, no other turn of the event loop.
  /** Waits for the begun processes, except for the last `left`. */
  #confirmSpawns(left: number): void {
    while (this.#begun.length > left) this.#begun.shift()?.();
  }

  #armTimers(before: ControllerState, state: ControllerState): void {
    if (this.#controllerTimer?.deadline !== state.deadline)
      this.#controllerTimer = this.#arm(this.#controllerTimer, state.deadline, (at) => ({ kind: "deadline", at }));
    for (const [pool, { workers, deadline }] of state.pools.entries()) {
      if (this.#poolTimers.get(pool)?.deadline !== deadline) this.#armPool(pool, deadline);
      for (const slot of changedSlots(before.pools[pool]?.workers, workers))
        this.#armWorker(pool, slot, workers[slot]?.deadline);
    }
  }

  #armPool(pool: number, deadline: Instant | undefined): void {
    const event = (at: Instant): ControllerEvent => ({ kind: "poolDeadline", at, pool, random: this.#random() });
    const next = this.#arm(this.#poolTimers.get(pool), deadline, event);
    if (next === undefined) this.#poolTimers.delete(pool);
    else this.#poolTimers.set(pool, next);
  }

  #armWorker(pool: number, slot: Slot, deadline: Instant | undefined): void {
    const key = `${pool}/${slot}`;
    const armed = this.#workerTimers.get(key);
    if (armed?.deadline === deadline) return;
    const next = this.#arm(armed, deadline, (at) => ({
      kind: "worker",
      pool,
      slot,
      event: { kind: "deadline", at, random: this.#random() },
      random: this.#random(),
    }));
    if (next === undefined) this.#workerTimers.delete(key);
    else this.#workerTimers.set(key, next);
  }

  #arm(
    armed: ArmedTimer | undefined,
    deadline: Instant | undefined,
    eventAt: (at: Instant) => ControllerEvent,
  ): ArmedTimer | undefined {
    if (armed?.deadline === deadline) return armed;
    armed?.timer[Symbol.dispose]();
    if (deadline === undefined) return undefined;
    const slot: { timer: Disposable } = { timer: this.#clock.wakeAt(deadline, wake.bind(this)) };
    function wake(this: Daemon): void {
      const at = this.#clock.now();
      // A timer may fire slightly early, but the machine accepts only deadlines that have passed.
      if (at < (deadline ?? 0)) slot.timer = this.#clock.wakeAt(deadline as Instant, wake.bind(this));
      else this.#dispatch(eventAt(at));
    }
    return { deadline, timer: { [Symbol.dispose]: () => slot.timer[Symbol.dispose]() } };
  }

  /** Handles a bug: stops trusting the state, kills every known process and reports the error. */
  fail(error: unknown): void {
    if (this.#broken) return;
    this.#broken = true;
    const leaders = new Set<number>();
    for (const pool of this.#state.pools) {
      for (const worker of pool.workers) if ("pid" in worker && worker.pid !== undefined) leaders.add(worker.pid);
    }
    // Include processes that the state does not know yet.
    for (const confirm of this.#begun.splice(0)) {
      try {
        confirm();
      } catch {
        // The same bug again: one report is enough.
      }
    }
    for (const event of [...this.#spawned, ...this.#mailbox])
      if (event.kind === "worker" && event.event.kind === "spawned") leaders.add(event.event.pid);
    this.#spawned.length = 0;
    this.#mailbox.length = 0;
    this.#todo.length = 0;
    for (const timers of [this.#workerTimers, this.#poolTimers]) {
      for (const { timer } of timers.values()) timer[Symbol.dispose]();
      timers.clear();
    }
    this.#controllerTimer?.timer[Symbol.dispose]();
    for (const leader of leaders) this.#processes?.kill(leader);
    this.#listener.broken(error);
  }
}
