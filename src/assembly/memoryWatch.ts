/** Whose memory is watched: from the birth of a worker to a target of the sampler, and from there to the daemon. */
import type { Logger } from "../base/log.ts";
import type { LifecycleEvent } from "../core/event.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Daemon } from "../runtime/daemon.ts";
import { readSystemUnits } from "../runtime/linux.ts";
import { readPssBytes, readRssPages } from "../runtime/memoryReadings.ts";
import { MemorySampler } from "../runtime/memorySampler.ts";
import { ProcessTrees } from "../runtime/processTrees.ts";

export class MemoryWatch implements Disposable {
  readonly #indexOf: ReadonlyMap<string, number>;
  readonly #trees: ProcessTrees;
  readonly #sampler: MemorySampler;

  /** `pools` are the names of the pools of workers by index; `mark` is the value of CONTROLLER_MARK in their environment. */
  constructor(options: { pools: readonly string[]; mark: string; daemon: Daemon; clock: Clock; log: Logger }) {
    const { daemon, clock, log } = options;
    const { pageBytes } = readSystemUnits();
    this.#indexOf = new Map(options.pools.map((name, index) => [name, index]));
    this.#trees = new ProcessTrees(options.mark);
    this.#sampler = new MemorySampler({
      clock,
      trees: this.#trees,
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

  /** To be told of every lifecycle event. */
  handle(event: LifecycleEvent): void {
    if (!("slot" in event)) return;
    const pool = this.#indexOf.get(event.pool);
    if (pool === undefined) return;
    const { slot, incarnation } = event;
    switch (event.kind) {
      case "spawned":
        this.#trees.add({ leader: event.pid, pool: event.pool, slot, incarnation });
        this.#sampler.watch({ pool, slot, incarnation, pid: event.pid });
        return;
      case "ready":
        this.#sampler.serves(pool, slot, incarnation);
        return;
      case "exited":
        this.#trees.remove(event.pid);
        this.#sampler.forget(pool, slot, incarnation);
        return;
      default:
        return;
    }
  }

  /** To be told when the limits of pools may have changed. */
  reconsider(): void {
    this.#sampler.reconsider();
  }

  [Symbol.dispose](): void {
    this.#sampler.close();
  }
}
