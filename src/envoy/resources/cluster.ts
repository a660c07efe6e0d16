/**
 * The single cluster of a proxy: how Envoy balances over the workers and connects to them. The controller selects the
 * workers that receive traffic through the endpoints; Envoy's health check is a fallback for workers that hang. Pure.
 */
import { fileSource } from "./files.ts";
import { type Json, type JsonObject, seconds, typed } from "./json.ts";
import { headerKilobytes, maxHeaderField, PRESERVE_HEADER_CASE } from "./listener.ts";
import { CLUSTER_NAME, type ProxySettings, SINCE } from "./settings.ts";

/** On one machine a connection succeeds at once unless the backlog is full; then another worker is a better choice. */
const CONNECT_TIMEOUT_MS = 1000;

/** For limits that must never be reached; Envoy's default is 1024. */
const UNLIMITED = 1_000_000_000;

/** Longer ejections halve the throughput of overloaded workers with a short backlog; shorter ones cost more retries. */
const EJECTION_MS = 250;

/**
 * Ejects an unreachable worker that the controller has not removed yet, because the controller is suspended or cannot
 * write the endpoints. Without an ejection LEAST_REQUEST sends every request to a dead worker: it is the least busy
 * one, and a full scan chooses it again at each retry. Responses never count, whatever their status. Envoy treats a
 * successor as a new endpoint without an ejection. Decision record 0016 has the measurements behind the values.
 */
const OUTLIER_DETECTION: JsonObject = {
  split_external_local_origin_errors: true,
  // Fewer than the attempts of one request, so that even a single request reaches another worker.
  consecutive_local_origin_failure: 3,
  interval: seconds(50),
  base_ejection_time: seconds(EJECTION_MS),
  max_ejection_time: seconds(EJECTION_MS),
  // PoolProxy lowers it while some workers do not serve: one serving worker must always remain.
  max_ejection_percent: 99,
  enforcing_consecutive_5xx: 0,
  enforcing_success_rate: 0,
  enforcing_local_origin_success_rate: 0,
};

/** Runtime key that overrides `max_ejection_percent`. */
export const MAX_EJECTION_KEY = "outlier_detection.max_ejection_percent";

/**
 * Percentage of `all` endpoints that Envoy may eject so that one of the `serving` ones remains. Envoy also counts
 * draining and standby endpoints, and compares with the percentage after the ejection.
 */
export function maxEjectionPercent(serving: number, all: number): number {
  return serving <= 1 ? 0 : Math.floor((100 * (serving - 0.5)) / all);
}

/** Type of the cluster resource. */
export const CLUSTER_TYPE = "envoy.config.cluster.v3.Cluster";

/** The cluster resource; endpoints come from the file `endpointsPath`. */
export function cluster(settings: ProxySettings, endpointsPath: string): JsonObject {
  return {
    name: CLUSTER_NAME,
    type: "EDS",
    eds_cluster_config: { eds_config: fileSource(endpointsPath) },
    connect_timeout: seconds(CONNECT_TIMEOUT_MS),
    load_balancing_policy: { policies: [{ typed_extension_config: balancing(settings) }] },
    common_lb_config: {
      // Below the threshold Envoy would balance over all workers, including those that drain.
      healthy_panic_threshold: { value: 0 },
      // By default Envoy merges health changes for a second.
      update_merge_window: "0s",
    },
    // Otherwise a removed worker receives traffic until Envoy's own health check fails.
    ignore_health_on_host_removal: true,
    circuit_breakers: circuitBreakers(settings),
    outlier_detection: OUTLIER_DETECTION,
    health_checks:
      settings.healthCheckPath === undefined ? undefined : [healthCheck(settings, settings.healthCheckPath)],
    typed_extension_protocol_options: settings.protocol === "tcp" ? undefined : httpOptions(settings),
  };
}

