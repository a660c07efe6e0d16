/** Keeps one timer for each deadline in the state: of the controller, of each pool and of each worker. */

import type { Instant } from "../../base/time.ts";
import type { ControllerEvent, ControllerState } from "../../core/controller.ts";
import type { Slot } from "../../core/identity.ts";
import type { WorkerState } from "../../core/worker/state.ts";
import type { Clock } from "../clock.ts";

interface ArmedTimer {
  readonly deadline: Instant;
  timer: Disposable;
}

/** The key of the controller's own timer; a pool's is its index, a worker's `pool/slot`. */
const CONTROLLER = -1;

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

export class Deadlines {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #dispatch: (event: ControllerEvent) => void;
  readonly #timers = new Map<number | string, ArmedTimer>();

  /** `dispatch` receives an event for each deadline that has passed. */
  constructor(options: { clock: Clock; random: () => number; dispatch: (event: ControllerEvent) => void }) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#dispatch = options.dispatch;
  }

  /** Makes the timers match `state`, the successor of `before`. */
  update(before: ControllerState, state: ControllerState): void {
    this.#arm(CONTROLLER, state.deadline, (at) => ({ kind: "deadline", at }));
    for (const [pool, { workers, deadline }] of state.pools.entries()) {
      this.#arm(pool, deadline, (at) => ({ kind: "poolDeadline", at, pool, random: this.#random() }));
      for (const slot of changedSlots(before.pools[pool]?.workers, workers))
        this.#arm(`${pool}/${slot}`, workers[slot]?.deadline, (at) => ({
          kind: "worker",
          pool,
          slot,
          event: { kind: "deadline", at, random: this.#random() },
          random: this.#random(),
        }));
    }
  }

  /** Stops all timers. */
  clear(): void {
    for (const { timer } of this.#timers.values()) timer[Symbol.dispose]();
    this.#timers.clear();
  }

  #arm(key: number | string, deadline: Instant | undefined, eventAt: (at: Instant) => ControllerEvent): void {
    const armed = this.#timers.get(key);
    if (armed?.deadline === deadline) return;
    armed?.timer[Symbol.dispose]();
    if (deadline === undefined) {
      this.#timers.delete(key);
      return;
    }
    const wake = (): void => {
      const at = this.#clock.now();
      // A timer may fire slightly early, but the machine accepts only deadlines that have passed.
      if (at < deadline) next.timer = this.#clock.wakeAt(deadline, wake);
      else this.#dispatch(eventAt(at));
    };
    const next: ArmedTimer = { deadline, timer: this.#clock.wakeAt(deadline, wake) };
    this.#timers.set(key, next);
  }
}
