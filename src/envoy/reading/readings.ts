/** Metrics of a pool's proxy: which Envoy statistics they come from and how they add up. Pure. */

import type { Histogram, ProxyReadings } from "../../base/readings.ts";
import { CLUSTER_NAME, LISTENER_NAME } from "../resources/settings.ts";
import { filterOf, type HostStatus, numberOf } from "./adminAnswers.ts";
import type { NamedCounts, RequestCounts } from "./requestCounts.ts";

const DOWNSTREAM = `http.${LISTENER_NAME}`;
const CLUSTER = `cluster.${CLUSTER_NAME}`;
const CONNECTIONS_ACTIVE = `listener.${LISTENER_NAME}.downstream_cx_active`;
const REQUESTS_ACTIVE = `${DOWNSTREAM}.downstream_rq_active`;
const QUEUED = `${CLUSTER}.upstream_rq_pending_active`;

const COUNTERS = {
  requests: `${DOWNSTREAM}.downstream_rq_total`,
  serverErrors: `${DOWNSTREAM}.downstream_rq_5xx`,
  overflow: `${CLUSTER}.upstream_rq_pending_overflow`,
  retries: `${CLUSTER}.upstream_rq_retry`,
  applied: `${CLUSTER}.update_success`,
  refused: `${CLUSTER}.update_rejected`,
  unread: `${CLUSTER}.update_failure`,
} as const;

/** Prometheus name of the request time histogram. */
const REQUEST_TIME = `envoy_cluster_upstream_rq_time`;

/** Filter for the statistics of readings. */
export const READINGS_FILTER = filterOf([...Object.values(COUNTERS), CONNECTIONS_ACTIVE, REQUESTS_ACTIVE, QUEUED]);

/** Filter for the histogram of readings. Envoy also splits it by the origin of requests, under longer names. */
export const HISTOGRAM_FILTER = filterOf([`${CLUSTER}.upstream_rq_time`]);

/** Filter for the listener's active connections and requests. */
export const DOWNSTREAM_FILTER = filterOf([CONNECTIONS_ACTIVE, REQUESTS_ACTIVE]);

const UPSTREAM_CONNECTIONS = {
  active: `${CLUSTER}.upstream_cx_active`,
  opened: `${CLUSTER}.upstream_cx_total`,
} as const;

/** Filter for connections to workers, including those of a replaced cluster. */
export const UPSTREAM_FILTER = filterOf(Object.values(UPSTREAM_CONNECTIONS));

/** Filter for the outcome of endpoint updates. */
export const UPDATE_FILTER = filterOf([`${CLUSTER}.version_text`, COUNTERS.refused, COUNTERS.unread]);

type Stats = ReadonlyMap<string, number | string>;

/** What Envoy reports about its endpoints. */
export function appliedState(stats: Stats): { readonly version: string; readonly refusals: number } {
  return {
    version: String(stats.get(`${CLUSTER}.version_text`) ?? ""),
    refusals: numberOf(stats, COUNTERS.refused) + numberOf(stats, COUNTERS.unread),
  };
}

/** Connections to workers: currently active, and opened in total. */
export function upstreamConnections(stats: Stats): { readonly active: number; readonly opened: number } {
  return {
    active: numberOf(stats, UPSTREAM_CONNECTIONS.active),
    opened: numberOf(stats, UPSTREAM_CONNECTIONS.opened),
  };
}

/** Active connections and requests of clients. */
export function downstreamActive(stats: Stats): { readonly connections: number; readonly requests: number } {
  return { connections: numberOf(stats, CONNECTIONS_ACTIVE), requests: numberOf(stats, REQUESTS_ACTIVE) };
}

/** All values that only grow while Envoy runs; histogram buckets as `le <bound>`, with `sum` and `count`. */
export function countersOf(stats: Stats, histograms: ReadonlyMap<string, Histogram>): ReadonlyMap<string, number> {
  const values = new Map<string, number>();
  for (const name of Object.values(COUNTERS)) values.set(name, numberOf(stats, name));
  const histogram = histograms.get(REQUEST_TIME);
  if (histogram === undefined) return values;
  for (const { upperBound, count } of histogram.buckets) values.set(`le ${upperBound}`, count);
  values.set("sum", histogram.sum);
  values.set("count", histogram.count);
  return values;
}

/** Assembles the readings. `hosts`, by slot, and `stats` are the latest of the running Envoy, empty if none runs. */
export function readingsOf(
  workers: RequestCounts,
  hosts: ReadonlyMap<number, HostStatus>,
  counts: NamedCounts,
  stats: Stats,
): ProxyReadings {
  const total = (name: string) => counts.totals.get(name) ?? 0;
  return {
    workers: new Map(
      [...workers.slots].map(([slot, { requestsTotal, failedTotal }]) => {
        const host = hosts.get(slot);
        const inFlight = host === undefined ? 0 : host.requestsActive;
        return [slot, { requestsTotal, failedTotal, inFlight, failedActiveCheck: host?.failedActiveCheck ?? false }];
      }),
    ),
    downstreamRequestsTotal: total(COUNTERS.requests),
    downstreamRequestsActive: numberOf(stats, REQUESTS_ACTIVE),
    downstreamConnectionsActive: numberOf(stats, CONNECTIONS_ACTIVE),
    downstream5xxTotal: total(COUNTERS.serverErrors),
    queueOverflowTotal: total(COUNTERS.overflow),
    queued: numberOf(stats, QUEUED),
    retriesTotal: total(COUNTERS.retries),
    updatesAppliedTotal: total(COUNTERS.applied),
    updatesRefusedTotal: total(COUNTERS.refused) + total(COUNTERS.unread),
    requestTimeMs: requestTime(counts),
  };
}

function requestTime({ totals }: NamedCounts): Histogram | undefined {
  const count = totals.get("count");
  if (count === undefined) return undefined;
  const buckets = [...totals]
    .filter(([name]) => name.startsWith("le "))
    .map(([name, value]) => ({ upperBound: Number(name.slice(3)), count: value }))
    .toSorted((a, b) => a.upperBound - b.upperBound);
  return { buckets, sum: totals.get("sum") ?? 0, count };
}
