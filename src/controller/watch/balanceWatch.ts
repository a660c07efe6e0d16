/**
 * Samples of the work of each pool's workers, for the balance over the last minute. A timer takes one four times a
 * minute (one small file under /proc per process of a worker), so every query has an earlier sample to compare with.
 * The query's own reading ends the window.
 */
import { setImmediate as turn } from "node:timers/promises";
import type { ProxyReadings } from "../../base/readings.ts";
import { after } from "../../base/time.ts";
import {
  addSample,
  type Balance,
  decideBalance,
  SAMPLE_MS,
  type WorkSample,
  type WorkWindow,
} from "../../core/policy/balance.ts";
import type { ControllerView, PoolView } from "../../core/view.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { TreeUsages } from "../../runtime/inspect/treeUsage.ts";

/** The first sample is early, so that there is something to show soon after the start. */
const FIRST_SAMPLE_MS = 2000;

/** Maximum age of the listing of processes. */
const LISTING_AGE_MS = 1000;

/** Number of workers that are read per turn of the event loop. */
const WORKERS_PER_TURN = 64;

/** Sources of the samples. */
export interface BalanceSources {
  readonly view: () => ControllerView;
  /** What the proxies counted, by name of the pool. */
  readonly proxies: () => ReadonlyMap<string, ProxyReadings>;
  readonly usages: Pick<TreeUsages, "read">;
}

export class BalanceWatch implements Disposable {
  readonly #sources: BalanceSources;
  readonly #clock: Clock;
  readonly #windows = new Map<string, WorkWindow>();
  #timer: Disposable;

  constructor(sources: BalanceSources, clock: Clock) {
    this.#sources = sources;
    this.#clock = clock;
    this.#timer = this.#arm(FIRST_SAMPLE_MS);
  }

  /** The balance of each pool of workers by its name; `cpuSecondsOf` returns the current reading of a leader. */
  look(cpuSecondsOf: (pid: number) => number | undefined): ReadonlyMap<string, Balance> {
    const proxies = this.#sources.proxies();
    const balances = new Map<string, Balance>();
    for (const pool of this.#sources.view().pools) {
      if (pool.role !== "workers") continue;
      const sample = this.#sampleOf(pool, proxies.get(pool.name), cpuSecondsOf);
      balances.set(pool.name, decideBalance(this.#windows.get(pool.name) ?? [], sample));
    }
    return balances;
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }

  #arm(inMs: number): Disposable {
    return this.#clock.wakeAt(after(this.#clock.now(), inMs), () => {
      this.#timer = this.#arm(SAMPLE_MS);
      void this.#keep();
    });
  }

  async #keep(): Promise<void> {
    const proxies = this.#sources.proxies();
    for (const pool of this.#sources.view().pools) {
      const leaders = pool.workers.flatMap(({ pid }) => pid ?? []);
      // A single worker is never compared.
      if (pool.role !== "workers" || leaders.length < 2) continue;
      const cpuSeconds = new Map<number, number>();
      for (let from = 0; from < leaders.length; from += WORKERS_PER_TURN) {
        if (from > 0) await turn();
        const some = leaders.slice(from, from + WORKERS_PER_TURN);
        for (const [pid, usage] of this.#sources.usages.read(some, LISTING_AGE_MS))
          cpuSeconds.set(pid, usage.cpuSeconds);
      }
      const sample = this.#sampleOf(pool, proxies.get(pool.name), (pid) => cpuSeconds.get(pid));
      this.#windows.set(pool.name, addSample(this.#windows.get(pool.name) ?? [], sample));
    }
  }

  #sampleOf(
    pool: PoolView,
    totals: ProxyReadings | undefined,
    cpuSecondsOf: (pid: number) => number | undefined,
  ): WorkSample {
    const workers = pool.workers.flatMap(({ phase, slot, incarnation, pid }) => {
      if (phase !== "ready" || pid === undefined) return [];
      const requests = totals === undefined ? undefined : (totals.workers.get(slot)?.requestsTotal ?? 0);
      return [{ slot, incarnation, cpuSeconds: cpuSecondsOf(pid), requests }];
    });
    return { at: this.#clock.now(), workers };
  }
}
