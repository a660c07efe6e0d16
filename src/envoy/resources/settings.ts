/**
 * What the control of one pool's Envoy is told: settings, places and the upstreams it shall balance over. Pure types and
 * the names that are the same for every pool; nothing here knows the configuration file.
 */

/** How a worker is chosen for a request. */
export type BalancingAlgorithm = "ROUND_ROBIN" | "LEAST_REQUEST" | "RANDOM" | "RING_HASH" | "MAGLEV";

/** Everything about one pool's proxy. `pool` and `concurrency` cannot change while it runs. */
export interface ProxySettings {
  readonly pool: string;
  /** An IP address, or "localhost". */
  readonly listenerAddress: string;
  readonly listenerPort: number;
  readonly protocol: "http" | "grpc" | "tcp";
  readonly algorithm: BalancingAlgorithm;
  /** `header:<name>`, `cookie:<name>`, `query:<name>` or `source_ip`; tcp can only hash the last. */
  readonly hashOn: string | undefined;
  readonly healthCheckPath: string | undefined;
  /** The Host header of Envoy's health check. */
  readonly healthCheckHost: string;
  /** 0 is no limit. */
  readonly requestTimeoutMs: number;
  /** undefined is no limit. */
  readonly maxConcurrentPerWorker: number | undefined;
  readonly maxQueue: number;
  readonly workerKeepaliveMs: number;
  /** Header lines that a request or a response may have. */
  readonly maxHeaders: number;
  /** Bytes that the headers of a request or a response may have together; Envoy counts in KiB. */
  readonly maxHeaderBytes: number;
  /** Proxies in front whose x-forwarded-for is believed. */
  readonly trustedHops: number;
  /** Minor version of Envoy 1.x, such as 40: some fields are only known to newer ones. */
  readonly envoyMinor: number;
  /** Envoy's worker threads. */
  readonly concurrency: number;
  readonly accessLog: boolean;
  /** Paths of PEM files. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  /** How long Envoy discourages its clients before it stops listening; at least 1. */
  readonly drainTimeSeconds: number;
  /**
   * How long connections may go on whose listener was replaced; at least 1. Another value holds for an Envoy that is
   * started then.
   */
  readonly replacedDrainSeconds: number;
}

/** The minor version of Envoy 1.x that brought a field or a runtime flag; older ones refuse it or log a warning. */
export const SINCE = {
  max_response_headers_kb: 32,
  ignore_http_11_upgrade: 34,
  /** Of the TCP proxy. */
  backoff_options: 34,
  max_header_field_size_kb: 38,
  least_request_lb_count_pending_requests: 39,
} as const;

/** Where Envoy's admin interface listens. */
export type AdminPlace = { readonly port: number } | { readonly socketPath: string };

/** The user and the group that Envoy runs as. */
export interface ProxyUser {
  readonly uid: number;
  readonly gid: number;
}

/** Where Envoy's files and its admin interface are, and who may use them. */
export interface ProxyPlaces {
  /** Absolute path of a directory that is this proxy's alone; it is made where it is missing. */
  readonly directory: string;
  readonly admin: AdminPlace;
  /** undefined if Envoy runs as the controller does. */
  readonly user?: ProxyUser | undefined;
}

/** Where a worker listens: a port of loopback, or the absolute path of a Unix socket. */
export type UpstreamAddress = { readonly port: number } | { readonly path: string };

/** One worker as the proxy shall see it. */
export interface Upstream {
  readonly slot: number;
  readonly incarnation: number;
  readonly address: UpstreamAddress;
  /**
   * serving: receives requests. standby: receives none yet, but Envoy knows and checks it, so that it can serve at once.
   * draining: no new requests, and the end of those in flight is reported. unready: the same without a report.
   */
  readonly state: "serving" | "draining" | "unready" | "standby";
}

/** Name of the listener, of its statistics and of those of the HTTP connection manager and of the TCP proxy. */
export const LISTENER_NAME = "ingress";

/** Name of the only cluster and of its statistics. */
export const CLUSTER_NAME = "workers";

/** The address of an upstream as Envoy's admin interface prints it. */
export function formatAddress(address: UpstreamAddress): string {
  return "port" in address ? `127.0.0.1:${address.port}` : address.path;
}
