/**
 * Holds back exits that may belong to a shutdown that the controller does not know of yet. If a signal goes to the whole
 * service, workers may exit before the controller receives its own signal, and would count as crashes.
 */
import { mayFollowStopSignal } from "../../core/exit.ts";
import type { PoolIndex, WorkerRef } from "../../core/identity.ts";
import type { ProcessListener } from "../../runtime/process/processes.ts";

/** How long after a worker's exit the controller's own signal may arrive. */
const HOLD_MS = 1000;

export interface ExitHoldOptions {
  readonly listener: ProcessListener;
  /** Whether the whole service was signaled to stop and the controller does not know it yet. */
  readonly isDoubtful: () => boolean;
  readonly stopSignalOf: (pool: PoolIndex) => string;
}

export class ExitHold implements ProcessListener, Disposable {
  readonly #options: ExitHoldOptions;
  readonly #held: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ExitHoldOptions) {
    this.#options = options;
  }

  exited(...exit: Parameters<ProcessListener["exited"]>): void {
    const { listener, isDoubtful, stopSignalOf } = this.#options;
    const [{ pool }, status] = exit;
    const isHeld = this.#held.length > 0 || (mayFollowStopSignal(status, stopSignalOf(pool)) && isDoubtful());
    this.#pass(() => listener.exited(...exit), isHeld);
  }

  vacated(worker: WorkerRef): void {
    // Must follow the worker's exit.
    this.#pass(() => this.#options.listener.vacated(worker), this.#held.length > 0);
  }

  /** Passes on the held exits, once the controller knows about the shutdown. */
  release(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const pass of this.#held.splice(0)) pass();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #pass(pass: () => void, isHeld: boolean): void {
    if (!isHeld) {
      pass();
      return;
    }
    this.#held.push(pass);
    this.#timer ??= setTimeout(() => this.release(), HOLD_MS);
  }
}
