/** Whether two pools cannot run at the same time because both want what only one can have. Part of the composition root. Pure. */
import type { PoolConfig } from "../config/config.ts";
import { findPortProblems } from "../config/ports.ts";

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

function unixSockets({ sockets }: PoolConfig): string[] {
  return sockets.map(({ listen }) => listen).filter((listen) => listen.startsWith("/"));
}
