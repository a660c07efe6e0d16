/** Registers workers with the memory sampler, and passes its results to the daemon. */
import type { Logger } from "../../base/log.ts";
import { changesSpec, type LifecycleEvent } from "../../core/event.ts";
import type { WorkerRef } from "../../core/identity.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import { MemorySampler } from "../../runtime/inspect/memorySampler.ts";
import { readSystemUnits } from "../../runtime/os/linux.ts";
import { readPssBytes, readRssPages } from "../../runtime/os/memoryReadings.ts";
import type { ProcessTrees } from "../../runtime/process/processTrees.ts";

/** Maximum age of the listing of processes. */
const LISTING_AGE_MS = 250;

export class MemoryWatch implements Disposable {
  readonly #sampler: MemorySampler;

  /** `trees` must be notified of each event before this. */
  constructor(options: { trees: ProcessTrees; daemon: Daemon; clock: Clock; log: Logger }) {
    const { daemon, clock, log, trees } = options;
    const { pageBytes } = readSystemUnits();
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
      listener: {
        limitReached: (worker, limit, reason) => daemon.report(worker, { kind: "limitReached", limit, reason }),
      },
      log,
    });
  }

  /** Call for every lifecycle event. A proxy has no limits, so it costs no reading. */
  handle(event: LifecycleEvent, worker?: WorkerRef): void {
    if (changesSpec(event)) this.#sampler.reconsider();
    if (worker === undefined) return;
    switch (event.kind) {
      case "spawned":
        this.#sampler.watch({ ...worker, pid: event.pid });
        return;
      case "ready":
        this.#sampler.serves(worker);
        return;
      case "exited":
        this.#sampler.forget(worker);
        return;
      default:
        return;
    }
  }

  [Symbol.dispose](): void {
    this.#sampler.close();
  }
}
