/** Which TCP ports a configuration claims, and which claims overlap. Addresses are not compared. */
import { maxSurgeOf } from "../core/policy/rollout.ts";
import type { Share } from "../core/spec.ts";
import type { Config, PoolConfig, ServerConfig } from "./config.ts";
import type { Known } from "./field.ts";
import type { MetricsConfig } from "./keys/metrics.ts";
import { metricsScope } from "./spec.ts";

/** A problem at a path of the configuration. */
export interface PortProblem {
  readonly path: string;
  readonly message: string;
}

interface PortClaim {
  /** Position in the file among all claims. */
  readonly index: number;
  readonly path: string;
  readonly from: number;
  readonly to: number;
}

/** Every claim that overlaps another one or exceeds the port range; each claim is reported at most once. */
export function findPortProblems(
  config: Known<Config>,
  replicasOf: (pool: Known<PoolConfig>) => number,
): readonly PortProblem[] {
  const problems: PortProblem[] = [];
  const claims = portClaims(config, replicasOf);
  for (const claim of claims) {
    if (claim.to > 65_535)
      problems.push({ path: claim.path, message: `${formatClaim(claim)} exceed the highest port, 65535` });
  }
  // When sorted by start, a claim overlaps an earlier one exactly when it starts at or below the highest end so far.
  let highest: PortClaim | undefined;
  for (const claim of claims.toSorted((a, b) => a.from - b.from)) {
    if (highest !== undefined && claim.from <= highest.to) {
      const [first, second] = highest.index < claim.index ? [highest, claim] : [claim, highest];
      problems.push({
        path: second.path,
        message: `${formatClaim(second)} ${second.from === second.to ? "overlaps" : "overlap"} ${first.path} (${formatClaim(first)})`,
      });
    }
    if (highest === undefined || claim.to > highest.to) highest = claim;
  }
  return problems;
}

/** Ports that the kernel assigns to outgoing connections (ip-sysctl: ip_local_port_range, ip_local_reserved_ports). */
export interface EphemeralPorts {
  readonly from: number;
  readonly to: number;
  /** Ranges inside it that the kernel does not assign. */
  readonly reserved: readonly { readonly from: number; readonly to: number }[];
}

/** Ports bound at each start of a worker or Envoy, when an outgoing connection may hold one of them. */
const BOUND_AGAIN = /\.(?:start_port|listener_port|admin_port|metrics\.port)$/u;

/** Every claim of such ports that overlaps the range of outgoing connections. */
export function findEphemeralClaims(
  config: Known<Config>,
  replicasOf: (pool: Known<PoolConfig>) => number,
  ephemeral: EphemeralPorts,
): readonly PortProblem[] {
  return portClaims(config, replicasOf).flatMap((claim) => {
    if (!BOUND_AGAIN.test(claim.path)) return [];
    const inside = { from: Math.max(claim.from, ephemeral.from), to: Math.min(claim.to, ephemeral.to) };
    if (inside.from > inside.to || isCovered(inside, ephemeral.reserved)) return [];
    const ports = inside.from === inside.to ? String(inside.from) : `${inside.from}-${inside.to}`;
    const verb = claim.from === claim.to ? "is" : "are";
    const message =
      `${formatClaim(claim)} ${verb} in the range that the kernel uses for outgoing connections ` +
      `(${ephemeral.from} to ${ephemeral.to}, net.ipv4.ip_local_port_range): a connection may hold a port when a worker or ` +
      `Envoy starts. Use ports outside the range, or sysctl -w net.ipv4.ip_local_reserved_ports=${ports}`;
    return [{ path: claim.path, message }];
  });
}

function isCovered(
  { from, to }: { readonly from: number; readonly to: number },
  ranges: readonly { readonly from: number; readonly to: number }[],
): boolean {
  let next = from;
  for (const range of ranges.toSorted((a, b) => a.from - b.from)) {
    if (range.from > next) break;
    next = Math.max(next, range.to + 1);
  }
  return next > to;
}

