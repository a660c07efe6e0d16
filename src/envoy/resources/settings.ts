/**
 * Input for the control of one pool's Envoy: settings, paths and the upstreams to balance over. Pure types, and the
 * names that are the same for every pool; nothing here depends on the configuration file.
 */

/** How Envoy chooses a worker for a request. */
export type BalancingAlgorithm = "ROUND_ROBIN" | "LEAST_REQUEST" | "RANDOM" | "RING_HASH" | "MAGLEV";

/** Everything about one pool's proxy. `pool` and `concurrency` cannot change while it runs. */
export interface ProxySettings {
  readonly pool: string;
  /** An IP address, or "localhost". */
  readonly listenerAddress: string;
  readonly listenerPort: number;
  readonly protocol: "http" | "grpc" | "tcp";
  readonly algorithm: BalancingAlgorithm;
  /** `header:<name>`, `cookie:<name>`, `query:<name>` or `source_ip`; tcp supports only `source_ip`. */
  readonly hashOn: string | undefined;
  readonly healthCheckPath: string | undefined;
  /** The Host header of Envoy's health check. */
  readonly healthCheckHost: string;
  /** 0 means no limit. */
  readonly requestTimeoutMs: number;
  /** undefined means no limit. */
  readonly maxConcurrentPerWorker: number | undefined;
  readonly maxQueue: number;
  readonly workerKeepaliveMs: number;
  /** Maximum number of header lines in a request or a response. */
  readonly maxHeaders: number;
  /** Maximum total bytes of the headers of a request or a response; Envoy counts in KiB. */
  readonly maxHeaderBytes: number;
  /** Number of proxies in front whose x-forwarded-for is trusted. */
  readonly trustedHops: number;
  /** Minor version of Envoy 1.x, such as 40; older versions do not know some fields. */
  readonly envoyMinor: number;
  /** Envoy's worker threads. */
  readonly concurrency: number;
  readonly accessLog: boolean;
  /** Paths of PEM files. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  /** How long Envoy drains its listener gracefully before it stops listening; at least 1. */
  readonly drainTimeSeconds: number;
  /**
   * How long connections of a replaced listener may continue; at least 1. A changed value applies from the next start
   * of Envoy.
   */
  readonly replacedDrainSeconds: number;
}

/** The minor version of Envoy 1.x that introduced a field or runtime flag; older ones reject it or log a warning. */
export const SINCE = {
  max_response_headers_kb: 32,
  ignore_http_11_upgrade: 34,
  /** Of the TCP proxy. */
  backoff_options: 34,
  max_header_field_size_kb: 38,
  least_request_lb_count_pending_requests: 39,
} as const;

/** Where Envoy's admin interface listens. */
export type AdminAddress = { readonly port: number } | { readonly socketPath: string };

/** The user and the group that Envoy runs as. */
export interface ProxyUser {
  readonly uid: number;
  readonly gid: number;
}

/** Where Envoy's files and admin interface are, and which user may access them. */
export interface ProxyLocation {
  /** Absolute path of a directory for this proxy only; created if missing. */
  readonly directory: string;
  readonly admin: AdminAddress;
  /** undefined if Envoy runs as the same user as the controller. */
  readonly user?: ProxyUser | undefined;
}

/** Where a worker listens: a loopback port, or the absolute path of a Unix socket. */
export type UpstreamAddress = { readonly port: number } | { readonly path: string };

/** One incarnation of a worker. */
export interface UpstreamId {
  readonly slot: number;
  readonly incarnation: number;
}

/** One worker as the proxy should see it. */
export interface Upstream extends UpstreamId {
  readonly address: UpstreamAddress;
  /**
   * serving: receives requests. standby: receives none yet, but Envoy knows and checks it, so that it can serve at
   * once. draining: no new requests; the end of those in flight is reported. unready: the same without the report.
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

/** Upstreams by their address, as Envoy's admin interface prints it. */
export function byAddress(upstreams: readonly Upstream[]): ReadonlyMap<string, Upstream> {
  return new Map(upstreams.map((upstream) => [formatAddress(upstream.address), upstream]));
}
