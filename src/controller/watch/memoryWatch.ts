/** Registers workers with the memory sampler, and passes its results to the daemon. */
import type { Logger } from "../../base/log.ts";
import { changesSpec, type LifecycleEvent } from "../../core/event.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import { MemorySampler } from "../../runtime/inspect/memorySampler.ts";
import { readSystemUnits } from "../../runtime/os/linux.ts";
import { readPssBytes, readRssPages } from "../../runtime/os/memoryReadings.ts";
import type { ProcessTrees } from "../../runtime/process/processTrees.ts";

/** Maximum age of the listing of processes. */
const LISTING_AGE_MS = 250;

export class MemoryWatch implements Disposable {
  readonly #indexOf: (pool: string) => number | undefined;
  readonly #sampler: MemorySampler;

  /** `indexOf` knows the pools of workers by name; `trees` must be notified of each event before this. */
  constructor(options: {
    indexOf: (pool: string) => number | undefined;
    trees: ProcessTrees;
    daemon: Daemon;
    clock: Clock;
    log: Logger;
  }) {
    const { daemon, clock, log, trees } = options;
    const { pageBytes } = readSystemUnits();
    this.#indexOf = options.indexOf;
    this.#sampler = new MemorySampler({
      clock,
      trees: {
        refresh: () => trees.refresh(LISTING_AGE_MS),
        membersOf: (leader) => trees.membersOf(leader),
      },
      memory: {
        rssBytes(pid) {
          const pages = readRssPages(pid);
          return pages === undefined ? undefined : pages * pageBytes;
        },
        pssBytes: readPssBytes,
      },
      limitsOf: (pool) => daemon.specOf(pool).limits,
      listener: { limitReached: (...limit) => daemon.limitReached(...limit) },
      log,
    });
  }

  /** Call for every lifecycle event. */
  handle(event: LifecycleEvent): void {
    if (changesSpec(event)) this.#sampler.reconsider();
    if (!("slot" in event)) return;
    const pool = this.#indexOf(event.pool);
    if (pool === undefined) return;
    const { slot, incarnation } = event;
    switch (event.kind) {
      case "spawned":
        this.#sampler.watch({ pool, slot, incarnation, pid: event.pid });
        return;
      case "ready":
        this.#sampler.serves(pool, slot, incarnation);
        return;
      case "exited":
        this.#sampler.forget(pool, slot, incarnation);
        return;
      default:
        return;
    }
  }

  [Symbol.dispose](): void {
    this.#sampler.close();
  }
}
