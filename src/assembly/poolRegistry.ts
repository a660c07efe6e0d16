/**
 * What each pool is made of, by its index and revision: configuration, places, launch. A reload adds revisions; those of
 * processes that still run, and the one to go back to, stay.
 */
import type { PoolConfig } from "../config/config.ts";
import type { LaunchPlan } from "../runtime/launch.ts";
import type { PoolLaunch } from "../runtime/processes.ts";
import type { WorkerPlaces } from "./workerPlaces.ts";

/** One revision of a pool of workers. */
export interface PoolRevision {
  readonly config: PoolConfig;
  readonly plan: LaunchPlan;
  readonly places: WorkerPlaces;
  readonly launch: PoolLaunch;
}

/** Revisions that are kept of a pool: the present one, the one before it, and those of workers that are slow to leave. */
const KEPT_REVISIONS = 8;

export class PoolRegistry {
  readonly #workers = new Map<number, Map<number, PoolRevision>>();
  readonly #proxies = new Map<number, PoolLaunch>();

  /** A new revision of the pool `index`. */
  add(index: number, revision: number, parts: PoolRevision): void {
    const revisions = this.#workers.get(index) ?? new Map<number, PoolRevision>();
    revisions.set(revision, parts);
    for (const old of revisions.keys()) if (old <= revision - KEPT_REVISIONS) revisions.delete(old);
    this.#workers.set(index, revisions);
  }

  /** The Envoy that is the pool `index`. */
  addProxy(index: number, launch: PoolLaunch): void {
    this.#proxies.set(index, launch);
  }

  /** How a process of the pool is launched. */
  launchOf(index: number, revision: number): PoolLaunch {
    return this.#proxies.get(index) ?? this.partsOf(index, revision).launch;
  }

  /** One revision of a pool of workers. */
  partsOf(index: number, revision: number): PoolRevision {
    const parts = this.#workers.get(index)?.get(revision);
    if (parts === undefined) throw new RangeError(`there is no revision ${revision} of pool ${index}`);
    return parts;
  }

  /** The highest revision of a pool; 0 where it has none. */
  lastRevision(index: number): number {
    return Math.max(0, ...(this.#workers.get(index)?.keys() ?? []));
  }
}
