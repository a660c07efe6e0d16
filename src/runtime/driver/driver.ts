/**
 * The mailbox of the controller machine. Handles one event at a time and performs its effects, whose results come back
 * as events. After TURN_MS, the rest of a large pool's work waits for the next turn of the event loop, so that requests,
 * signals and log lines are handled in between. It makes no decisions.
 */

import { InvariantError } from "../../base/errors.ts";
import {
  type ControllerEffect,
  type ControllerEvent,
  type ControllerState,
  newController,
  stepController,
} from "../../core/controller.ts";
import type { LifecycleEvent } from "../../core/event.ts";
import type { PoolIndex, WorkerRef } from "../../core/identity.ts";
import type { ControllerSpec } from "../../core/spec.ts";
import type { Clock } from "../clock.ts";
import { Deadlines } from "./deadlines.ts";
import { type ProcessStarter, Spawns } from "./spawns.ts";

/** The process operations that the driver needs. */
export interface ProcessControl extends ProcessStarter {
  signal(leader: number, signal: string, scope: "group" | "leader" | "escaped"): void;
  kill(leader: number): void;
}

/** Notified of what happens. */
export interface DriverListener {
  /** An event that an operator may want to see, and the worker that it is about. */
  emitted(event: LifecycleEvent, worker?: WorkerRef): void;
  /** The state changed. Called after all other effects of an event. */
  changed(): void;
  /** The proxy that is pool `pool` must finish its requests and accept no new ones. `proxyDrained` is the reply. */
  drainProxy(pool: PoolIndex): void;
  /** All pools are running for the first time. */
  ready(): void;
  /** The shutdown begins. */
  stopping(): void;
  /** All processes have exited; the controller may exit. */
  finished(exitCode: number): void;
  /** A bug. The driver has started to kill all processes. */
  broken(error: unknown): void;
}

/** Time limit for handling events and effects in one turn of the event loop. */
const TURN_MS = 8;

function isProcessEffect({ kind }: ControllerEffect): boolean {
  return kind === "spawn" || kind === "signal" || kind === "kill";
}

export class Driver {
  readonly #clock: Clock;
  readonly #listener: DriverListener;
  readonly #mailbox: ControllerEvent[] = [];
  readonly #spawns: Spawns;
  readonly #deadlines: Deadlines;
  #processes: ProcessControl | undefined;
  #state: ControllerState;
  /** Effects of the last event that are still to be performed. */
  readonly #todo: ControllerEffect[] = [];
  /** `working` while events are handled, now or in the next turn; `broken` after a bug. */
  #phase: "idle" | "working" | "broken" = "idle";

  constructor(options: { spec: ControllerSpec; clock: Clock; random: () => number; listener: DriverListener }) {
    const { spec, clock, random, listener } = options;
    this.#clock = clock;
    this.#listener = listener;
    this.#state = newController(spec, clock.now());
    this.#spawns = new Spawns(clock, random);
    this.#deadlines = new Deadlines({ clock, random, dispatch: (event) => this.dispatch(event) });
  }

  /** Starts and signals processes from now on. */
  attach(processes: ProcessControl): void {
    this.#processes = processes;
  }

  get state(): ControllerState {
    return this.#state;
  }

  /** FIFO and not reentrant: an event caused by an effect waits until the current event is done. */
  dispatch(event: ControllerEvent): void {
    // After a bug, make no more decisions: the machine would restart processes that `fail` has just killed.
    if (this.#phase === "broken") return;
    this.#mailbox.push(event);
    this.#run();
  }

  /** Handles an event before queued ones: it concerns none of their workers, and the caller relies on its result. */
  dispatchFirst(event: Extract<ControllerEvent, { kind: "addPools" | "setPolicy" }>): void {
    if (this.#phase === "broken") return;
    try {
      this.#handle(event);
    } catch (error) {
      this.fail(error);
    }
    this.#run();
  }

  #run(): void {
    if (this.#phase !== "idle") return;
    this.#phase = "working";
    const startedAt = this.#clock.now();
    try {
      while (this.#handleNext()) {
        if (this.#clock.now() - startedAt < TURN_MS) continue;
        this.#spawns.confirmAll();
        this.#clock.nextTurn(() => {
          this.#pause();
          this.#run();
        });
        return;
      }
    } catch (error) {
      this.fail(error);
    }
    this.#pause();
  }

  #pause(): void {
    if (this.#phase === "working") this.#phase = "idle";
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
    this.#spawns.confirmAll();
    const queue = this.#spawns.results.length > 0 ? this.#spawns.results : this.#mailbox;
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
    this.#deadlines.update(before, state);
    // Process effects come first, so that writing log lines does not delay a successor.
    for (const effect of effects) if (isProcessEffect(effect)) this.#todo.push(effect);
    for (const effect of effects) if (!isProcessEffect(effect)) this.#todo.push(effect);
    if (effects.length === 0) this.#listener.changed();
  }

  #perform(effect: ControllerEffect): void {
    switch (effect.kind) {
      case "spawn":
        if (this.#processes === undefined) throw new InvariantError("a spawn before the boot");
        this.#spawns.begin(this.#processes, effect);
        return;
      case "signal":
        this.#processes?.signal(effect.pid, effect.signal, effect.scope);
        return;
      case "kill":
        this.#processes?.kill(effect.pid);
        return;
      case "emit":
        this.#listener.emitted(effect.event, effect.worker);
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

  /** Handles a bug: stops trusting the state, kills every known process and reports the error. */
  fail(error: unknown): void {
    if (this.#phase === "broken") return;
    this.#phase = "broken";
    const leaders = this.#state.pools.flatMap(({ workers }) =>
      workers.flatMap((worker) => ("pid" in worker && worker.pid !== undefined ? [worker.pid] : [])),
    );
    // The state does not know the processes that were started last.
    const all = new Set([...leaders, ...this.#spawns.abandon()]);
    this.#mailbox.length = 0;
    this.#todo.length = 0;
    this.#deadlines.clear();
    for (const leader of all) this.#processes?.kill(leader);
    this.#listener.broken(error);
  }
}
