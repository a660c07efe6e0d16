/**
 * The revisions of each pool, and its configuration in force. Processes are launched with a revision; it is kept while
 * a process uses it, and so that a failed rollout can return to it. Every other key has only its value in force.
 */
import type { LaunchedPool, PoolConfig } from "../../config/config.ts";
import type { LaunchPlan } from "../../runtime/process/launch.ts";
import type { PoolLaunch } from "../../runtime/process/poolLaunch.ts";
import type { WorkerPlaces } from "./workerPlaces.ts";

/** One revision of a pool of workers. */
export interface PoolRevision {
  readonly config: LaunchedPool;
  readonly plan: LaunchPlan;
  readonly places: WorkerPlaces;
  readonly launch: PoolLaunch;
}

/** Number of revisions kept before the oldest one in use: a failed reload returns to one of them. */
const KEPT_REVISIONS = 8;

export class PoolRegistry {
  readonly #workers = new Map<number, Map<number, PoolRevision>>();
  readonly #proxies = new Map<number, PoolLaunch>();
  readonly #inForce = new Map<number, PoolConfig>();

  /** Adds a revision of the pool `index`; `oldestInUse` is the lowest that the pool or one of its workers uses. */
  add(index: number, revision: number, parts: PoolRevision, oldestInUse: number): void {
    const revisions = this.#workers.get(index) ?? new Map<number, PoolRevision>();
    revisions.set(revision, parts);
    for (const old of revisions.keys()) if (old < oldestInUse - KEPT_REVISIONS) revisions.delete(old);
    this.#workers.set(index, revisions);
  }

  /** Sets the configuration in force of the pool `index`, for all keys that are not part of a launch. */
  putInForce(index: number, config: PoolConfig): void {
    this.#inForce.set(index, config);
  }

  /** The configuration of a pool of workers that is in force. */
  inForceOf(index: number): PoolConfig {
    const config = this.#inForce.get(index);
    if (config === undefined) throw new RangeError(`there is no pool ${index}`);
    return config;
  }

  /** Adds the Envoy that is the pool `index`. */
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
}
