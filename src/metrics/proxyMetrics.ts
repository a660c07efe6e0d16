/**
 * Metrics of pools behind a proxy, part of the catalog: what each worker received, and what clients saw. Labels name
 * the pool whose workers the proxy serves.
 */
import type { Histogram, ProxyReadings, WorkerReadings } from "../base/readings.ts";
import { workerId } from "../core/identity.ts";
import type { HistogramSample, Sample } from "./exposition.ts";
import type { CatalogMetric, Scrape } from "./scrape.ts";

/** Upper bounds of request durations in seconds; the same as Envoy's buckets. */
const REQUEST_BUCKETS_SECONDS = [
  0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600,
] as const;

/** All of them, in print order. */
export const PROXY_METRICS: readonly CatalogMetric[] = [
  workerMetric("requests_total", "counter", "Requests that the proxy sent to the worker.", (it) => it.requestsTotal),
  workerMetric(
    "failed_requests_total",
    "counter",
    "Requests that the worker answered with 5xx, or did not answer.",
    (it) => it.failedTotal,
  ),
  workerMetric("requests_in_flight", "gauge", "Requests in flight at the worker.", (it) => it.inFlight),
  workerMetric(
    "check_failed",
    "gauge",
    "1 if the proxy's own health check (health_check_path) has removed the worker from load balancing, otherwise 0.",
    (it) => (it.failedActiveCheck ? 1 : 0),
  ),
  metric("requests_total", "counter", "Client requests.", (it) => it.downstreamRequestsTotal),
  metric("requests_in_flight", "gauge", "Client requests in flight.", (it) => it.downstreamRequestsActive),
  metric("connections", "gauge", "Open client connections.", (it) => it.downstreamConnectionsActive),
  metric(
    "server_errors_total",
    "counter",
    "5xx responses to clients, from workers or from the proxy itself.",
    (it) => it.downstream5xxTotal,
  ),
  metric("queued_requests", "gauge", "Requests queued for a worker.", (it) => it.queued),
  metric(
    "queue_overflows_total",
    "counter",
    "Requests refused with 503 because the queue was full (max_queue).",
    (it) => it.queueOverflowTotal,
  ),
  metric("retries_total", "counter", "Requests retried on another worker.", (it) => it.retriesTotal),
  {
    name: "monoceros_proxy_updates_total",
    type: "counter",
    help: "Updates of the proxy's endpoints; result is applied, or refused by the proxy.",
    labels: ["pool", "result"],
    samples: perProxy((pool, it) => [
      { labels: [pool, "applied"], value: it.updatesAppliedTotal },
      { labels: [pool, "refused"], value: it.updatesRefusedTotal },
    ]),
  },
  {
    name: "monoceros_proxy_request_duration_seconds",
    type: "histogram",
    help: "Time from the request to the end of the worker's response.",
    labels: ["pool"],
    bounds: REQUEST_BUCKETS_SECONDS,
    samples: perProxy((pool, { requestTimeMs }): HistogramSample[] =>
      requestTimeMs === undefined ? [] : [durations(pool, requestTimeMs)],
    ),
  },
];

function metric(
  what: string,
  type: "counter" | "gauge",
  help: string,
  value: (totals: ProxyReadings) => number,
): CatalogMetric {
  const samples = perProxy((pool, totals): Sample[] => [{ labels: [pool], value: value(totals) }]);
  return { name: `monoceros_proxy_${what}`, type, help, labels: ["pool"], samples };
}

function workerMetric(
  what: string,
  type: "counter" | "gauge",
  help: string,
  value: (totals: WorkerReadings) => number,
): CatalogMetric {
  return {
    name: `monoceros_proxy_worker_${what}`,
    type,
    help,
    labels: ["pool", "worker"],
    samples: perProxy((pool, { workers }) =>
      Array.from(workers, ([slot, totals]): Sample => ({ labels: [pool, workerId(pool, slot)], value: value(totals) })),
    ),
  };
}

function perProxy<Each>(
  samples: (pool: string, totals: ProxyReadings) => readonly Each[],
): (scrape: Scrape) => readonly Each[] {
  return ({ proxies }) => Array.from(proxies, ([pool, totals]) => samples(pool, totals)).flat();
}

/** Converts Envoy's buckets, in ms; a bound that this Envoy lacks gets the count of the next lower one. */
function durations(pool: string, { buckets, sum, count }: Histogram): HistogramSample {
  let below = 0;
  const counts = REQUEST_BUCKETS_SECONDS.map((bound) => {
    const reached = buckets.findLast(({ upperBound }) => upperBound <= bound * 1000)?.count ?? 0;
    const inside = Math.max(0, reached - below);
    below += inside;
    return inside;
  });
  return { labels: [pool], counts: [...counts, Math.max(0, count - below)], sum: sum / 1000 };
}
