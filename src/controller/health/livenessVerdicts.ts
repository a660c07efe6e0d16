/**
 * Pending liveness verdicts. A worker that fails is diagnosed before its verdict is reported. If it answers during the
 * diagnosis, the verdict is dropped.
 */
import type { Incarnation, Slot } from "../../core/identity.ts";

type Worker = readonly [pool: number, slot: Slot, incarnation: Incarnation];

export class LivenessVerdicts {
  readonly #diagnose: (...worker: Worker) => Promise<string | undefined>;
  readonly #tell: (...verdict: readonly [...Worker, reason: string]) => void;
  /** By worker; a failure after an answer is a new verdict. */
  readonly #pending = new Map<string, object>();

  /** `diagnose` never rejects; it resolves with undefined if it finds nothing. */
  constructor(
    diagnose: (...worker: Worker) => Promise<string | undefined>,
    tell: (...verdict: readonly [...Worker, reason: string]) => void,
  ) {
    this.#diagnose = diagnose;
    this.#tell = tell;
  }

  /** Reports the failure with what the worker was doing, unless the worker answers during the diagnosis. */
  async failed(pool: number, slot: Slot, incarnation: Incarnation, reason: string): Promise<void> {
    const key = keyOf(pool, slot, incarnation);
    const verdict = {};
    this.#pending.set(key, verdict);
    const found = await this.#diagnose(pool, slot, incarnation);
    if (this.#pending.get(key) !== verdict) return;
    this.#pending.delete(key);
    this.#tell(pool, slot, incarnation, found === undefined ? reason : `${reason}; ${found}`);
  }

  /** The worker answered: drops its pending verdict. */
  answered(...worker: Worker): void {
    this.#pending.delete(keyOf(...worker));
  }
}

function keyOf(...worker: Worker): string {
  return worker.join("/");
}
