/**
 * Finds workers without probes and shared sockets that listen on a socket of their own. Reads the kernel's tables, and
 * inspects processes only after a new socket listens, so hundreds of workers that never listen cost almost nothing.
 */
import { after, type Instant } from "../../base/time.ts";
import { refKey, type WorkerRef } from "../../core/identity.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { ExpectedOwner, Listening, SocketOwners } from "../../runtime/socket/socketOwners.ts";

const FIRST_LOOK_MS = 100;
const NEVER = Number.POSITIVE_INFINITY as Instant;

/** The interval grows with the age of the youngest worker: a worker is found late by at most this share of its age. */
const LATENESS = 0.5;

/** Most servers listen by this age. From then on a worker is found late by at most its age. */
const SETTLED_MS = 10_000;

/** Maximum share of time for inspecting processes: the next inspection waits accordingly longer than the last one took. */
const PAUSE_RATIO = 10;

/** Number of inspections after a new socket listens: the process that holds it may only just have been started. */
const LOOKS_AFTER_NEWS = 3;

interface Waiting {
  readonly worker: WorkerRef;
  readonly owner: ExpectedOwner;
}

export interface ListeningWatchOptions {
  readonly clock: Clock;
  readonly owners: Pick<SocketOwners, "listNow" | "listListening" | "held">;
  /** Called once for each worker that is found to listen, with its sockets. */
  readonly listens: (worker: WorkerRef, owner: ExpectedOwner, found: Listening) => void;
}

export class ListeningWatch implements Disposable {
  readonly #options: ListeningWatchOptions;
  readonly #waiting = new Map<string, Waiting>();
  #known: Listening = new Map();
  #looksLeft = 0;
  #timer: Disposable | undefined;
  #dueAt = NEVER;
  /** When the last worker was added. */
  #addedAt = 0 as Instant;
  #isLooking = false;
  #isClosed = false;

  constructor(options: ListeningWatchOptions) {
    this.#options = options;
  }

  /** Call before the first worker is spawned: a socket that listens already belongs to no worker. */
  begin(): void {
    this.#known = this.#options.owners.listNow() ?? this.#known;
  }

  watch(worker: WorkerRef, owner: ExpectedOwner): void {
    this.#waiting.set(refKey(worker), { worker, owner });
    this.#addedAt = this.#options.clock.now();
    if (!this.#isLooking) this.#arm(FIRST_LOOK_MS);
  }

  forget(worker: WorkerRef): void {
    this.#waiting.delete(refKey(worker));
  }

  /** Looks within `afterMs`; a look that is due earlier stays. */
  #arm(afterMs: number): void {
    const at = after(this.#options.clock.now(), afterMs);
    if (at >= this.#dueAt) return;
    this.#timer?.[Symbol.dispose]();
    this.#dueAt = at;
    this.#timer = this.#options.clock.wakeAt(at, () => {
      this.#dueAt = NEVER;
      void this.#look();
    });
  }

  async #look(): Promise<void> {
    this.#isLooking = true;
    const listening = (await this.#options.owners.listListening()) ?? this.#known;
    if ([...listening.keys()].some((inode) => !this.#known.has(inode))) this.#looksLeft = LOOKS_AFTER_NEWS;
    this.#known = listening;
    let spentMs = 0;
    if (this.#looksLeft > 0) {
      this.#looksLeft--;
      for (const each of [...this.#waiting.values()]) spentMs += await this.#lookAt(each, listening);
    }
    this.#isLooking = false;
    if (this.#isClosed || this.#waiting.size === 0) return;
    const ageMs = this.#options.clock.now() - this.#addedAt;
    const lateness = ageMs < SETTLED_MS ? LATENESS : 1;
    this.#arm(Math.max(FIRST_LOOK_MS, lateness * ageMs, PAUSE_RATIO * spentMs));
  }

  /** Resolves with the time it took, in milliseconds. */
  async #lookAt({ worker, owner }: Waiting, listening: Listening): Promise<number> {
    const { found, tookMs } = await this.#options.owners.held(owner, listening);
    if (found.size > 0 && this.#waiting.delete(refKey(worker))) this.#options.listens(worker, owner, found);
    return tookMs;
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#timer?.[Symbol.dispose]();
    this.#waiting.clear();
  }
}
