/** What a configuration that was read again changes about the running pools. Starts and stops nothing. */
import { isDeepStrictEqual } from "node:util";
import type { ReloadPlan } from "../../admin/api.ts";
import type { Config } from "../../config/config.ts";
import { diffConfig, formatPlan, type PoolDiff, type RefusedChange } from "../../config/diff.ts";
import { ownPorts, type PortRange } from "../../config/ports.ts";
import type { PoolChange, PoolVersion, ReloadRequest } from "../../core/reload/state.ts";
import { findTakenPort } from "../../runtime/socket/workerPorts.ts";
import type { Preflight } from "../preflight.ts";
import { areInConflict, type PlacedPool, whyPortsAreTaken } from "./placeConflicts.ts";
import { type CheckedPool, checkedPools } from "./pools.ts";

/** What runs now. */
export interface RunningConfiguration {
  readonly config: Config;
  readonly pools: readonly CheckedPool[];
  /** The current number of replicas of a pool of the configuration. */
  readonly replicasOf: (name: string) => number;
  /** Pools that are being removed. */
  readonly leaving: readonly PlacedPool[];
}

export interface Comparison {
  readonly request: ReloadRequest;
  readonly plan: Pick<ReloadPlan, "changes" | "refused">;
}

/** Compares the running configuration with `next`. `register` gives the pools of `next` their numbers. */
export function compareConfigurations(
  running: RunningConfiguration,
  next: Preflight,
  register: (pool: CheckedPool) => PoolVersion,
): Comparison {
  const checked = new Map(checkedPools(next).map((pool) => [pool.config.name, pool]));
  const before = new Map(running.pools.map((pool) => [pool.config.name, pool]));
  const placed = running.pools.map((pool) => ({
    config: pool.config,
    replicas: Math.max(running.replicasOf(pool.config.name), pool.spec.replicas),
  }));
  const diff = diffConfig(running.config, next.config);
  const refused = [...diff.refused, ...takenPorts(diff.pools, before, checked, placed, next.config)];
  const isRefused = (name: string) => refused.some(({ path }) => path.startsWith(`${pathOf(next.config, name)}.`));
  const diffs = withOutsideChanges(diff.pools, before, checked).filter(({ name }) => !isRefused(name));
  const applied = { ...diff, pools: diffs };
  const removed = diffs.filter(({ kind }) => kind === "removed").map(({ name }) => name);
  const obstacles = [...running.leaving, ...placed.filter(({ config }) => removed.includes(config.name))];
  const toChange = ({ name, kind, launch, proxy, policy }: PoolDiff): PoolChange => {
    const pool = checked.get(name);
    if (kind === "removed" || pool === undefined) return { kind: "removed", name };
    const version = register(pool);
    if (kind === "added") {
      const blocking = obstacles.filter((each) => areInConflict(each, { ...pool, replicas: pool.spec.replicas }));
      return { kind, version, blockers: blocking.map(({ config }) => config.name) };
    }
    const changed = [...launch, ...policy].map((path) => path.slice(path.lastIndexOf(".") + 1)).join(", ");
    return {
      kind,
      version,
      isLaunched: launch.length > 0,
      isScaled: policy.some((path) => /(?:^|\.)replicas$/u.test(path)),
      isProxyChanged: proxy.length > 0,
      reason: changed || "server",
    };
  };
  return {
    request: {
      names: [...checked.keys()],
      changes: diffs.map(toChange),
      policy: diff.policy.length > 0 ? next.spec : undefined,
    },
    plan: { changes: formatPlan(applied), refused },
  };
}

/** The path of a pool in the file. */
export function pathOf({ supervisor }: Config, name: string): string {
  return `supervisor.workers[${supervisor.pools.findIndex((pool) => pool.name === name)}]`;
}

/** Successors cannot bind ports on which predecessors, of the same pool or another one, still listen. */
function takenPorts(
  diffs: readonly PoolDiff[],
  before: ReadonlyMap<string, CheckedPool>,
  checked: ReadonlyMap<string, CheckedPool>,
  running: readonly PlacedPool[],
  config: Config,
): RefusedChange[] {
  return diffs.flatMap(({ name, kind }) => {
    const next = checked.get(name);
    if (kind !== "changed" || next === undefined) return [];
    const known = before.get(name);
    const present = known === undefined ? [] : ownPorts(known.config, known.spec.replicas);
    const isKept = ({ key, from }: PortRange) => present.some((each) => each.key === key && each.from === from);
    return ownPorts(next.config, next.spec.replicas).flatMap((wanted) => {
      const reason = whyPortsAreTaken(name, wanted, running) ?? (isKept(wanted) ? undefined : findTakenPort(wanted));
      return reason === undefined ? [] : [{ path: `${pathOf(config, name)}.${wanted.key}`, reason }];
    });
  });
}

/** Adds changes outside the file: another content of env_file, another program of the same name, more CPUs. */
function withOutsideChanges(
  diffs: readonly PoolDiff[],
  before: ReadonlyMap<string, CheckedPool>,
  checked: ReadonlyMap<string, CheckedPool>,
): readonly PoolDiff[] {
  const found = new Map(diffs.map((diff) => [diff.name, diff]));
  for (const [name, next] of checked) {
    const known = before.get(name);
    const diff = found.get(name) ?? { name, kind: "changed", launch: [], proxy: [], policy: [] };
    if (known === undefined || diff.kind !== "changed") continue;
    const isResized = next.config.replicas === "auto" && known.spec.replicas !== next.spec.replicas;
    const isKnown = diff.policy.some((path) => path.endsWith(".replicas"));
    const policy = isResized && !isKnown ? [...diff.policy, "replicas"] : diff.policy;
    // A changed launch key already explains the rollout.
    const launch = diff.launch.length > 0 ? diff.launch : outsideLaunchChanges(known, next);
    if (launch.length + policy.length > 0) found.set(name, { ...diff, launch, policy });
  }
  return [...found.values()];
}

function outsideLaunchChanges({ plan: before }: CheckedPool, { plan }: CheckedPool): string[] {
  const changes: string[] = [];
  if (before.file !== plan.file) changes.push("the program that exec finds");
  if (!isDeepStrictEqual(before.env, plan.env)) changes.push("the environment (env_file)");
  if (!isDeepStrictEqual(before.credentials, plan.credentials)) changes.push("the ids of user and group");
  return changes;
}
