/** Which TCP ports a configuration claims, and which claims overlap. Addresses are not compared. */
import type { Config, PoolConfig, Share } from "./config.ts";
import type { Known } from "./field.ts";
import { rolloutOf } from "./spec.ts";

/** Something that is wrong at a path of the configuration. */
export interface PortProblem {
  readonly path: string;
  readonly message: string;
}

interface PortClaim {
  /** Place in the file among all claims. */
  readonly index: number;
  readonly path: string;
  readonly from: number;
  readonly to: number;
}

/** Every claim that overlaps another one or leaves the range of ports; each claim is named at most once. */
export function findPortProblems(
  config: Known<Config>,
  replicasOf: (pool: Known<PoolConfig>) => number,
): readonly PortProblem[] {
  const problems: PortProblem[] = [];
  const claims = portClaims(config, replicasOf);
  for (const claim of claims) {
    if (claim.to > 65_535) problems.push({ path: claim.path, message: `${formatClaim(claim)} end above 65535` });
  }
  // Sorted by start, a claim overlaps an earlier one exactly when it starts at or below the highest end so far.
  let highest: PortClaim | undefined;
  for (const claim of claims.toSorted((a, b) => a.from - b.from)) {
    if (highest !== undefined && claim.from <= highest.to) {
      const [first, second] = highest.index < claim.index ? [highest, claim] : [claim, highest];
      problems.push({
        path: second.path,
        message: `${formatClaim(second)} ${second.from === second.to ? "is" : "overlap what is"} claimed by ${first.path} (${formatClaim(first)})`,
      });
    }
    if (highest === undefined || claim.to > highest.to) highest = claim;
  }
  return problems;
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
    claim(`${path}.server.port_arg.start_port`, pool.server?.portArg?.startPort, slotCount(pool, replicasOf(pool)));
    claim(`${path}.metrics.port`, pool.metrics?.port, slotCount(pool, replicasOf(pool)));
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

/** Ports that the workers of a pool have, and the key of the pool that says so. */
export interface PortRange {
  readonly key: "server.port_arg.start_port" | "metrics.port";
  /** The first and the last one. */
  readonly from: number;
  readonly to: number;
}

/** All ports that workers of a pool may be told to listen on: those of their traffic, and of their metrics. */
export function ownPorts(pool: PoolConfig, replicas: number): readonly PortRange[] {
  const first = [
    ["server.port_arg.start_port", pool.server?.portArg?.startPort],
    ["metrics.port", pool.metrics?.port],
  ] as const;
  const count = slotCount(pool, replicas);
  return first.flatMap(([key, from]) => (from === undefined ? [] : [{ key, from, to: from + count - 1 }]));
}

/** Slots that a pool may ever use at once: replicas, as many as autoscale may make them, standby and surge. */
function slotCount(pool: Known<PoolConfig>, atStart: number): number {
  const replicas = Math.max(atStart, pool.autoscale?.max ?? 0);
  const surge = pool.rolling?.maxSurge ?? 0;
  const maxSurge: Share = typeof surge === "object" ? { percent: surge.percent ?? 0 } : surge;
  return (
    replicas +
    (pool.standby ?? 0) +
    rolloutOf({ maxSurge, maxUnavailable: 1, minReadyMs: undefined }, replicas).maxSurge
  );
}

function formatClaim({ from, to }: PortClaim): string {
  return from === to ? `port ${from}` : `ports ${from} to ${to}`;
}
