/**
 * Defensive parsers for Envoy's admin interface: missing values are 0, malformed entries are skipped. Pure.
 */
import type { Histogram } from "../../base/readings.ts";
import { CLUSTER_NAME } from "../resources/settings.ts";

/** One endpoint as Envoy sees it; counters start with the process, or when the endpoint is added. */
export interface HostStatus {
  /** `127.0.0.1:9090`, or the path of a socket. */
  readonly address: string;
  /** Whether Envoy's active health check marks it unhealthy. */
  readonly failedActiveCheck: boolean;
  readonly requestsActive: number;
  /** Requests assigned to this worker that wait for a connection; 0 if Envoy is too old to count them. */
  readonly requestsPending: number;
  readonly requestsTotal: number;
  readonly requestsFailed: number;
  readonly connectionsActive: number;
}

/** What Envoy reports about its listener. */
export interface ListenerState {
  readonly active: number;
  readonly failures: number;
  /** Envoy's reason for the last failure; undefined if it gives none. */
  readonly reason: string | undefined;
}

/** The filter for statistics with exactly these names. */
export function filterOf(names: readonly string[]): string {
  return `^(${names.map((name) => name.replaceAll(".", "\\.")).join("|")})$`;
}

/** A numeric statistic; 0 if absent. */
export function numberOf(stats: ReadonlyMap<string, number | string>, name: string): number {
  const value = stats.get(name);
  return typeof value === "number" ? value : 0;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function member(value: unknown, ...path: readonly string[]): unknown {
  let at = value;
  for (const key of path) at = isRecord(at) ? at[key] : undefined;
  return at;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Parses the endpoints of a `/clusters?format=json` response, which omits members with default values. */
export function parseClusters(text: string): HostStatus[] {
  const found = listOf(member(parseJson(text), "cluster_statuses")).find(
    (status) => member(status, "name") === CLUSTER_NAME,
  );
  return listOf(member(found, "host_statuses")).flatMap((host) => {
    const address = parseAddress(member(host, "address"));
    if (address === undefined) return [];
    const stats = new Map<unknown, number>();
    for (const stat of listOf(member(host, "stats"))) {
      // 64-bit numbers are strings in protobuf's JSON.
      const value = Number(member(stat, "value") ?? 0);
      stats.set(member(stat, "name"), Number.isFinite(value) ? value : 0);
    }
    return [
      {
        address,
        failedActiveCheck: member(host, "health_status", "failed_active_health_check") === true,
        requestsActive: stats.get("rq_active") ?? 0,
        requestsPending: stats.get("rq_pending_active") ?? 0,
        requestsTotal: stats.get("rq_total") ?? 0,
        requestsFailed: stats.get("rq_error") ?? 0,
        connectionsActive: stats.get("cx_active") ?? 0,
      },
    ];
  });
}

function parseAddress(address: unknown): string | undefined {
  const path = member(address, "pipe", "path");
  if (typeof path === "string") return path;
  const host = member(address, "socket_address", "address");
  const port = member(address, "socket_address", "port_value");
  return typeof host === "string" && typeof port === "number" ? `${host}:${port}` : undefined;
}

/** Parses `name: value` lines; skips histograms and statistics that have no value yet. */
export function parseStats(text: string): ReadonlyMap<string, number | string> {
  const stats = new Map<string, number | string>();
  for (const line of text.split("\n")) {
    const match = /^(\S+): (?:(\d+)|"(.*)")$/u.exec(line);
    if (match?.[1] !== undefined) stats.set(match[1], match[2] === undefined ? (match[3] ?? "") : Number(match[2]));
  }
  return stats;
}

/** Parses histograms in the Prometheus text format, each with the labels of its first series only. */
export function parseHistograms(text: string): ReadonlyMap<string, Histogram> {
  const parts = new Map<string, { buckets: { upperBound: number; count: number }[]; sum: number; count: number }>();
  for (const line of text.split("\n")) {
    const match = /^(\w+)_(bucket|sum|count)\{([^}]*)\} (\S+)$/u.exec(line);
    if (match?.[1] === undefined) continue;
    const [, name, part, labels = "", raw] = match;
    const value = Number(raw);
    if (!Number.isFinite(value)) continue;
    const histogram = parts.get(name) ?? { buckets: [], sum: 0, count: 0 };
    parts.set(name, histogram);
    if (part === "sum") histogram.sum = value;
    else if (part === "count") histogram.count = value;
    else {
      const bound = /(?:^|,)le="([^"]*)"/u.exec(labels)?.[1] ?? "";
      if (bound !== "+Inf" && bound !== "") histogram.buckets.push({ upperBound: Number(bound), count: value });
    }
  }
  return parts;
}

/** The reason why Envoy rejected a listener, from a `/config_dump` response. */
export function parseListenerError(text: string): string | undefined {
  for (const config of listOf(member(parseJson(text), "configs"))) {
    const details = member(config, "error_state", "details");
    if (typeof details === "string") return details;
  }
  return undefined;
}
