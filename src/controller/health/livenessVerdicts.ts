/**
 * Pending liveness verdicts. A worker that fails is diagnosed before its verdict is reported. If it answers during the
 * diagnosis, the verdict is dropped.
 */
import type { WorkerKey } from "./readinessGate.ts";

export class LivenessVerdicts {
  readonly #diagnose: (...worker: WorkerKey) => Promise<string | undefined>;
  readonly #report: (...verdict: readonly [...WorkerKey, reason: string]) => void;
  /** By worker; a failure after an answer is a new verdict. */
  readonly #pending = new Map<string, object>();

  /** `diagnose` never rejects; it resolves with undefined if it finds nothing. */
  constructor(
    diagnose: (...worker: WorkerKey) => Promise<string | undefined>,
    report: (...verdict: readonly [...WorkerKey, reason: string]) => void,
  ) {
    this.#diagnose = diagnose;
    this.#report = report;
  }

  /** Reports the failure with what the worker was doing, unless the worker answers during the diagnosis. */
  async failed(...[pool, slot, incarnation, reason]: readonly [...WorkerKey, reason: string]): Promise<void> {
    const worker: WorkerKey = [pool, slot, incarnation];
    const key = worker.join("/");
    const verdict = {};
    this.#pending.set(key, verdict);
    const found = await this.#diagnose(...worker);
    if (this.#pending.get(key) !== verdict) return;
    this.#pending.delete(key);
    this.#report(...worker, found === undefined ? reason : `${reason}; ${found}`);
  }

  /** The worker answered: drops its pending verdict. */
  answered(...worker: WorkerKey): void {
    this.#pending.delete(worker.join("/"));
  }
}