function balancing({ algorithm }: ProxySettings): JsonObject {
  const policy = (name: string, type: string, fields: JsonObject = {}): JsonObject => ({
    name: `envoy.load_balancing_policies.${name}`,
    typed_config: typed(`envoy.extensions.load_balancing_policies.${name}.v3.${type}`, fields),
  });
  switch (algorithm) {
    case "ROUND_ROBIN":
      return policy("round_robin", "RoundRobin");
    case "LEAST_REQUEST":
      // Even the better of two random workers is often busy, and a scan of all workers on one machine costs nothing.
      return policy("least_request", "LeastRequest", { selection_method: "FULL_SCAN" });
    case "RANDOM":
      return policy("random", "Random");
    case "RING_HASH":
      return policy("ring_hash", "RingHash");
    case "MAGLEV":
      return policy("maglev", "Maglev");
  }
}

/**
 * Requests beyond `maxConcurrentPerWorker` wait in the queue. A request also counts as pending while its connection is
 * established, so the queue holds at least one.
 */
function circuitBreakers({ maxQueue, maxConcurrentPerWorker, protocol, concurrency }: ProxySettings): JsonObject {
  // An HTTP/2 connection carries many requests; each Envoy thread has its own.
  const connections = protocol === "grpc" ? concurrency : maxConcurrentPerWorker;
  return {
    thresholds: [
      {
        max_connections: UNLIMITED,
        max_pending_requests: Math.max(1, maxQueue),
        max_requests: UNLIMITED,
        max_retries: UNLIMITED,
      },
    ],
    per_host_thresholds: maxConcurrentPerWorker === undefined ? undefined : [{ max_connections: connections }],
  };
}

function httpOptions(settings: ProxySettings): JsonObject {
  const type = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  return {
    [type]: typed(type, {
      common_http_protocol_options: {
        idle_timeout: seconds(settings.workerKeepaliveMs),
        max_headers_count: settings.maxHeaders,
        max_response_headers_kb:
          settings.envoyMinor < SINCE.max_response_headers_kb ? undefined : headerKilobytes(settings),
      },
      explicit_http_config:
        settings.protocol === "grpc"
          ? {
              http2_protocol_options: {
                max_concurrent_streams: streamsPerConnection(settings),
                ...maxHeaderField(settings),
              },
            }
          : { http_protocol_options: { enable_trailers: true, header_key_format: PRESERVE_HEADER_CASE } },
    }),
  };
}

function streamsPerConnection({ maxConcurrentPerWorker, concurrency }: ProxySettings): number | undefined {
  if (maxConcurrentPerWorker === undefined) return undefined;
  return Math.max(1, Math.floor(maxConcurrentPerWorker / concurrency));
}

/**
 * A single-threaded worker does not respond while it processes a request, and with panic mode off Envoy rejects all
 * requests if all workers are unhealthy. So a worker fails only after about (2 s + 5 s) × 12 = 84 s of silence. The
 * timeout itself is short because a starting Envoy waits for the first check of each worker before it listens.
 */
function healthCheck({ protocol, healthCheckHost }: ProxySettings, path: string): Json {
  return {
    interval: seconds(5000),
    interval_jitter: seconds(500),
    // Envoy's default is 60 s.
    no_traffic_interval: seconds(5000),
    timeout: seconds(2000),
    unhealthy_threshold: 12,
    unhealthy_interval: seconds(1000),
    healthy_threshold: 1,
    // A persistent connection would occupy a worker that serves one at a time.
    reuse_connection: false,
    http_health_check: {
      path,
      // The default is the cluster name, which frameworks that check the Host header reject.
      host: healthCheckHost,
      codec_client_type: protocol === "grpc" ? "HTTP2" : "HTTP1",
      expected_statuses: [{ start: 200, end: 400 }],
      // Any other status would mark the worker unhealthy at once, whatever the threshold.
      retriable_statuses: [{ start: 400, end: 600 }],
    },
  };
}
