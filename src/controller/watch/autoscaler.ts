/**
 * Measures the load of autoscaled pools, and scales a pool when the decision (core/autoscale.ts) changes. No timer runs
 * if no pool is autoscaled.
 */

import type { ProxyReadings } from "../../base/readings.ts";
import type { Instant } from "../../base/time.ts";
import { changesSpec, type LifecycleEvent } from "../../core/event.ts";
import { type AutoscaleState, decideReplicas, newAutoscale } from "../../core/policy/autoscale.ts";
import type { PoolView, WorkerView } from "../../core/view.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import type { TreeUsages } from "../../runtime/inspect/treeUsage.ts";
import { Rounds } from "./rounds.ts";

const SAMPLE_MS = 2000;

/** Maximum age of the listing of processes. */
const LISTING_AGE_MS = 1000;

/** CPU time that a worker had used at the last look. */
interface CpuMark {
  /** Its leader. */
  readonly pid: number;
  readonly at: Instant;
  readonly cpuSeconds: number;
}

export interface AutoscalerOptions {
  readonly daemon: Pick<Daemon, "view" | "specOf">;
  readonly clock: Clock;
  readonly usages: Pick<TreeUsages, "read">;
  /** What the proxies counted, by name of the pool. */
  readonly proxies: () => ReadonlyMap<string, Pick<ProxyReadings, "workers">>;
  /** Gives the order. May throw if the configuration does not allow it, which is reported once. */
  readonly scale: (pool: number, replicas: number, reason: string) => void;
}

export class Autoscaler implements Disposable {
  readonly #options: AutoscalerOptions;
  readonly #states = new Map<string, AutoscaleState>();
  readonly #marks = new Map<string, CpuMark>();
  readonly #rounds: Rounds;

  constructor(options: AutoscalerOptions) {
    const { daemon, clock } = options;
    this.#options = options;
    this.#rounds = new Rounds({
      clock,
      everyMs: SAMPLE_MS,
      isNeeded: () => daemon.view().pools.some(({ index }) => daemon.specOf(index).autoscale !== undefined),
      look: () => {
        for (const pool of daemon.view().pools) this.#look(pool);
      },
    });
    this.#rounds.start();
  }

  /** Call for every lifecycle event: a reload, or its rollback, may add the first autoscaled pool. */
  handle(event: LifecycleEvent): void {
    if (changesSpec(event)) this.#rounds.start();
  }

  [Symbol.dispose](): void {
    this.#rounds[Symbol.dispose]();
  }

  #look(pool: PoolView): void {
    const { daemon, clock, proxies, scale } = this.#options;
    const policy = daemon.specOf(pool.index).autoscale;
    if (policy === undefined) return;
    const ready = pool.workers.filter(({ phase, isStandby }) => phase === "ready" && !isStandby);
    const known = policy.targetCpu === undefined ? [] : this.#cpuRatios(ready);
    const counted = proxies().get(pool.name);
    const inFlight = ready.reduce((sum, { slot }) => sum + (counted?.workers.get(slot)?.inFlight ?? 0), 0);
    const sample = {
      at: clock.now(),
      replicas: pool.replicas,
      readyCount: ready.length,
      cpuRatio: known.length === 0 ? undefined : known.reduce((sum, ratio) => sum + ratio, 0) / known.length,
      inFlightPerWorker: counted === undefined ? undefined : inFlight / Math.max(1, ready.length),
    };
    // While operations change the pool, its load is not meaningful.
    if (pool.operations.length > 0) return;
    const { state, replicas, reason } = decideReplicas(this.#states.get(pool.name) ?? newAutoscale(), sample, policy);
    this.#states.set(pool.name, state);
    if (replicas !== pool.replicas) scale(pool.index, replicas, reason ?? "autoscale");
  }

  /** CPUs that the process tree of each worker used since the last look; none for a worker at its first look. */
  #cpuRatios(workers: readonly WorkerView[]): number[] {
    const { clock, usages } = this.#options;
    const leaders = workers.flatMap(({ pid }) => pid ?? []);
    const read = usages.read(leaders, LISTING_AGE_MS);
    const at = clock.now();
    return workers.flatMap(({ id, pid }) => {
      const cpuSeconds = pid === undefined ? undefined : read.get(pid)?.cpuSeconds;
      if (pid === undefined || cpuSeconds === undefined) return [];
      const last = this.#marks.get(id);
      this.#marks.set(id, { pid, at, cpuSeconds });
      if (last?.pid !== pid || at <= last.at) return [];
      return [((cpuSeconds - last.cpuSeconds) * 1000) / (at - last.at)];
    });
  }
}
