/** Operations that have ended, by pool, kind and result, for the metric. Bounded by pools and kinds. */
import type { LifecycleEvent, OperationKind } from "../../core/event.ts";
import type { OperationCount } from "../../metrics/scrape.ts";

export class OperationTally {
  readonly #counts = new Map<string, OperationCount>();

  /** Call for every lifecycle event. */
  handle(event: LifecycleEvent): void {
    if (event.kind === "operation_finished") this.#count(event.pool, event.what, "finished");
    else if (event.kind === "operation_failed") this.#count(event.pool, event.what, "failed");
  }

  /** Every series that has begun. */
  totals(): readonly OperationCount[] {
    return [...this.#counts.values()];
  }

  #count(pool: string, what: OperationKind, result: OperationCount["result"]): void {
    const key = `${pool}/${what}/${result}`;
    this.#counts.set(key, { pool, what, result, count: (this.#counts.get(key)?.count ?? 0) + 1 });
  }
}
