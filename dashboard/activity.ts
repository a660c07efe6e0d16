/**
 * What workers did between two looks at their counters. The controller's own rates are means over a minute; these show
 * the last seconds. Pure.
 */
import type { PoolStatus, Status, WorkerStatus } from "../src/admin/api.ts";

/** Samples that a series keeps: at one in two seconds three minutes. */
export const SERIES_LENGTH = 90;

/** One worker since the look before; null is not known. */
export interface Activity {
  /** Share of one CPU. */
  readonly cpu: number | null;
  readonly requestsPerSecond: number | null;
}

/** One sample of a pool: sums over its workers, null where none is known. */
export interface Sample {
  readonly cpu: number | null;
  readonly rssBytes: number | null;
  readonly requestsPerSecond: number | null;
  readonly inFlight: number | null;
}

/** What each worker did between two documents, by id; the controller's means where there was no look before. */
export function activitiesOf(before: Status | undefined, now: Status): ReadonlyMap<string, Activity> {
  const isSame = before !== undefined && before.pid === now.pid && before.uptime_s < now.uptime_s;
  const earlier = new Map(
    isSame ? before.pools.flatMap((pool) => pool.workers.map((worker) => [worker.id, worker] as const)) : [],
  );
  const elapsed = isSame ? now.uptime_s - before.uptime_s : 0;
  return new Map(
    now.pools.flatMap((pool) =>
      pool.workers.map((worker) => [worker.id, activityOf(earlier.get(worker.id), worker, elapsed)] as const),
    ),
  );
}

function activityOf(before: WorkerStatus | undefined, now: WorkerStatus, elapsed: number): Activity {
  const [old, detail] = [before?.detail, now.detail];
  const isSameProcess = before?.pid === now.pid && before?.incarnation === now.incarnation;
  return {
    cpu:
      (isSameProcess ? rate(old?.cpu_seconds, detail?.cpu_seconds, elapsed) : undefined) ?? detail?.cpu_ratio ?? null,
    requestsPerSecond:
      rate(old?.requests_total, detail?.requests_total, elapsed) ?? detail?.requests_per_second ?? null,
  };
}

function rate(before: number | null | undefined, now: number | null | undefined, elapsed: number): number | undefined {
  if (before == null || now == null || elapsed <= 0 || now < before) return undefined;
  return (now - before) / elapsed;
}

/** The sample of a pool. */
export function sampleOf(pool: PoolStatus, activities: ReadonlyMap<string, Activity>): Sample {
  return {
    cpu: sum(pool.workers.map(({ id }) => activities.get(id)?.cpu ?? null)),
    rssBytes: sum(pool.workers.map(({ detail }) => detail?.rss_bytes ?? null)),
    requestsPerSecond: sum(pool.workers.map(({ id }) => activities.get(id)?.requestsPerSecond ?? null)),
    inFlight: sum(pool.workers.map(({ detail }) => detail?.requests_in_flight ?? null)),
  };
}

/** The sum of what is known; null where nothing is. */
export function sum(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((total, value) => total + value, 0);
}

/** What each of `values` has of their sum; null where there is nothing to share. */
export function sharesOf(values: readonly (number | null)[]): readonly (number | null)[] {
  const total = sum(values) ?? 0;
  return values.map((value) => (value === null || total <= 0 ? null : value / total));
}
