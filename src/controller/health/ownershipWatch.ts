/** Checks periodically that only the worker's processes listen at its addresses: with SO_REUSEPORT others may join later. */
import type { Instant } from "../../base/time.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { ProbeAddress } from "../../runtime/probe/attempt.ts";
import { whyNotOwned } from "../../runtime/probe/probeMethods.ts";
import type { Asked, SocketOwners } from "../../runtime/socket/socketOwners.ts";
import type { WorkerKey } from "./readinessGate.ts";

const LOOK_MS = 5000;

interface Watched {
  readonly worker: WorkerKey;
  readonly asked: Asked;
  readonly addresses: readonly ProbeAddress[];
}

export class OwnershipWatch implements Disposable {
  readonly #clock: Clock;
  readonly #owners: SocketOwners;
  readonly #judged: (worker: WorkerKey, whyNot: string | undefined) => void;
  readonly #watched = new Map<string, Watched>();
  #timer: Disposable | undefined;

  /** `judged` receives each verdict, repeated ones too; undefined if only the worker listens. */
  constructor(options: {
    clock: Clock;
    owners: SocketOwners;
    judged: (worker: WorkerKey, whyNot: string | undefined) => void;
  }) {
    this.#clock = options.clock;
    this.#owners = options.owners;
    this.#judged = options.judged;
  }

  /** Starts to watch a worker that is ready, so its addresses are known to be its own. */
  watch(worker: WorkerKey, asked: Asked, addresses: readonly ProbeAddress[]): void {
    if (addresses.length === 0) return;
    this.#watched.set(worker.join("/"), { worker, asked, addresses });
    this.#arm();
  }

  forget(worker: WorkerKey): void {
    this.#watched.delete(worker.join("/"));
  }

  #arm(): void {
    if (this.#timer !== undefined || this.#watched.size === 0) return;
    this.#timer = this.#clock.wakeAt((this.#clock.now() + LOOK_MS) as Instant, () => {
      this.#timer = undefined;
      for (const watched of this.#watched.values()) void this.#look(watched);
      this.#arm();
    });
  }

  async #look(watched: Watched): Promise<void> {
    const { worker, asked, addresses } = watched;
    const found = await Promise.all(
      addresses.map(async (address) => whyNotOwned(address, await this.#owners.judge(asked, address))),
    );
    if (this.#watched.get(worker.join("/")) === watched)
      this.#judged(
        worker,
        found.find((each) => each !== undefined),
      );
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
    this.#watched.clear();
  }
}
