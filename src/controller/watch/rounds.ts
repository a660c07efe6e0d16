/** Looks at something at intervals while there is something to look at. */
import { after } from "../../base/time.ts";
import type { Clock } from "../../runtime/clock.ts";

export interface RoundsOptions {
  readonly clock: Clock;
  readonly everyMs: number;
  /** Whether there is something to look at. */
  readonly isNeeded: () => boolean;
  /** The next interval begins when it has finished. */
  readonly look: () => void | Promise<void>;
}

export class Rounds implements Disposable {
  readonly #options: RoundsOptions;
  #timer: Disposable | undefined;

  constructor(options: RoundsOptions) {
    this.#options = options;
  }

  /** Call when there may be something to look at. */
  start(): void {
    const { clock, everyMs, isNeeded, look } = this.#options;
    if (this.#timer !== undefined || !isNeeded()) return;
    this.#timer = clock.wakeAt(after(clock.now(), everyMs), async () => {
      await look();
      if (this.#timer === undefined) return;
      this.#timer = undefined;
      this.start();
    });
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
  }
}
