/** Filters, sorts and describes the rows of the worker table. Pure. */
import type { WorkerStatus } from "../src/admin/api.ts";
import type { Activity } from "./activity.ts";

/** Rows per page; a pool may have hundreds of workers. */
export const PAGE_ROWS = 50;

/** Columns that the table can be sorted by. */
export type SortKey = "slot" | "phase" | "uptime" | "cpu" | "rss" | "requests" | "inFlight" | "restarts";

export interface Order {
  readonly key: SortKey;
  readonly isDescending: boolean;
}

/** Workers whose id, phase, reason or pid contains every word of `filter`, sorted by `order` and then by slot. */
export function arrange(
  workers: readonly WorkerStatus[],
  activities: ReadonlyMap<string, Activity>,
  { filter, order }: { readonly filter: string; readonly order: Order },
): readonly WorkerStatus[] {
  const words = filter.toLowerCase().split(/\s+/u).filter(Boolean);
  const sign = order.isDescending ? -1 : 1;
  return workers
    .filter((worker) => {
      const text =
        `${worker.id} ${phaseName(worker)} ${worker.waits_for ?? worker.reports ?? worker.reason} ${worker.pid ?? ""}`.toLowerCase();
      return words.every((word) => text.includes(word));
    })
    .map((worker) => ({ worker, value: sortValue(worker, order.key, activities.get(worker.id)) }))
    .sort((a, b) => sign * compare(a.value, b.value) || a.worker.slot - b.worker.slot)
    .map(({ worker }) => worker);
}

/** The phase; a standby worker has the phase standby. */
export function phaseName({ phase, standby }: Pick<WorkerStatus, "phase" | "standby">): string {
  return standby ? "standby" : phase;
}

/** What happens at a worker's deadline, by phase. */
const NEXT: Partial<Record<WorkerStatus["phase"], string>> = {
  ready: "replace",
  unready: "replace",
  draining: "stop",
  stopping: "kill",
  backoff: "restart",
};

/** What happens at a worker's deadline. A starting worker then starts, becomes ready, or times out. */
export function nextName({ phase, pid, proving }: WorkerStatus): string {
  if (phase === "running") return "";
  return NEXT[phase] ?? (pid === null ? "start" : proving ? "ready" : "time out");
}

function sortValue(worker: WorkerStatus, key: SortKey, activity: Activity | undefined): number | string {
  switch (key) {
    case "slot":
      return worker.slot;
    case "phase":
      return phaseName(worker);
    case "uptime":
      return worker.uptime_s ?? -1;
    case "cpu":
      return activity?.cpu ?? -1;
    case "rss":
      return worker.detail?.rss_bytes ?? -1;
    case "requests":
      return activity?.requestsPerSecond ?? -1;
    case "inFlight":
      return worker.detail?.requests_in_flight ?? worker.in_flight ?? -1;
    case "restarts":
      return worker.restarts;
  }
}

function compare(a: number | string, b: number | string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The number of workers in each phase, highest first. */
export function phaseCounts(workers: readonly WorkerStatus[]): readonly (readonly [string, number])[] {
  const counts = new Map<string, number>();
  for (const worker of workers) counts.set(phaseName(worker), (counts.get(phaseName(worker)) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a);
}
