/** The block `supervisor`: the pools, and the shutdown of all of them. */
import type { Milestone } from "../../core/spec.ts";
import { type Block, block, type CheckContext, type Known, key, type Values } from "../field.ts";
import { list } from "../kind.ts";
import { didYouMean } from "../nearest.ts";
import { duration, integer, path } from "../scalars.ts";
import { type PoolConfig, pool } from "./pool.ts";

const keys = {
  shutdownTimeoutMs: key("shutdown_timeout", duration(1), {
    change: "policy",
    default: 60_000,
    doc: "Time limit of the whole shutdown, `pre_stop_delay` included. Processes still running then are killed.",
  }),
  preStopDelayMs: key("pre_stop_delay", duration(), {
    change: "policy",
    default: 0,
    doc: "Delay between the shutdown request and the first stop signal. Workers keep serving while `/health/ready` already answers 503.",
  }),
  startParallelism: key("start_parallelism", integer(1), {
    change: "policy",
    unset: "unlimited",
    doc: "How many workers may boot at the same time, over all pools: a worker boots from its start until it is ready or has failed. Restarts and rollouts count too; restarts of crashed workers come first. Envoy does not count.",
  }),
  runtimeDir: key("runtime_dir", path, {
    change: "refused",
    unset: "a private temporary directory",
    doc: "Directory for sockets and Envoy's files.",
  }),
  pools: key("workers", list(pool, { min: 1 }), {
    // Pools are compared one by one.
    change: [],
    required: true,
    since: "original",
    doc: "The pools, at least one.",
  }),
};

export interface SupervisorConfig extends Values<typeof keys> {}

export const supervisor: Block<SupervisorConfig, typeof keys> = block(keys, {
  check: (supervisor, context) => {
    checkTimes(supervisor, context);
    checkNames(supervisor.pools ?? [], context);
    checkSocketPaths(supervisor.pools ?? [], context);
    checkDependencies(supervisor.pools ?? [], context);
  },
  foreign: {
    "pools pool programs program apps app services service processes watchers watcher":
      "write workers, a list of pools",
    "gracefultimeout stoptimeout gracetimeout terminationgraceperiod": "write shutdown_timeout",
    "prestop prestopsleep": "write pre_stop_delay",
    "directory rundir statedir": "write runtime_dir",
    "logfile loglevel logging log": "the controller logs to stderr; -d makes the log readable",
  },
});

function checkTimes(supervisor: Known<SupervisorConfig>, context: CheckContext): void {
  const { shutdownTimeoutMs = Number.POSITIVE_INFINITY, preStopDelayMs = 0, pools = [] } = supervisor;
  if (preStopDelayMs >= shutdownTimeoutMs)
    context.problem("pre_stop_delay", "expected less than shutdown_timeout, which includes this delay");
  for (const [index, pool] of pools.entries())
    if (preStopDelayMs + (pool?.signalTimeoutMs ?? 0) > shutdownTimeoutMs)
      context.warning(
        `workers[${index}].signal_timeout`,
        "signal_timeout plus pre_stop_delay exceeds shutdown_timeout, so a shutdown may kill workers before their grace period ends",
      );
}

type KnownPools = readonly (Known<PoolConfig> | undefined)[];

function checkNames(pools: KnownPools, context: CheckContext): void {
  for (const [index, { name } = {}] of pools.entries()) {
    if (name === undefined) continue;
    const path = `workers[${index}].name`;
    const first = pools.findIndex((pool) => pool?.name === name);
    if (first < index) context.problem(path, `duplicate name "${name}", workers[${first}] already has it`);
    const owner = pools.find((pool) => pool?.name !== undefined && isWorkerOf(name, pool.name));
    if (owner !== undefined)
      context.warning(path, `a worker of pool "${owner.name}" has the same name; commands use it for this pool`);
    const fronted = pools.findIndex((pool) => pool?.server !== undefined && `${pool.name}-proxy` === name);
    if (fronted !== -1) context.problem(path, `reserved for the proxy of workers[${fronted}]`);
  }
}

/** Whether `name` is the id of a worker of `pool`. */
function isWorkerOf(name: string, pool: string): boolean {
  return name.startsWith(`${pool}-`) && /^(?:0|[1-9]\d*)$/u.test(name.slice(pool.length + 1));
}

function checkDependencies(pools: KnownPools, context: CheckContext): void {
  const names = pools.flatMap((pool) => pool?.name ?? []);
  for (const [index, pool] of pools.entries())
    for (const [name, milestone] of Object.entries(pool?.dependsOn ?? {})) {
      const wrong = wrongDependency(name, milestone, pools, names);
      if (wrong !== undefined) context.problem(`workers[${index}].depends_on.${name}`, wrong);
    }
  for (const [index, { name = "" } = {}] of pools.entries()) {
    const cycle = findCycle([name], pools);
    // One problem for each cycle, at its first pool in the file.
    if (cycle === undefined || names.find((each) => cycle.includes(each)) !== name) continue;
    context.problem(`workers[${index}].depends_on`, `these pools wait for each other: ${cycle.join(" → ")}`);
  }
}

function wrongDependency(
  name: string,
  milestone: Milestone | undefined,
  pools: KnownPools,
  names: readonly string[],
): string | undefined {
  const type = pools.find((pool) => pool?.name === name)?.type;
  if (!names.includes(name)) return `there is no pool "${name}"${didYouMean(name, names)}`;
  if (milestone === "completed" && type === "service")
    return `pool "${name}" is a service, which never completes; write ready or started, or type: oneshot in pool "${name}"`;
  if (milestone === "ready" && type === "oneshot")
    return `pool "${name}" is oneshot, so it is never ready; write completed or started`;
  return undefined;
}

/** A cycle that leads from the first of `path` back to it. */
function findCycle(
  path: readonly string[],
  pools: KnownPools,
  seen = new Set<string>(),
): readonly string[] | undefined {
  const last = pools.find((pool) => pool?.name === path.at(-1));
  for (const name of Object.keys(last?.dependsOn ?? {})) {
    if (name === path[0]) return [...path, name];
    if (seen.has(name)) continue;
    seen.add(name);
    const cycle = findCycle([...path, name], pools, seen);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

function checkSocketPaths(pools: KnownPools, context: CheckContext): void {
  const keyByPath = new Map<string, string>();
  for (const [index, pool] of pools.entries())
    for (const [at, socket] of (pool?.sockets ?? []).entries()) {
      if (!socket?.listen?.startsWith("/")) continue;
      const key = `workers[${index}].sockets[${at}]`;
      const first = keyByPath.get(socket.listen);
      if (first === undefined) keyByPath.set(socket.listen, key);
      else context.problem(`${key}.listen`, `duplicate path, ${first} already listens there`);
    }
}
