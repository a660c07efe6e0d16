/**
 * Measures what the workers of autoscaled pools do and gives the order when the decision (core/autoscale.ts) changes. No
 * timer runs where no pool is autoscaled.
 */
import { after, type Instant } from "../base/time.ts";
import { type AutoscaleState, decideReplicas, newAutoscale } from "../core/autoscale.ts";
import { changesSpec, type LifecycleEvent } from "../core/event.ts";
import type { PoolView } from "../core/view.ts";
import type { ProxyReadings } from "../envoy/readings.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Daemon } from "../runtime/daemon.ts";
import { readStat } from "../runtime/procfs.ts";

const SAMPLE_MS = 2000;

/** What a process had used up when it was looked at last. */
interface CpuMark {
  readonly pid: number;
  readonly at: Instant;
  readonly cpuSeconds: number;
}

export interface AutoscalerOptions {
  readonly daemon: Daemon;
  readonly clock: Clock;
  readonly ticksPerSecond: number;
  /** What the proxies counted, by name of the pool. */
  readonly proxies: () => ReadonlyMap<string, ProxyReadings>;
  /** Gives the order; may throw where the configuration does not allow it, which is told once. */
  readonly scale: (pool: number, replicas: number, reason: string) => void;
}

export class Autoscaler implements Disposable {
  readonly #options: AutoscalerOptions;
  readonly #states = new Map<string, AutoscaleState>();
  readonly #marks = new Map<string, CpuMark>();
  #timer: Disposable | undefined;

  constructor(options: AutoscalerOptions) {
    this.#options = options;
    this.#arm();
  }

  /** To be told of every lifecycle event: a reload, or its rollback, may bring the first pool that is autoscaled. */
  handle(event: LifecycleEvent): void {
    if (changesSpec(event) && this.#timer === undefined) this.#arm();
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }

  #arm(): void {
    this.#timer = undefined;
    const { daemon, clock } = this.#options;
    const isNeeded = daemon.view().pools.some(({ index }) => daemon.specOf(index).autoscale !== undefined);
    if (!isNeeded) return;
    this.#timer = clock.wakeAt(after(clock.now(), SAMPLE_MS), () => {
      for (const pool of daemon.view().pools) this.#look(pool);
      this.#arm();
    });
  }

  #look(pool: PoolView): void {
    const { daemon, clock, proxies, scale } = this.#options;
    const policy = daemon.specOf(pool.index).autoscale;
    if (policy === undefined) return;
    const ready = pool.workers.filter(({ phase, isSpare }) => phase === "ready" && !isSpare);
    const cpuRatios = ready.map(({ id, pid }) => (pid === undefined ? undefined : this.#cpuRatio(id, pid)));
    const known = cpuRatios.filter((ratio) => ratio !== undefined);
    const counted = proxies().get(pool.name);
    const inFlight = ready.reduce((sum, { slot }) => sum + (counted?.workers.get(slot)?.inFlight ?? 0), 0);
    const sample = {
      at: clock.now(),
      replicas: pool.replicas,
      readyCount: ready.length,
      cpuRatio: known.length === 0 ? undefined : known.reduce((sum, ratio) => sum + ratio, 0) / known.length,
      inFlightPerWorker: counted === undefined ? undefined : inFlight / Math.max(1, ready.length),
    };
    // While the pool is being changed its load says little.
    if (pool.operations.length > 0) return;
    const { state, replicas, reason } = decideReplicas(this.#states.get(pool.name) ?? newAutoscale(), sample, policy);
    this.#states.set(pool.name, state);
    if (replicas !== pool.replicas) scale(pool.index, replicas, reason ?? "autoscale");
  }

  /** CPUs that a process used since the last look; undefined at the first one. */
  #cpuRatio(worker: string, pid: number): number | undefined {
    const { clock, ticksPerSecond } = this.#options;
    const ticks = readStat(pid)?.cpuTicks;
    if (ticks === undefined) return undefined;
    const mark: CpuMark = { pid, at: clock.now(), cpuSeconds: ticks / ticksPerSecond };
    const last = this.#marks.get(worker);
    this.#marks.set(worker, mark);
    if (last?.pid !== pid || mark.at <= last.at) return undefined;
    return ((mark.cpuSeconds - last.cpuSeconds) * 1000) / (mark.at - last.at);
  }
}
