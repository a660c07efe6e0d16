/**
 * From a configuration file that was changed to what is done about it while everything runs: reads and checks it again,
 * compares, and applies only what changed. An invalid file changes nothing. A pool whose rollout fails goes on as it was.
 */
import type { ReloadPlan } from "../admin/api.ts";
import { ControllerError } from "../base/errors.ts";
import type { Preflight } from "../cli/preflight.ts";
import { proxySettings } from "../cli/proxySettings.ts";
import type { Config, PoolConfig } from "../config/config.ts";
import { diffConfig, formatPlan, isEmptyDiff, type PoolDiff } from "../config/diff.ts";
import { proxyName, rolloutOf } from "../config/spec.ts";
import type { LifecycleEvent } from "../core/event.ts";
import type { Order } from "../core/operation.ts";
import type { PoolSpec } from "../core/spec.ts";
import type { Daemon } from "../runtime/daemon.ts";
import type { SharedSockets } from "../runtime/sockets.ts";
import type { PoolRegistry } from "./poolRegistry.ts";
import { type CheckedPool, checkedPools, type Pools } from "./pools.ts";
import type { Traffic } from "./traffic.ts";

/** Gives an order to the pool of an index and returns the id of the operation. */
export type GiveOrder = (pool: number, order: Order, reason: string) => string;

export class Reload {
  readonly #read: () => Preflight;
  readonly #daemon: Daemon;
  readonly #pools: Pools;
  readonly #registry: PoolRegistry;
  readonly #traffic: Traffic;
  readonly #sockets: SharedSockets;
  readonly #order: GiveOrder;
  /** What is in force; the parts that a reload could not change are the old ones. */
  #config: Config;
  #plans: ReadonlyMap<string, CheckedPool>;
  /** What a pool goes back to where its operation fails, by the operation's id. */
  readonly #fallbacks = new Map<string, CheckedPool>();
  /** What follows when the removal of a pool is done, by the operation's id. */
  readonly #afterRemoval = new Map<string, () => void>();
  #previous: Promise<unknown> = Promise.resolve();

  constructor(options: {
    initial: Preflight;
    /** Reads and checks the file again. @throws ControllerError */
    read: () => Preflight;
    daemon: Daemon;
    pools: Pools;
    registry: PoolRegistry;
    traffic: Traffic;
    sockets: SharedSockets;
    order: GiveOrder;
  }) {
    this.#read = options.read;
    this.#daemon = options.daemon;
    this.#pools = options.pools;
    this.#registry = options.registry;
    this.#traffic = options.traffic;
    this.#sockets = options.sockets;
    this.#order = options.order;
    this.#config = options.initial.config;
    this.#plans = byName(options.initial);
  }

  /** The configuration that is in force. */
  get config(): Config {
    return this.#config;
  }

  /**
   * What a reload does, or with `isDryRun` would do. Reloads wait for one another.
   * @throws ControllerError of the checks; then nothing has changed
   */
  run(isDryRun: boolean): Promise<ReloadPlan> {
    const run = this.#previous.then(() => this.#run(isDryRun));
    this.#previous = run.catch(() => undefined);
    return run;
  }

  /** To be told of every lifecycle event. */
  handle(event: LifecycleEvent): void {
    if (event.kind !== "operation_finished" && event.kind !== "operation_failed") return;
    const fallback = this.#fallbacks.get(event.operation);
    this.#fallbacks.delete(event.operation);
    if (event.kind === "operation_failed" && fallback !== undefined) this.#inForce(fallback);
    const next = this.#afterRemoval.get(event.operation);
    this.#afterRemoval.delete(event.operation);
    next?.();
  }

