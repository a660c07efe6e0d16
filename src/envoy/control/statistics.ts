/** Reads the statistics of the running Envoy once a second, and adds up its counters over all Envoys of the pool. */
import { after, type Clock } from "../../base/time.ts";
import { countersOf, HISTOGRAM_FILTER, READINGS_FILTER } from "../reading/readings.ts";
import { addNamed, type NamedCounts, NO_NAMED_COUNTS } from "../reading/requestCounts.ts";
import type { EnvoyRun } from "./run.ts";

const INTERVAL_MS = 1000;

export class Statistics {
  readonly #clock: Clock;
  #latest: ReadonlyMap<string, number | string> = new Map();
  #counts = NO_NAMED_COUNTS;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Of the running Envoy; empty if none runs. */
  get latest(): ReadonlyMap<string, number | string> {
    return this.#latest;
  }

  get counts(): NamedCounts {
    return this.#counts;
  }

  /** Reads until the run is over. */
  async follow(run: EnvoyRun): Promise<void> {
    let readAt = this.#clock.now();
    while (!run.isOver) {
      if (this.#clock.now() >= readAt) {
        readAt = after(this.#clock.now(), INTERVAL_MS);
        await this.#read(run);
      }
      if (!run.isOver) await run.pause(Math.max(1, readAt - this.#clock.now()));
    }
  }

  /** Envoy has exited. */
  clear(): void {
    this.#latest = new Map();
  }

  async #read(run: EnvoyRun): Promise<void> {
    const stats = await run.admin.stats(READINGS_FILTER).catch(() => undefined);
    const histograms = await run.admin.histograms(HISTOGRAM_FILTER).catch(() => undefined);
    if (run.isOver || stats === undefined || histograms === undefined) return;
    this.#latest = stats;
    this.#counts = addNamed(this.#counts, run.incarnation, countersOf(stats, histograms));
  }
}
