/** Checks periodically that only the worker's processes listen at its addresses: with SO_REUSEPORT others may join later. */
import { refKey, type WorkerRef } from "../../core/identity.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { ProbeAddress } from "../../runtime/probe/attempt.ts";
import { whyNotOwned } from "../../runtime/probe/probeMethods.ts";
import type { ExpectedOwner, SocketOwners } from "../../runtime/socket/socketOwners.ts";
import { Rounds } from "../watch/rounds.ts";

const LOOK_MS = 5000;

interface Watched {
  readonly worker: WorkerRef;
  readonly owner: ExpectedOwner;
  readonly addresses: readonly ProbeAddress[];
}

export interface OwnershipWatchOptions {
  readonly clock: Clock;
  readonly owners: Pick<SocketOwners, "judge">;
  /** Receives each verdict, repeated ones too; undefined if only the worker listens. */
  readonly judged: (worker: WorkerRef, whyNot: string | undefined) => void;
}

export class OwnershipWatch implements Disposable {
  readonly #options: OwnershipWatchOptions;
  readonly #watched = new Map<string, Watched>();
  readonly #rounds: Rounds;

  constructor(options: OwnershipWatchOptions) {
    this.#options = options;
    this.#rounds = new Rounds({
      clock: options.clock,
      everyMs: LOOK_MS,
      isNeeded: () => this.#watched.size > 0,
      look: async () => {
        await Promise.all(Array.from(this.#watched.values(), (watched) => this.#look(watched)));
      },
    });
  }

  /** Starts to watch a worker that is ready, so its addresses are known to be its own. */
  watch(worker: WorkerRef, owner: ExpectedOwner, addresses: readonly ProbeAddress[]): void {
    if (addresses.length === 0) return;
    this.#watched.set(refKey(worker), { worker, owner, addresses });
    this.#rounds.start();
  }

  forget(worker: WorkerRef): void {
    this.#watched.delete(refKey(worker));
  }

  async #look(watched: Watched): Promise<void> {
    const { worker, owner, addresses } = watched;
    const { owners, judged } = this.#options;
    const found = await Promise.all(
      addresses.map(async (address) => whyNotOwned(address, await owners.judge(owner, address))),
    );
    if (this.#watched.get(refKey(worker)) === watched)
      judged(
        worker,
        found.find((each) => each !== undefined),
      );
  }

  [Symbol.dispose](): void {
    this.#rounds[Symbol.dispose]();
    this.#watched.clear();
  }
}
