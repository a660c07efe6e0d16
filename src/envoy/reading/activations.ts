/** Which workers Envoy should balance over or keep on standby, and which of them it has activated. Pure. */
import type { Upstream, UpstreamId } from "../resources/settings.ts";

export class Activations {
  readonly #wanted = new Map<number, { readonly incarnation: number; isActive: boolean }>();

  /** Whether Envoy has activated any worker. */
  get isAnyActive(): boolean {
    for (const { isActive } of this.#wanted.values()) if (isActive) return true;
    return false;
  }

  /** Whether any worker still waits for its activation. */
  get isAnyPending(): boolean {
    for (const { isActive } of this.#wanted.values()) if (!isActive) return true;
    return false;
  }

  /** Sets the desired upstreams. Returns whether any new worker must be activated. */
  want(upstreams: readonly Upstream[]): boolean {
    const wanted = new Map(upstreams.filter(isWanted).map(({ slot, incarnation }) => [slot, incarnation]));
    for (const [slot, { incarnation }] of this.#wanted) if (wanted.get(slot) !== incarnation) this.#wanted.delete(slot);
    let hasNew = false;
    for (const [slot, incarnation] of wanted) {
      if (this.#wanted.has(slot)) continue;
      this.#wanted.set(slot, { incarnation, isActive: false });
      hasNew = true;
    }
    return hasNew;
  }

  /** Envoy has applied these upstreams. Returns the newly activated workers. */
  applied(upstreams: readonly Upstream[]): UpstreamId[] {
    const present = new Map(upstreams.filter(isWanted).map((each) => [each.slot, each]));
    return this.#activate((slot, incarnation) => present.get(slot)?.incarnation === incarnation);
  }

  /** No Envoy runs; the next one starts with the desired upstreams. Returns the workers not activated before. */
  all(): UpstreamId[] {
    return this.#activate(() => true);
  }

  #activate(isServed: (slot: number, incarnation: number) => boolean): UpstreamId[] {
    const activated: UpstreamId[] = [];
    for (const [slot, each] of this.#wanted) {
      if (each.isActive || !isServed(slot, each.incarnation)) continue;
      each.isActive = true;
      activated.push({ slot, incarnation: each.incarnation });
    }
    return activated;
  }
}

/** Whether the upstream serves requests or can be promoted at any moment. */
function isWanted({ state }: Upstream): boolean {
  return state === "serving" || state === "standby";
}
