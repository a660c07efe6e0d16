/**
 * Which workers drain and when the last request on each is over. Envoy's threads learn of new endpoints a little after
 * its main thread, which answers the questions: so a worker is drained only when it had nothing to do in two looks, some
 * milliseconds apart, after the endpoints were applied. Pure bookkeeping.
 */
import { after, type Instant } from "../../base/time.ts";
import type { Upstream } from "../resources/settings.ts";

/** Least time between the first and the last look at a worker that has nothing to do. */
export const QUIET_MS = 10;

interface Drain {
  readonly incarnation: number;
  phase: "announced" | "watched" | "over";
  quietSince: Instant | undefined;
}

/** A worker that is drained. */
export interface Drained {
  readonly slot: number;
  readonly incarnation: number;
}

export class Drains {
  readonly #drains = new Map<number, Drain>();

  /** Whether a look is needed: someone drains and Envoy knows it. */
  get isWatching(): boolean {
    return [...this.#drains.values()].some(({ phase }) => phase === "watched");
  }

  /** Whether the next look may be the last one at somebody. */
  get isNearlyOver(): boolean {
    return [...this.#drains.values()].some(({ phase, quietSince }) => phase === "watched" && quietSince !== undefined);
  }

  /** The upstreams that are wanted; who drains already goes on. Returns whether someone new drains. */
  want(upstreams: readonly Upstream[]): boolean {
    const draining = new Map(
      upstreams.filter(({ state }) => state === "draining").map(({ slot, incarnation }) => [slot, incarnation]),
    );
    for (const [slot, { incarnation }] of this.#drains)
      if (draining.get(slot) !== incarnation) this.#drains.delete(slot);
    let hasNew = false;
    for (const [slot, incarnation] of draining) {
      if (this.#drains.has(slot)) continue;
      this.#drains.set(slot, { incarnation, phase: "announced", quietSince: undefined });
      hasNew = true;
    }
    return hasNew;
  }

  /** Envoy balances over these upstreams now. Returns whether someone is watched who was not. */
  applied(upstreams: readonly Upstream[]): boolean {
    let hasNew = false;
    for (const { slot, incarnation, state } of upstreams) {
      const drain = this.#drains.get(slot);
      if (state !== "draining" || drain?.incarnation !== incarnation || drain.phase !== "announced") continue;
      drain.phase = "watched";
      hasNew = true;
    }
    return hasNew;
  }

  /** A look that was begun at `at`: `isBusy` tells whether a worker had something to do. Returns who is drained now. */
  look(at: Instant, isBusy: (slot: number, incarnation: number) => boolean): Drained[] {
    const drained: Drained[] = [];
    for (const [slot, drain] of this.#drains) {
      if (drain.phase !== "watched") continue;
      if (isBusy(slot, drain.incarnation)) drain.quietSince = undefined;
      else if (drain.quietSince === undefined) drain.quietSince = at;
      else if (at >= after(drain.quietSince, QUIET_MS)) {
        drain.phase = "over";
        drained.push({ slot, incarnation: drain.incarnation });
      }
    }
    return drained;
  }

  /** Nothing is in flight any more, because Envoy is gone. Returns who is drained by that. */
  endAll(): Drained[] {
    const drained: Drained[] = [];
    for (const [slot, drain] of this.#drains) {
      if (drain.phase === "over") continue;
      drain.phase = "over";
      drained.push({ slot, incarnation: drain.incarnation });
    }
    return drained;
  }
}
