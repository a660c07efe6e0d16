/**
 * The activity of workers between two samples of their counters. The controller's own rates are means over a minute;
 * these rates show the last seconds. Pure.
 */
import type { PoolStatus, Status, WorkerStatus } from "../src/admin/api.ts";

/** Samples per series: three minutes, at one sample every two seconds. */
export const SERIES_LENGTH = 90;

/** One worker since the previous sample; null means unknown. */
export interface Activity {
  /** Share of one CPU. */
  readonly cpu: number | null;
  readonly requestsPerSecond: number | null;
}

/** One sample of a pool: sums over its workers; null means unknown. */
export interface Sample {
  readonly cpu: number | null;
  readonly rssBytes: number | null;
  readonly requestsPerSecond: number | null;
  readonly inFlight: number | null;
}

/** The activity of each worker between two documents, by id; without a previous sample, the controller's means. */
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

/** The sum of the known values; null if there is none. */
export function sum(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((total, value) => total + value, 0);
}

/** The share of each value in their sum; null if the sum is 0. */
export function sharesOf(values: readonly (number | null)[]): readonly (number | null)[] {
  const total = sum(values) ?? 0;
  return values.map((value) => (value === null || total <= 0 ? null : value / total));
}