function portClaims(config: Known<Config>, replicasOf: (pool: Known<PoolConfig>) => number): readonly PortClaim[] {
  const claims: PortClaim[] = [];
  const claim = (path: string, from: number | undefined, count = 1): void => {
    // Port 0 lets the kernel choose, so it claims nothing.
    if (from !== undefined && from > 0) claims.push({ index: claims.length, path, from, to: from + count - 1 });
  };
  claim("admin.port", config.admin?.port);
  for (const [index, pool] of (config.supervisor?.pools ?? []).entries()) {
    if (pool === undefined) continue;
    const path = `supervisor.workers[${index}]`;
    claim(`${path}.${startPortPath(pool)}`, startPortOf(pool), slotCount(pool, replicasOf(pool)));
    if (!sharesMetricsPort(pool)) claim(`${path}.metrics.port`, pool.metrics?.port, slotCount(pool, replicasOf(pool)));
    claim(`${path}.server.listener_port`, pool.server?.listenerPort);
    claim(`${path}.server.admin_port`, pool.server?.adminPort);
    for (const [at, socket] of (pool.sockets ?? []).entries()) {
      const port = /:(\d+)$/u.exec(socket?.listen ?? "")?.[1];
      if (!socket?.listen?.startsWith("/"))
        claim(`${path}.sockets[${at}].listen`, port === undefined ? undefined : Number(port));
    }
  }
  return claims;
}

/** Ports of the workers of a pool, and the key that defines them. */
export interface PortRange {
  readonly key: string;
  /** First and last port, inclusive. */
  readonly from: number;
  readonly to: number;
}

/** All ports assigned to workers of a pool, for traffic and for metrics. */
export function ownPorts(pool: PoolConfig, replicas: number): readonly PortRange[] {
  const count = slotCount(pool, replicas);
  const range = (key: string, from: number | undefined) =>
    from === undefined ? [] : [{ key, from, to: from + count - 1 }];
  return [
    ...range(startPortPath(pool), startPortOf(pool)),
    ...range("metrics.port", sharesMetricsPort(pool) ? undefined : pool.metrics?.port),
  ];
}

/** Whether the metrics port of a pool is that of one of its sockets, on which any worker answers for all. */
export function sharesMetricsPort({
  metrics,
  sockets,
}: {
  readonly metrics?: Known<Pick<MetricsConfig, "port" | "scope" | "multiproc">> | undefined;
  readonly sockets?: Known<PoolConfig["sockets"]> | undefined;
}): boolean {
  const { port, scope, multiproc = false } = metrics ?? {};
  if (port === undefined || metricsScope({ scope, multiproc }) !== "pool") return false;
  return (sockets ?? []).some((socket) => socket?.listen?.endsWith(`:${port}`) === true);
}

/** The parts of a pool that define the ports of its workers. */
interface WithStartPort {
  readonly server?: Known<Pick<ServerConfig, "startPort" | "portArg">> | undefined;
}

/** Port of slot 0; undefined if workers are not assigned ports. */
export function startPortOf({ server }: WithStartPort): number | undefined {
  return server?.startPort ?? server?.portArg?.startPort;
}

/** Path of the key that sets that port, relative to the pool. */
export function startPortPath({ server }: WithStartPort): string {
  return server?.startPort === undefined ? "server.port_arg.start_port" : "server.start_port";
}

/** Slots that a pool may use at once: the maximum of replicas and autoscale.max, plus standby and surge. */
function slotCount(pool: Known<PoolConfig>, atStart: number): number {
  const replicas = Math.max(atStart, pool.autoscale?.maxReplicas ?? 0);
  const surge = pool.rollout?.maxSurge ?? 0;
  const maxSurge: Share = typeof surge === "object" ? { percent: surge.percent ?? 0 } : surge;
  return replicas + (pool.standby ?? 0) + maxSurgeOf({ maxSurge, maxUnavailable: 1 }, replicas);
}

function formatClaim({ from, to }: PortClaim): string {
  return from === to ? `port ${from}` : `ports ${from} to ${to}`;
}
