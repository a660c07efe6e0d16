/** Whether two pools claim the same resource and cannot run at the same time. Part of the composition root. Pure. */
import type { PoolConfig } from "../../config/config.ts";
import { findPortProblems, ownPorts, type PortRange } from "../../config/ports.ts";

/** A pool, and how many replicas it has. */
export interface PlacedPool {
  readonly config: PoolConfig;
  readonly replicas: number;
}

/** Whether both have the same name, or claim a port or a Unix socket in common. */
export function areInConflict(one: PlacedPool, other: PlacedPool): boolean {
  if (one.config.name === other.config.name) return true;
  const paths = new Set(unixSockets(one.config));
  if (unixSockets(other.config).some((path) => paths.has(path))) return true;
  const replicas = new Map([one, other].map((pool) => [pool.config.name, pool.replicas]));
  const both = { supervisor: { pools: [one.config, other.config] } };
  return findPortProblems(both, ({ name }) => replicas.get(name ?? "") ?? 1).length > 0;
}

/**
 * Why workers of a running pool cannot move to the ports `wanted`: other workers still listen on some of them. A
 * successor would fail to bind such a port, or share it if both allow that. undefined if no port is taken.
 */
export function whyPortsAreTaken(pool: string, wanted: PortRange, running: readonly PlacedPool[]): string | undefined {
  for (const { config, replicas } of running) {
    const isSame = ({ key, from }: PortRange) => config.name === pool && key === wanted.key && from === wanted.from;
    const taken = ownPorts(config, replicas).find(
      (range) => !isSame(range) && wanted.from <= range.to && range.from <= wanted.to,
    );
    if (taken === undefined) continue;
    const from = `ports ${wanted.from} to ${wanted.to} overlap ports ${taken.from} to ${taken.to}`;
    return `${from} of the workers of pool "${config.name}" that run; choose ports beside them`;
  }
  return undefined;
}

function unixSockets({ sockets }: PoolConfig): string[] {
  return sockets.map(({ listen }) => listen).filter((listen) => listen.startsWith("/"));
}
