/** Attempts of probes by pool, purpose and result, for the metric. */
import type { ProbePurpose } from "../../core/policy/probe.ts";
import type { ProbeCount } from "../../metrics/scrape.ts";

export class ProbeTally {
  readonly #counts = new Map<string, ProbeCount>();

  count(pool: string, purpose: ProbePurpose, result: ProbeCount["result"]): void {
    const key = `${pool}/${purpose}/${result}`;
    const count = (this.#counts.get(key)?.count ?? 0) + 1;
    this.#counts.set(key, { pool, purpose, result, count });
  }

  /** Every series that has begun. */
  totals(): readonly ProbeCount[] {
    return [...this.#counts.values()];
  }
}
