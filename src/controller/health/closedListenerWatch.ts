/**
 * Notices when a worker that listened on sockets of its own has closed them all. A look reads the kernel's tables once for
 * all workers, and inspects the processes of a worker only if none of its known sockets listens.
 */
import { refKey, type WorkerRef } from "../../core/identity.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { ExpectedOwner, Listening, SocketOwners } from "../../runtime/socket/socketOwners.ts";
import { Rounds } from "../watch/rounds.ts";

const LOOK_MS = 3000;

/** A listener seen by fewer looks was temporary, for example a debugger's. */
const LOOKS_UNTIL_SERVER = 2;

/** Consecutive looks without a listener: a server that rebinds its socket closes it only briefly. */
const LOOKS_UNTIL_CLOSED = 2;

interface Watched {
  readonly worker: WorkerRef;
  readonly owner: ExpectedOwner;
  /** Its sockets when it was last seen listening. */
  sockets: Listening;
  /** Looks that have seen a listener. */
  sightings: number;
  /** Consecutive looks without a listener. */
  misses: number;
}

export interface ClosedListenerWatchOptions {
  readonly clock: Clock;
  readonly owners: Pick<SocketOwners, "listListening" | "held">;
  /** Called once for each server that no longer listens, with its former addresses; the watch forgets it. */
  readonly closed: (worker: WorkerRef, owner: ExpectedOwner, addresses: readonly string[]) => void;
}

export class ClosedListenerWatch implements Disposable {
  readonly #options: ClosedListenerWatchOptions;
  readonly #watched = new Map<string, Watched>();
  readonly #rounds: Rounds;

  constructor(options: ClosedListenerWatchOptions) {
    this.#options = options;
    this.#rounds = new Rounds({
      clock: options.clock,
      everyMs: LOOK_MS,
      isNeeded: () => this.#watched.size > 0,
      look: () => this.#look(),
    });
  }

  /** Starts to watch a worker that was just seen listening on `sockets`. */
  watch(worker: WorkerRef, owner: ExpectedOwner, sockets: Listening): void {
    this.#watched.set(refKey(worker), { worker, owner, sockets, sightings: 0, misses: 0 });
    this.#rounds.start();
  }

  forget(worker: WorkerRef): void {
    this.#watched.delete(refKey(worker));
  }

  async #look(): Promise<void> {
    const listening = await this.#options.owners.listListening();
    // If the tables cannot be read, keep the current state.
    if (listening === undefined) return;
    for (const watched of [...this.#watched.values()]) await this.#lookAt(watched, listening);
  }

  async #lookAt(watched: Watched, listening: Listening): Promise<void> {
    const { worker, owner, sockets } = watched;
    if (sockets.keys().some((inode) => listening.has(inode))) {
      watched.sightings++;
      watched.misses = 0;
      return;
    }
    const { found, isRefused } = await this.#options.owners.held(owner, listening);
    if (found.size > 0) {
      watched.sockets = found;
      watched.sightings++;
    }
    if (found.size > 0 || isRefused) {
      watched.misses = 0;
      return;
    }
    watched.misses++;
    if (watched.misses < LOOKS_UNTIL_CLOSED || this.#watched.get(refKey(worker)) !== watched) return;
    this.forget(worker);
    if (watched.sightings < LOOKS_UNTIL_SERVER) return;
    this.#options.closed(worker, owner, [...new Set(sockets.values())]);
  }

  [Symbol.dispose](): void {
    this.#rounds[Symbol.dispose]();
    this.#watched.clear();
  }
}
