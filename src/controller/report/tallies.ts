/** Counts probe attempts and operations by their labels, for the metrics. Bounded by the combinations of labels. */
import type { LifecycleEvent } from "../../core/event.ts";
import type { OperationCount, ProbeCount } from "../../metrics/scrape.ts";

class Tally<Labels extends Readonly<Record<string, string>>> {
  readonly #counts = new Map<string, Labels & { readonly count: number }>();

  count(labels: Labels): void {
    const key = Object.values(labels).join("/");
    this.#counts.set(key, { ...labels, count: (this.#counts.get(key)?.count ?? 0) + 1 });
  }

  totals(): readonly (Labels & { readonly count: number })[] {
    return [...this.#counts.values()];
  }
}

export class ProbeTally extends Tally<Omit<ProbeCount, "count">> {}

export class OperationTally extends Tally<Omit<OperationCount, "count">> {
  /** Call for every lifecycle event. */
  handle(event: LifecycleEvent): void {
    if (event.kind !== "operation_finished" && event.kind !== "operation_failed") return;
    const result = event.kind === "operation_finished" ? "finished" : "failed";
    this.count({ pool: event.pool, what: event.what, result });
  }
}