  async #run(isDryRun: boolean): Promise<ReloadPlan> {
    const next = this.#read();
    const checked = byName(next);
    const diff = diffConfig(this.#config, next.config);
    const changes = [...diff.pools, ...this.#changedSurroundings(diff.pools, checked)];
    const isRefused = (name: string) =>
      diff.refused.some(({ path }) => path.startsWith(`${pathOf(next.config, name)}.`));
    const pools = changes.filter(({ name }) => !isRefused(name));
    const words = { ...diff, refused: [], pools };
    const plan = {
      changes: isEmptyDiff(words) ? [] : formatPlan(words),
      refused: [...diff.refused],
      operations: [] as ReloadPlan["operations"][number][],
    };
    if (isDryRun) return plan;

    const added = pools.flatMap(({ name, kind }) => (kind === "added" ? [poolOf(checked, name)] : []));
    // What may fail comes first, so that a failure changes nothing.
    await this.#pools.claim(added);
    if (diff.policy.length > 0) this.#daemon.setPolicy(next.spec);
    this.#config = merge(this.#config, next.config, (name) => !isRefused(name));
    this.#pools.addAll(added);
    for (const change of pools) {
      if (change.kind === "removed") plan.operations.push(this.#remove(change.name));
      else if (change.kind === "added") plan.operations.push(...this.#fill(poolOf(checked, change.name)));
      else plan.operations.push(...this.#change(change, poolOf(checked, change.name)));
    }
    this.#plans = new Map([...this.#plans, ...[...checked].filter(([name]) => !isRefused(name))]);
    for (const { name, proxy } of pools) {
      if (proxy.length === 0) continue;
      const reason = await this.#reconfigure(poolOf(checked, name).config);
      if (reason !== undefined) plan.refused.push({ path: `${pathOf(next.config, name)}.server`, reason });
    }
    return plan;
  }

  /** The same words in the file can mean something else: another env_file, another program of that name. */
  #changedSurroundings(diffs: readonly PoolDiff[], checked: ReadonlyMap<string, CheckedPool>): PoolDiff[] {
    return [...checked].flatMap(([name, { plan }]): PoolDiff[] => {
      const before = this.#plans.get(name)?.plan;
      if (before === undefined || diffs.some((diff) => diff.name === name)) return [];
      const what: string[] = [];
      if (before.file !== plan.file) what.push("the program that exec finds");
      if (JSON.stringify(before.env) !== JSON.stringify(plan.env)) what.push("the environment (env_file)");
      if (JSON.stringify(before.credentials) !== JSON.stringify(plan.credentials))
        what.push("the ids of user and group");
      return what.length === 0 ? [] : [{ name, kind: "changed", launch: what, proxy: [], policy: [] }];
    });
  }

  #change({ name, launch, policy }: PoolDiff, pool: CheckedPool): { id: string; pool: string }[] {
    const index = this.#indexOf(name);
    const present = this.#daemon.specOf(index);
    const isRolled = launch.length > 0;
    const revision = isRolled ? this.#registry.lastRevision(index) + 1 : present.revision;
    if (isRolled) this.#pools.install(pool, revision);
    // Somebody may have scaled the pool since; only a change of the file takes that back.
    const isScaled = policy.some((path) => path.endsWith(".replicas"));
    const replicas = isScaled ? pool.spec.replicas : present.replicas;
    const rollout = rolloutOf(pool.config.rolling, replicas);
    const why = [...launch, ...policy].map((path) => path.slice(path.lastIndexOf(".") + 1)).join(", ");
    const fallback = this.#plans.get(name);
    const id = this.#give(index, { ...pool.spec, replicas, rollout, revision }, `reload: ${why || "server"} changed`);
    if (fallback !== undefined) this.#fallbacks.set(id, fallback);
    const operations = [{ id, pool: name }];
    const proxy = this.#pools.indexOf(proxyName(name));
    if (
      pool.proxySpec !== undefined &&
      proxy !== undefined &&
      policy.some((path) => path.endsWith("server.signal_timeout"))
    )
      operations.push({ id: this.#give(proxy, pool.proxySpec, "reload"), pool: proxyName(name) });
    return operations;
  }

  #fill({ config, spec, proxySpec }: CheckedPool): { id: string; pool: string }[] {
    const filled: { id: string; pool: string }[] = [];
    for (const each of [proxySpec, spec]) {
      if (each === undefined) continue;
      const index = this.#indexOf(each.name);
      const revision = each.role === "proxy" ? 1 : this.#registry.lastRevision(index);
      filled.push({
        id: this.#give(index, { ...each, revision }, `reload: pool "${config.name}" is new`),
        pool: each.name,
      });
    }
    return filled;
  }

  /** Workers finish what they work on and leave, then the proxy does. */
  #remove(name: string): { id: string; pool: string } {
    const id = this.#empty(name, `reload: pool "${name}" is not in the file any more`);
    this.#afterRemoval.set(id, () => {
      this.#sockets.release(name);
      if (this.#pools.indexOf(proxyName(name)) !== undefined)
        this.#empty(proxyName(name), "no worker is left behind it");
    });
    return { id, pool: name };
  }

  #empty(name: string, reason: string): string {
    const index = this.#indexOf(name);
    return this.#give(index, { ...this.#daemon.specOf(index), replicas: 0 }, reason);
  }

  #give(index: number, spec: PoolSpec, reason: string): string {
    return this.#order(index, { kind: "reload", spec }, reason);
  }

  #reconfigure(config: PoolConfig): Promise<string | undefined> {
    const proxy = this.#pools.indexOf(proxyName(config.name));
    if (config.server === undefined || proxy === undefined) return Promise.resolve(undefined);
    return this.#traffic.proxyOf(proxy).reconfigure(proxySettings(config, config.server));
  }

  /** The pool is again what it was. */
  #inForce(pool: CheckedPool): void {
    const { name } = pool.config;
    this.#plans = new Map([...this.#plans, [name, pool]]);
    const { supervisor } = this.#config;
    const pools = supervisor.pools.map((each) => (each.name === name ? pool.config : each));
    this.#config = { ...this.#config, supervisor: { ...supervisor, pools } };
  }

  #indexOf(name: string): number {
    const index = this.#pools.indexOf(name);
    if (index === undefined) throw new ControllerError("POOL_UNKNOWN", `Cannot reload pool "${name}": it is not known`);
    return index;
  }
}

function byName(preflight: Preflight): ReadonlyMap<string, CheckedPool> {
  return new Map(checkedPools(preflight).map((pool) => [pool.config.name, pool]));
}

function poolOf(pools: ReadonlyMap<string, CheckedPool>, name: string): CheckedPool {
  const pool = pools.get(name);
  if (pool === undefined) throw new RangeError(`pool "${name}" is not in the configuration`);
  return pool;
}

function pathOf({ supervisor }: Config, name: string): string {
  return `supervisor.workers[${supervisor.pools.findIndex((pool) => pool.name === name)}]`;
}

/** The new configuration, with the old values of what cannot change while the controller runs. */
function merge(before: Config, next: Config, isTaken: (pool: string) => boolean): Config {
  const pools = next.supervisor.pools.map((pool) =>
    isTaken(pool.name) ? pool : (before.supervisor.pools.find(({ name }) => name === pool.name) ?? pool),
  );
  const { runtimeDir } = before.supervisor;
  return { admin: before.admin, supervisor: { ...next.supervisor, runtimeDir, pools } };
}
