/**
 * Tracks which workers drain and when the last request on each ends. Envoy's threads learn of new endpoints slightly
 * after its main thread, which answers admin requests. So a worker is drained only after two idle polls, some
 * milliseconds apart, once Envoy has applied the endpoints. Pure bookkeeping.
 */
import { after, type Instant } from "../../base/time.ts";
import type { Upstream, UpstreamId } from "../resources/settings.ts";

/** Minimum time between the first and the last poll of an idle worker. */
export const QUIET_MS = 10;

interface Drain {
  readonly incarnation: number;
  phase: "announced" | "watched" | "over";
  quietSince: Instant | undefined;
}

export class Drains {
  readonly #drains = new Map<number, Drain>();

  /** Whether polling is needed: a worker drains and Envoy has applied its state. */
  get isWatching(): boolean {
    return [...this.#drains.values()].some(({ phase }) => phase === "watched");
  }

  /** Whether the next poll may complete a drain. */
  get isNearlyOver(): boolean {
    return [...this.#drains.values()].some(({ phase, quietSince }) => phase === "watched" && quietSince !== undefined);
  }

  /** Sets the desired upstreams; drains in progress continue. Returns whether a new drain started. */
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

  /** Envoy has applied these upstreams. Returns whether another drain is watched now. */
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

  /** Handles a poll started at `at`; `isBusy` says whether a worker has work. Returns the workers now drained. */
  observe(at: Instant, isBusy: (slot: number, incarnation: number) => boolean): UpstreamId[] {
    const drained: UpstreamId[] = [];
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

  /** Ends all drains, because Envoy has exited and nothing is in flight. Returns the workers affected. */
  endAll(): UpstreamId[] {
    const drained: UpstreamId[] = [];
    for (const [slot, drain] of this.#drains) {
      if (drain.phase === "over") continue;
      drain.phase = "over";
      drained.push({ slot, incarnation: drain.incarnation });
    }
    return drained;
  }
}
