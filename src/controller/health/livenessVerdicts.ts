/**
 * Pending liveness verdicts. A worker that fails is diagnosed before its verdict is reported. If it answers during the
 * diagnosis, the verdict is dropped.
 */
import { refKey, type WorkerRef } from "../../core/identity.ts";

export class LivenessVerdicts {
  readonly #diagnose: (worker: WorkerRef) => Promise<string | undefined>;
  readonly #report: (worker: WorkerRef, reason: string) => void;
  /** By worker; a failure after an answer is a new verdict. */
  readonly #pending = new Map<string, object>();

  /** `diagnose` never rejects; it resolves with undefined if it finds nothing. */
  constructor(
    diagnose: (worker: WorkerRef) => Promise<string | undefined>,
    report: (worker: WorkerRef, reason: string) => void,
  ) {
    this.#diagnose = diagnose;
    this.#report = report;
  }

  /** Reports the failure with what the worker was doing, unless the worker answers during the diagnosis. */
  async failed(worker: WorkerRef, reason: string): Promise<void> {
    const key = refKey(worker);
    const verdict = {};
    this.#pending.set(key, verdict);
    const found = await this.#diagnose(worker);
    if (this.#pending.get(key) !== verdict) return;
    this.#pending.delete(key);
    this.#report(worker, found === undefined ? reason : `${reason}; ${found}`);
  }

  /** The worker answered: drops its pending verdict. */
  answered(worker: WorkerRef): void {
    this.#pending.delete(refKey(worker));
  }
}
