/**
 * Holds back exits that may belong to a shutdown that the controller does not know of yet. If a signal goes to the whole
 * service, workers may exit before the controller receives its own signal, and would count as crashes.
 */
import type { ExitStatus } from "../../core/exit.ts";
import { mayHaveBeenAsked } from "../../core/exit.ts";
import type { Incarnation, Slot } from "../../core/identity.ts";
import type { ProcessListener } from "../../runtime/process/processes.ts";

/** How long after a worker's exit the controller's own signal may arrive. */
const HOLD_MS = 1000;

export class ExitHold implements ProcessListener, Disposable {
  readonly #listener: ProcessListener;
  readonly #isDoubtful: () => boolean;
  readonly #stopSignalOf: (pool: number) => string;
  readonly #held: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** `isDoubtful`: whether the whole service was signaled to stop and the controller does not know it yet. */
  constructor(options: {
    listener: ProcessListener;
    isDoubtful: () => boolean;
    stopSignalOf: (pool: number) => string;
  }) {
    this.#listener = options.listener;
    this.#isDoubtful = options.isDoubtful;
    this.#stopSignalOf = options.stopSignalOf;
  }

  exited(pool: number, slot: Slot, incarnation: Incarnation, status: ExitStatus, survivors: boolean): void {
    const tell = () => this.#listener.exited(pool, slot, incarnation, status, survivors);
    const isHolding = this.#held.length > 0;
    if (isHolding || (mayHaveBeenAsked(status, this.#stopSignalOf(pool)) && this.#isDoubtful())) this.#hold(tell);
    else tell();
  }

  vacated(pool: number, slot: Slot, incarnation: Incarnation): void {
    const tell = () => this.#listener.vacated(pool, slot, incarnation);
    // Must follow the worker's exit.
    if (this.#held.length > 0) this.#hold(tell);
    else tell();
  }

  /** Passes on the held exits, once the controller knows about the shutdown. */
  release(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const tell of this.#held.splice(0)) tell();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #hold(tell: () => void): void {
    this.#held.push(tell);
    this.#timer ??= setTimeout(() => this.release(), HOLD_MS);
  }
}
