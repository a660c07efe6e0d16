/** Which workers Envoy should balance over or keep on standby, and which of them it has activated. Pure. */
import type { Upstream } from "../resources/settings.ts";

/** A worker that receives requests from now on, or as soon as it is promoted. */
export interface Enlisted {
  readonly slot: number;
  readonly incarnation: number;
}

export class Enlistments {
  readonly #wanted = new Map<number, { readonly incarnation: number; isEnlisted: boolean }>();

  /** Whether Envoy has activated any worker. */
  get isAnyEnlisted(): boolean {
    for (const { isEnlisted } of this.#wanted.values()) if (isEnlisted) return true;
    return false;
  }

  /** Whether any worker still waits for its activation. */
  get isAnyAwaited(): boolean {
    for (const { isEnlisted } of this.#wanted.values()) if (!isEnlisted) return true;
    return false;
  }

  /** Sets the desired upstreams. Returns whether any new worker must be activated. */
  want(upstreams: readonly Upstream[]): boolean {
    const wanted = new Map(upstreams.filter(isWanted).map(({ slot, incarnation }) => [slot, incarnation]));
    for (const [slot, { incarnation }] of this.#wanted) if (wanted.get(slot) !== incarnation) this.#wanted.delete(slot);
    let hasNew = false;
    for (const [slot, incarnation] of wanted) {
      if (this.#wanted.has(slot)) continue;
      this.#wanted.set(slot, { incarnation, isEnlisted: false });
      hasNew = true;
    }
    return hasNew;
  }

  /** Envoy has applied these upstreams. Returns the newly activated workers. */
  applied(upstreams: readonly Upstream[]): Enlisted[] {
    const present = new Map(upstreams.filter(isWanted).map((each) => [each.slot, each]));
    return this.#enlist((slot, incarnation) => present.get(slot)?.incarnation === incarnation);
  }

  /** No Envoy runs; the next one starts with the desired upstreams. Returns the workers not activated before. */
  all(): Enlisted[] {
    return this.#enlist(() => true);
  }

  #enlist(isServed: (slot: number, incarnation: number) => boolean): Enlisted[] {
    const enlisted: Enlisted[] = [];
    for (const [slot, each] of this.#wanted) {
      if (each.isEnlisted || !isServed(slot, each.incarnation)) continue;
      each.isEnlisted = true;
      enlisted.push({ slot, incarnation: each.incarnation });
    }
    return enlisted;
  }
}

/** Whether the upstream serves requests or can be promoted at any moment. */
function isWanted({ state }: Upstream): boolean {
  return state === "serving" || state === "standby";
}
