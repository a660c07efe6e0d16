/** Attempts of probes by pool, purpose and result, for the metric. */
import { PROBE_PURPOSES, type ProbePurpose } from "../core/probe.ts";
import type { ProbeCount } from "../metrics/scrape.ts";

const RESULTS = ["success", "failure", "error"] as const;
type Result = (typeof RESULTS)[number];

export class ProbeTally {
  readonly #pools: readonly string[];
  readonly #counts = new Map<string, number>();

  /** `pools` are those that are probed, by index; undefined for the others. */
  constructor(pools: readonly string[]) {
    this.#pools = pools;
  }

  count(pool: number, purpose: ProbePurpose, result: Result): void {
    const key = `${pool}/${purpose}/${result}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  /** Every series that has begun. */
  totals(): ProbeCount[] {
    return this.#pools.flatMap((pool, index) =>
      PROBE_PURPOSES.flatMap((purpose) =>
        RESULTS.flatMap((result) => {
          const count = this.#counts.get(`${index}/${purpose}/${result}`);
          return count === undefined ? [] : [{ pool, purpose, result, count }];
        }),
      ),
    );
  }
}
