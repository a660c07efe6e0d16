/**
 * Metrics of pools behind a proxy, part of the catalog: what each worker received, and what clients saw. Labels name
 * the pool whose workers the proxy serves.
 */
import { workerId } from "../core/identity.ts";
import type { HistogramSample, Metric, Sample } from "./exposition.ts";
import type { CumulativeHistogram, ProxiedWorkerTotals, ProxyTotals, Scrape } from "./scrape.ts";

/** A metric that the predecessor does not have. */
type NewMetric = Metric<Scrape> & { readonly origin: "new" };

/** Upper bounds of request durations in seconds; the same as Envoy's buckets. */
const REQUEST_BUCKETS_SECONDS = [
  0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600,
] as const;

/** All of them, in print order. */
export const PROXY_METRICS: readonly NewMetric[] = [
  workerMetric("requests_total", "counter", "Requests that the proxy gave to the worker.", (it) => it.requestsTotal),
  workerMetric(
    "failed_requests_total",
    "counter",
    "Requests that the worker answered with 5xx, or not at all.",
    (it) => it.failedTotal,
  ),
  workerMetric("requests_in_flight", "gauge", "Requests that the worker works on.", (it) => it.inFlight),
  workerMetric(
    "check_failed",
    "gauge",
    "1 where the proxy's own health check (health_check_path) takes the worker out of the balance.",
    (it) => (it.failedActiveCheck ? 1 : 0),
  ),
  metric("requests_total", "counter", "Requests of clients.", (it) => it.downstreamRequestsTotal),
  metric("requests_in_flight", "gauge", "Requests of clients that are going on.", (it) => it.downstreamRequestsActive),
  metric("connections", "gauge", "Connections of clients.", (it) => it.downstreamConnectionsActive),
  metric(
    "server_errors_total",
    "counter",
    "Answers 5xx that clients got, from workers or from the proxy itself.",
    (it) => it.downstream5xxTotal,
  ),
  metric("queued_requests", "gauge", "Requests that wait for a worker.", (it) => it.queued),
  metric(
    "queue_overflows_total",
    "counter",
    "Requests refused with 503 because max_queue others waited already.",
    (it) => it.queueOverflowTotal,
  ),
  metric("retries_total", "counter", "Requests given to another worker than at first.", (it) => it.retriesTotal),
  {
    origin: "new",
    name: "monoceros_proxy_updates_total",
    type: "counter",
    help: "Updates of the list of workers; result is applied, or refused by the proxy.",
    labels: ["pool", "result"],
    samples: perProxy((pool, it) => [
      { labels: [pool, "applied"], value: it.updatesAppliedTotal },
      { labels: [pool, "refused"], value: it.updatesRefusedTotal },
    ]),
  },
  {
    origin: "new",
    name: "monoceros_proxy_request_duration_seconds",
    type: "histogram",
    help: "Time from a request until the end of the worker's answer.",
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
  value: (totals: ProxyTotals) => number,
): NewMetric {
  const samples = perProxy((pool, totals): Sample[] => [{ labels: [pool], value: value(totals) }]);
  return { origin: "new", name: `monoceros_proxy_${what}`, type, help, labels: ["pool"], samples };
}

function workerMetric(
  what: string,
  type: "counter" | "gauge",
  help: string,
  value: (totals: ProxiedWorkerTotals) => number,
): NewMetric {
  return {
    origin: "new",
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
  samples: (pool: string, totals: ProxyTotals) => readonly Each[],
): (scrape: Scrape) => readonly Each[] {
  return ({ proxies }) => Array.from(proxies, ([pool, totals]) => samples(pool, totals)).flat();
}

/** Converts Envoy's buckets, in ms; a bound that this Envoy lacks gets the count of the next lower one. */
function durations(pool: string, { buckets, sum, count }: CumulativeHistogram): HistogramSample {
  let below = 0;
  const counts = REQUEST_BUCKETS_SECONDS.map((bound) => {
    const reached = buckets.findLast(({ upperBound }) => upperBound <= bound * 1000)?.count ?? 0;
    const inside = Math.max(0, reached - below);
    below += inside;
    return inside;
  });
  return { labels: [pool], counts: [...counts, Math.max(0, count - below)], sum: sum / 1000 };
}
