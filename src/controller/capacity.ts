/** Whether the machine has room for all processes, and how many descriptors each part of the controller may use. */
import type { ControllerSpec } from "../core/spec.ts";
import { getLimit, RLIMITS, reserveDescriptors } from "../runtime/os/linux.ts";
import { requireProcesses } from "../runtime/os/processLimit.ts";
import { readSoftNofile } from "../runtime/os/procfs.ts";
import type { Preflight } from "./preflight.ts";

/** Threads of an Envoy besides its workers (`server.concurrency`). */
const ENVOY_THREADS = 5;

/** With more workers the table of descriptors would grow more than once while they start. */
const MANY_WORKERS = 50;
const OWN_DESCRIPTORS = 128;

/** Refuses a start if the system has no room for all processes. @throws ControllerError PROCESS_LIMIT */
export function requireRoom({ config, spec }: Preflight, hasGuardian: boolean): void {
  const workers = countWorkers(spec);
  const servers = config.supervisor.pools.flatMap(({ server }) => server ?? []);
  const envoys = servers.reduce((sum, { concurrency }) => sum + ENVOY_THREADS + concurrency, 0);
  const parts = [
    ...(hasGuardian ? ["the guardian"] : []),
    `${workers} ${workers === 1 ? "worker" : "workers"}`,
    ...(envoys === 0 ? [] : [`${envoys} of Envoy`]),
  ];
  requireProcesses((hasGuardian ? 1 : 0) + workers + envoys, parts.join(", "));
}

export function countWorkers({ pools }: Pick<ControllerSpec, "pools">): number {
  return pools.reduce((sum, pool) => sum + (pool.role === "workers" ? pool.replicas : 0), 0);
}

/** Makes the table of descriptors large enough for this number of workers. */
export function reserveForWorkers(workers: number): void {
  if (workers > MANY_WORKERS) reserveDescriptors(2 * workers + OWN_DESCRIPTORS);
}

/** Connections to the admin port: enough for a thousand concurrent scrapes, at most a quarter of the descriptors. */
export function openConnections(): number {
  const { soft } = getLimit(0, RLIMITS["nofile"] ?? 7);
  return Math.min(1280, soft === "unlimited" ? 1280 : Math.max(64, Math.floor(soft / 4)));
}

/** The soft limit the controller was started with: Node.js raises its own limit, but not its parent's. */
export function inheritedNofile(): number | "unlimited" {
  const own = getLimit(0, RLIMITS["nofile"] ?? 7);
  const parents = process.ppid === 0 ? undefined : readSoftNofile(process.ppid);
  if (parents === undefined || parents === "unlimited" || own.soft === "unlimited") return own.soft;
  return Math.min(parents, own.soft);
}
