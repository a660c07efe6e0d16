/**
 * Finds out which workers without probes and without shared sockets listen on a socket of their own. Looks at the kernel's
 * tables, and at processes only when a socket has begun to listen, so that hundreds of workers that never do cost nothing.
 */
import type { Instant } from "../base/time.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Asked, SocketOwners } from "../runtime/socketOwners.ts";
import type { WorkerKey } from "./readinessGate.ts";

const LOOK_MS = 100;

/** The share of the time that looking at processes may take: the next look waits so much longer than the last one took. */
const PAUSE_RATIO = 10;

/** So often processes are looked at after a socket began to listen: a process may only just have been started. */
const LOOKS_AFTER_NEWS = 3;

interface Waiting {
  readonly worker: WorkerKey;
  readonly asked: Asked;
}

export class ListeningWatch implements Disposable {
  readonly #clock: Clock;
  readonly #owners: SocketOwners;
  readonly #listens: (worker: WorkerKey) => void;
  readonly #waiting = new Map<string, Waiting>();
  #known: ReadonlySet<string> = new Set();
  #looksLeft = LOOKS_AFTER_NEWS;
  #timer: Disposable | undefined;
  #isClosed = false;

  /** `listens` is called once for each worker that is found to listen. */
  constructor(options: { clock: Clock; owners: SocketOwners; listens: (worker: WorkerKey) => void }) {
    this.#clock = options.clock;
    this.#owners = options.owners;
    this.#listens = options.listens;
  }

  watch(worker: WorkerKey, asked: Asked): void {
    this.#waiting.set(worker.join("/"), { worker, asked });
    if (this.#timer === undefined) this.#arm(LOOK_MS);
  }

  forget(worker: WorkerKey): void {
    this.#waiting.delete(worker.join("/"));
  }

  #arm(afterMs: number): void {
    this.#timer = this.#clock.wakeAt((this.#clock.now() + afterMs) as Instant, () => void this.#look());
  }

  async #look(): Promise<void> {
    const listening = await this.#owners.listListening();
    if ([...listening].some((inode) => !this.#known.has(inode))) this.#looksLeft = LOOKS_AFTER_NEWS;
    this.#known = listening;
    let spentMs = 0;
    if (this.#looksLeft > 0) {
      this.#looksLeft--;
      for (const each of [...this.#waiting.values()]) spentMs += await this.#lookAt(each, listening);
    }
    this.#timer = undefined;
    if (!this.#isClosed && this.#waiting.size > 0) this.#arm(Math.max(LOOK_MS, PAUSE_RATIO * spentMs));
  }

  /** How long it took, in milliseconds. */
  async #lookAt({ worker, asked }: Waiting, listening: ReadonlySet<string>): Promise<number> {
    const { isHolding, tookMs } = await this.#owners.holds(asked, listening);
    if (isHolding && this.#waiting.delete(worker.join("/"))) this.#listens(worker);
    return tookMs;
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#timer?.[Symbol.dispose]();
    this.#waiting.clear();
  }
}
