/** Which workers Envoy was told to balance over, and which of them it really does. Pure bookkeeping. */
import type { Upstream } from "./settings.ts";

/** A worker that gets requests from now on. */
export interface Enlisted {
  readonly slot: number;
  readonly incarnation: number;
}

export class Enlistments {
  readonly #serving = new Map<number, { readonly incarnation: number; isEnlisted: boolean }>();

  /** Whether Envoy balances over anyone. */
  get isAnyEnlisted(): boolean {
    for (const { isEnlisted } of this.#serving.values()) if (isEnlisted) return true;
    return false;
  }

  /** The upstreams that are wanted. Returns whether someone new is to serve. */
  want(upstreams: readonly Upstream[]): boolean {
    const serving = new Map(
      upstreams.filter(({ state }) => state === "serving").map(({ slot, incarnation }) => [slot, incarnation]),
    );
    for (const [slot, { incarnation }] of this.#serving)
      if (serving.get(slot) !== incarnation) this.#serving.delete(slot);
    let hasNew = false;
    for (const [slot, incarnation] of serving) {
      if (this.#serving.has(slot)) continue;
      this.#serving.set(slot, { incarnation, isEnlisted: false });
      hasNew = true;
    }
    return hasNew;
  }

  /** Envoy balances over these upstreams now. Returns who is new among them. */
  applied(upstreams: readonly Upstream[]): Enlisted[] {
    const present = new Map(upstreams.filter(({ state }) => state === "serving").map((each) => [each.slot, each]));
    return this.#enlist((slot, incarnation) => present.get(slot)?.incarnation === incarnation);
  }

  /** No Envoy runs; the next one begins with what is wanted. Returns who had not been enlisted. */
  all(): Enlisted[] {
    return this.#enlist(() => true);
  }

  #enlist(isServed: (slot: number, incarnation: number) => boolean): Enlisted[] {
    const enlisted: Enlisted[] = [];
    for (const [slot, each] of this.#serving) {
      if (each.isEnlisted || !isServed(slot, each.incarnation)) continue;
      each.isEnlisted = true;
      enlisted.push({ slot, incarnation: each.incarnation });
    }
    return enlisted;
  }
}
