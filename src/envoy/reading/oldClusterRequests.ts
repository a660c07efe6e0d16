/**
 * Requests in flight on a replaced cluster. Envoy lets them finish but no longer attributes them to a worker. So any
 * worker of the old cluster may have some, until every connection belongs to a known worker again. Pure.
 */
import { after, type Instant } from "../../base/time.ts";
import type { UpstreamId } from "../resources/settings.ts";
import { QUIET_MS } from "./drains.ts";

/** Connections of all clusters with this name, read twice, and those of the current cluster, read in between. */
export interface ConnectionCounts {
  readonly before: { readonly active: number; readonly opened: number };
  readonly ofWorkers: number;
  readonly after: { readonly opened: number };
}

export class OldClusterRequests {
  /** Incarnations by slot that may have some. */
  readonly #workers = new Map<number, number>();
  #since: Instant | undefined;

  /** Whether polling is needed. */
  get isWatching(): boolean {
    return this.#workers.size > 0;
  }

  /** The cluster was replaced by the time `at`; Envoy balanced over `workers` before. */
  replaced(at: Instant, workers: Iterable<UpstreamId>): void {
    for (const { slot, incarnation } of workers) this.#workers.set(slot, incarnation);
    this.#since = at;
  }

  /** Whether a worker may have requests in flight on a replaced cluster. */
  mayRunOn(slot: number, incarnation: number): boolean {
    return this.#workers.get(slot) === incarnation;
  }

  /** Handles a poll started at `at`. */
  observe(at: Instant, { before, ofWorkers, after: then }: ConnectionCounts): void {
    // Envoy's threads learn of the new cluster slightly after its main thread.
    if (this.#since === undefined || at < after(this.#since, QUIET_MS)) return;
    // When `ofWorkers` was read, at most `before.active` plus all connections opened meanwhile were active.
    if (before.active + (then.opened - before.opened) - ofWorkers <= 0) this.clear();
  }

  /** All of them have ended, for example because Envoy has exited. */
  clear(): void {
    this.#workers.clear();
    this.#since = undefined;
  }
}
