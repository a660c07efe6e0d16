/**
 * Requests that run on a cluster that was replaced. Envoy lets them end but counts them for no worker any more, so any
 * worker it balanced over then may have some, until there is no connection left that belongs to no worker. Pure.
 */
import { after, type Instant } from "../../base/time.ts";
import { QUIET_MS } from "./drains.ts";

/** Who may have some. */
export interface Suspect {
  readonly slot: number;
  readonly incarnation: number;
}

/** Connections of all clusters of this name at two moments, and between them those of the present one. */
export interface ConnectionCounts {
  readonly before: { readonly active: number; readonly opened: number };
  readonly ofWorkers: number;
  readonly after: { readonly opened: number };
}

export class Stragglers {
  readonly #suspects = new Map<number, number>();
  #since: Instant | undefined;

  /** Whether a look is needed. */
  get isWatching(): boolean {
    return this.#suspects.size > 0;
  }

  /** The cluster was replaced by `at`; these were balanced over before. */
  replaced(at: Instant, suspects: Iterable<Suspect>): void {
    for (const { slot, incarnation } of suspects) this.#suspects.set(slot, incarnation);
    this.#since = at;
  }

  /** Whether a worker may have some. */
  mayHave(slot: number, incarnation: number): boolean {
    return this.#suspects.get(slot) === incarnation;
  }

  /** A look that was begun at `at`. */
  look(at: Instant, { before, ofWorkers, after: then }: ConnectionCounts): void {
    // Envoy's threads learn of the new cluster a little after its main thread.
    if (this.#since === undefined || at < after(this.#since, QUIET_MS)) return;
    // At the moment of the middle answer there were at most those of the first and all that were opened meanwhile.
    if (before.active + (then.opened - before.opened) - ofWorkers <= 0) this.clear();
  }

  /** Envoy is gone. */
  clear(): void {
    this.#suspects.clear();
    this.#since = undefined;
  }
}
