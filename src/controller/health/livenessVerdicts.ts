/**
 * Liveness verdicts on their way: a worker that fails is diagnosed first, which takes a moment, and may answer again
 * meanwhile. The later news wins: such a verdict is not told.
 */
import type { Incarnation, Slot } from "../../core/identity.ts";

type Worker = readonly [pool: number, slot: Slot, incarnation: Incarnation];

export class LivenessVerdicts {
  readonly #diagnose: (...worker: Worker) => Promise<string | undefined>;
  readonly #tell: (...verdict: readonly [...Worker, reason: string]) => void;
  /** By worker; another failure after an answer is a verdict of its own. */
  readonly #pending = new Map<string, object>();

  /** `diagnose` never rejects; undefined where nothing can be said. */
  constructor(
    diagnose: (...worker: Worker) => Promise<string | undefined>,
    tell: (...verdict: readonly [...Worker, reason: string]) => void,
  ) {
    this.#diagnose = diagnose;
    this.#tell = tell;
  }

  /** Tells of it, with what the worker was doing, unless it answers before that is known. */
  async failed(pool: number, slot: Slot, incarnation: Incarnation, reason: string): Promise<void> {
    const key = keyOf(pool, slot, incarnation);
    const verdict = {};
    this.#pending.set(key, verdict);
    const found = await this.#diagnose(pool, slot, incarnation);
    if (this.#pending.get(key) !== verdict) return;
    this.#pending.delete(key);
    this.#tell(pool, slot, incarnation, found === undefined ? reason : `${reason}; ${found}`);
  }

  /** It answers: what was not told yet is void. */
  answered(...worker: Worker): void {
    this.#pending.delete(keyOf(...worker));
  }
}

function keyOf(...worker: Worker): string {
  return worker.join("/");
}
