/**
 * Applies a changed configuration file at run time: reads and checks it again, compares, and applies only what changed.
 * An invalid file changes nothing. If the rollout of a pool fails, its previous configuration stays in force. A new
 * pool that fails to start is removed. If a new pool needs a port or the name of a pool under removal, it starts when
 * the removal is complete.
 */
import { isDeepStrictEqual } from "node:util";
import type { ReloadPlan } from "../../admin/api.ts";
import { ControllerError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Config, PoolConfig } from "../../config/config.ts";
import { diffConfig, formatPlan, isEmptyDiff, type PoolDiff, type RefusedChange } from "../../config/diff.ts";
import { ownPorts, type PortRange } from "../../config/ports.ts";
import { proxyName } from "../../config/spec.ts";
import type { LifecycleEvent, WideLifecycleEvent } from "../../core/event.ts";
import type { Order } from "../../core/pool/order.ts";
import { emptied, type PoolSpec } from "../../core/spec.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import { INOTIFY_OF_RELOAD, requireInotify } from "../../runtime/os/inotify.ts";
import type { SharedSockets } from "../../runtime/socket/sockets.ts";
import { findTakenPort } from "../../runtime/socket/workerPorts.ts";
import type { Preflight } from "../preflight.ts";
import { proxySettings } from "../proxySettings.ts";
import { Departures } from "./departures.ts";
import { areInConflict, type PlacedPool, whyPortsAreTaken } from "./placeConflicts.ts";
import type { PoolRegistry } from "./poolRegistry.ts";
import { type CheckedPool, checkedPools, type Pools } from "./pools.ts";
import type { Traffic } from "./traffic.ts";

/** Gives an order to the pool with this index. Returns the id of the operation, a new one if `id` is absent. */
export type GiveOrder = (pool: number, order: Order, reason: string, id?: string) => string;

/** Callbacks for the end of an operation. */
interface Sequel {
  readonly finished?: () => void;
  readonly failed?: () => void;
}

/** An operation that a reload started. */
type Begun = ReloadPlan["operations"][number];

export class Reload {
  readonly #read: () => Promise<Preflight>;
  readonly #daemon: Daemon;
  readonly #pools: Pools;
  readonly #registry: PoolRegistry;
  readonly #traffic: Traffic;
  readonly #sockets: SharedSockets;
  readonly #order: GiveOrder;
  readonly #nextId: () => string;
  readonly #tell: (event: WideLifecycleEvent) => void;
  readonly #log: Logger;
  /** The configuration in force, with the old values of what a reload could not change. */
  #config: Config;
  #plans: ReadonlyMap<string, CheckedPool>;
  /** The last configuration with which each pool ran, for rollback; absent for a pool that has not started yet. */
  readonly #proved: Map<string, CheckedPool>;
  /** The latest operation on each pool. */
  readonly #latest = new Map<string, string>();
  /** Callbacks for the end of operations, by operation id. */
  readonly #sequels = new Map<string, Sequel>();
  readonly #departures = new Departures();
  #previous: Promise<unknown> = Promise.resolve();

  constructor(options: {
    initial: Preflight;
    /** Reads and checks the file again. Rejects with a ControllerError. */
    read: () => Promise<Preflight>;
    daemon: Daemon;
    pools: Pools;
    registry: PoolRegistry;
    traffic: Traffic;
    sockets: SharedSockets;
    order: GiveOrder;
    nextId: () => string;
    /** Emits events of operations that wait, in the same way as the daemon's events. */
    tell: (event: WideLifecycleEvent) => void;
    log: Logger;
  }) {
    this.#read = options.read;
    this.#daemon = options.daemon;
    this.#pools = options.pools;
    this.#registry = options.registry;
    this.#traffic = options.traffic;
    this.#sockets = options.sockets;
    this.#order = options.order;
    this.#nextId = options.nextId;
    this.#tell = options.tell;
    this.#log = options.log;
    this.#config = options.initial.config;
    this.#plans = byName(options.initial);
    this.#proved = new Map(this.#plans);
  }

  /** The configuration that is in force. */
  get config(): Config {
    return this.#config;
  }

  /** Replicas of a pool as the start or the last reload read them from the file; undefined if there is no such pool. */
  plannedReplicas(name: string): number | undefined {
    return this.#plans.get(name)?.spec.replicas;
  }

  /**
   * Reloads, or with `isDryRun` only plans. A reload waits for the previous one, including pools that the previous one
   * could not start at once.
   * @throws ControllerError of the checks; then nothing has changed
   */
  async run(isDryRun: boolean): Promise<ReloadPlan> {
    if (isDryRun) return this.#compare(await this.#read()).plan;
    const run = this.#previous.then(() => this.#apply());
    this.#previous = run.then(
      ({ arrivals }) => Promise.all(arrivals),
      () => undefined,
    );
    return (await run).plan;
  }

  /** Call for every lifecycle event. */
  handle(event: LifecycleEvent): void {
    if (event.kind !== "operation_finished" && event.kind !== "operation_failed") return;
    // An operation may end before its order returns; its callbacks are registered only after that.
    queueMicrotask(() => {
      const sequel = this.#sequels.get(event.operation);
      this.#sequels.delete(event.operation);
      if (event.kind === "operation_finished") sequel?.finished?.();
      else sequel?.failed?.();
    });
  }

  get #isLeaving(): boolean {
    const { phase } = this.#daemon.view();
    return phase !== "booting" && phase !== "running";
  }

  /** Compares `next` with the current state. */
  #compare(next: Preflight) {
    const checked = byName(next);
    const diff = diffConfig(this.#config, next.config);
    const refused = [...diff.refused, ...this.#takenPorts(diff.pools, checked, next.config)];
    const isRefused = (name: string) => refused.some(({ path }) => path.startsWith(`${pathOf(next.config, name)}.`));
    const pools = this.#withSurroundings(diff.pools, checked).filter(({ name }) => !isRefused(name));
    const words = { ...diff, refused: [], pools };
    const plan = {
      changes: isEmptyDiff(words) ? [] : formatPlan(words),
      refused,
      failed: [] as RefusedChange[],
      operations: [] as Begun[],
    };
    return { checked, diff, pools, isRefused, plan };
  }

  /** Successors cannot bind ports on which predecessors, of the same pool or another one, still listen. */
  #takenPorts(diffs: readonly PoolDiff[], checked: ReadonlyMap<string, CheckedPool>, config: Config): RefusedChange[] {
    const running = [...this.#plans.values()].map((pool) => this.#placed(pool));
    return diffs.flatMap(({ name, kind }) => {
      if (kind !== "changed") return [];
      const { config: next, spec } = poolOf(checked, name);
      const before = this.#plans.get(name);
      const present = before === undefined ? [] : ownPorts(before.config, before.spec.replicas);
      const isKept = ({ key, from }: PortRange) => present.some((each) => each.key === key && each.from === from);
      return ownPorts(next, spec.replicas).flatMap((wanted) => {
        const reason = whyPortsAreTaken(name, wanted, running) ?? (isKept(wanted) ? undefined : findTakenPort(wanted));
        return reason === undefined ? [] : [{ path: `${pathOf(config, name)}.${wanted.key}`, reason }];
      });
    });
  }

  async #apply(): Promise<{ readonly plan: ReloadPlan; readonly arrivals: readonly Promise<void>[] }> {
    // Runs Envoy to check its configuration; all pools keep running meanwhile.
    const next = await this.#read();
    if (this.#isLeaving) throw new ControllerError("REQUEST_REFUSED", "Cannot reload: the controller shuts down");
    for (const warning of next.warnings) this.#log.warn(warning);
    const { checked, diff, pools, isRefused, plan } = this.#compare(next);
    const named = (kind: PoolDiff["kind"]) => pools.filter((pool) => pool.kind === kind).map(({ name }) => name);
    const leaving = named("removed").map((name) => this.#placed(poolOf(this.#plans, name)));
    const isBlocked = (pool: CheckedPool) => {
      const placed = toPlaced(pool);
      return this.#departures.wayFor(placed) !== undefined || leaving.some((each) => areInConflict(each, placed));
    };
    const added = named("added").map((name) => poolOf(checked, name));
    const atOnce = added.filter((pool) => !isBlocked(pool));
    // Steps that can fail come first, so that a failure changes nothing.
    await this.#add(atOnce);
    if (diff.policy.length > 0) this.#daemon.setPolicy(next.spec);
    this.#config = merge(this.#config, next.config, (name) => !isRefused(name));
    const arrivals: Promise<void>[] = [];
    for (const name of named("removed")) plan.operations.push(this.#remove(name));
    for (const pool of added) {
      if (atOnce.includes(pool)) plan.operations.push(...this.#fill(pool));
      else {
        const { operations, arrival } = this.#fillLater(pool);
        plan.operations.push(...operations);
        arrivals.push(arrival);
      }
    }
    for (const change of pools)
      if (change.kind === "changed") plan.operations.push(...this.#change(change, poolOf(checked, change.name)));
    const before = this.#plans;
    const taken = [...checked].filter(([name]) => !isRefused(name));
    const kept = [...before].filter(([name]) => checked.has(name));
    this.#plans = new Map([...kept, ...taken]);
    for (const { name, proxy } of pools) {
      if (proxy.length === 0) continue;
      const reason = await this.#changeProxy(poolOf(checked, name), poolOf(before, name).config.server);
      if (reason !== undefined) plan.failed.push({ path: `${pathOf(next.config, name)}.server`, reason });
    }
    return { plan, arrivals };
  }

  /** Claims the pools' ports and sockets, and registers the pools. @throws ControllerError; then nothing has changed */
  async #add(pools: readonly CheckedPool[]): Promise<void> {
    await this.#pools.claim(pools);
    try {
      this.#pools.addAll(pools);
      await this.#traffic.loadFiles(pools.map(({ config }) => config.name));
    } catch (error) {
      for (const { config } of pools) this.#sockets.release(config.name);
      throw error;
    }
  }

  /** Adds changes outside the file: another content of env_file, another program of the same name, more CPUs. */
  #withSurroundings(diffs: readonly PoolDiff[], checked: ReadonlyMap<string, CheckedPool>): readonly PoolDiff[] {
    const others = new Map(diffs.map((diff) => [diff.name, diff]));
    for (const [name, { config, spec, plan }] of checked) {
      const known = this.#plans.get(name);
      const before = known?.plan;
      const diff = others.get(name) ?? { name, kind: "changed", launch: [], proxy: [], policy: [] };
      if (before === undefined || diff.kind !== "changed") continue;
      const isResized = config.replicas === "auto" && known !== undefined && known.spec.replicas !== spec.replicas;
      if (isResized && !diff.policy.some((path) => path.endsWith(".replicas")))
        others.set(name, { ...diff, policy: [...diff.policy, "replicas"] });
      const what: string[] = [];
      if (before.file !== plan.file) what.push("the program that exec finds");
      if (sorted(before.env) !== sorted(plan.env)) what.push("the environment (env_file)");
      if (JSON.stringify(before.credentials) !== JSON.stringify(plan.credentials))
        what.push("the ids of user and group");
      // A changed launch key already explains the rollout.
      if (what.length > 0 && diff.launch.length === 0)
        others.set(name, { ...(others.get(name) ?? diff), launch: what });
    }
    return [...others.values()];
  }

  #change({ name, launch, policy }: PoolDiff, pool: CheckedPool): Begun[] {
    const index = this.#indexOf(name);
    this.#pools.putInForce(pool);
    const present = this.#daemon.specOf(index);
    const isRolled = launch.length > 0;
    const revision = isRolled ? this.#registry.lastRevision(index) + 1 : present.revision;
    if (isRolled) this.#pools.install(pool, revision);
    // An operator may have scaled the pool; only a change of its configured replicas reverts that.
    const isScaled = policy.some((path) => /(?:^|\.)replicas$/u.test(path));
    const replicas = isScaled ? pool.spec.replicas : present.replicas;
    const why = [...launch, ...policy].map((path) => path.slice(path.lastIndexOf(".") + 1)).join(", ");
    // Operations queued before this one may change values that this one must keep.
    const keeps = [...(isRolled ? [] : ["revision" as const]), ...(isScaled ? [] : ["replicas" as const])];
    const spec = { ...pool.spec, replicas, revision };
    const id = this.#order(index, { kind: "reload", spec, keeps }, `reload: ${why || "server"} changed`);
    this.#follow(id, pool);
    return [{ id, pool: name }, ...this.#changeProxySpec(poolOf(this.#plans, name), pool)];
  }

  /** Applies a changed process specification to the pool's Envoy. */
  #changeProxySpec(before: CheckedPool, pool: CheckedPool): Begun[] {
    const name = proxyName(pool.config.name);
    const proxy = this.#pools.indexOf(name);
    if (pool.proxySpec === undefined || proxy === undefined) return [];
    if (isDeepStrictEqual(before.proxySpec, pool.proxySpec)) return [];
    return [{ id: this.#give(proxy, pool.proxySpec, "reload"), pool: name }];
  }

  #fill(pool: CheckedPool, ids: ReadonlyMap<string, string> = new Map()): Begun[] {
    const { config, spec, proxySpec } = pool;
    const filled: Begun[] = [];
    for (const each of [proxySpec, spec]) {
      if (each === undefined) continue;
      const index = this.#indexOf(each.name);
      const revision = each.role === "proxy" ? 1 : this.#registry.lastRevision(index);
      const why = `reload: pool "${config.name}" is new`;
      const id = this.#give(index, { ...each, revision }, why, ids.get(each.name));
      if (each === spec) this.#follow(id, pool);
      else this.#sequels.set(id, { failed: () => this.#giveUp(config.name) });
      filled.push({ id, pool: each.name });
    }
    return filled;
  }

  /** Queues the operations until no pool under removal conflicts with `pool`. */
  #fillLater(pool: CheckedPool): { readonly operations: readonly Begun[]; readonly arrival: Promise<void> } {
    const { spec, proxySpec } = pool;
    const names = [proxySpec, spec].flatMap((each) => each?.name ?? []);
    const ids = new Map(names.map((name) => [name, this.#nextId()]));
    const tell = (kind: "operation_queued" | "operation_failed", reason: string) => {
      for (const [name, operation] of ids)
        this.#tell({ kind, pool: name, operation, what: "reload", done: 0, total: 0, reason });
    };
    tell("operation_queued", `reload: pool "${spec.name}" is new, and waits for what a removed one still has`);
    const arrive = async () => {
      await this.#departures.wayFor(toPlaced(pool));
      try {
        if (this.#isLeaving) throw new ControllerError("REQUEST_REFUSED", "the controller shuts down");
        await this.#add([pool]);
        this.#fill(pool, ids);
      } catch (error) {
        this.#forget(spec.name);
        tell("operation_failed", error instanceof Error ? error.message : String(error));
      }
    };
    return { operations: Array.from(ids, ([name, id]) => ({ id, pool: name })), arrival: arrive() };
  }

  /** Rolls the pool back if the operation that applies `pool` fails and no later operation follows. */
  #follow(id: string, pool: CheckedPool): void {
    const { name } = pool.config;
    this.#latest.set(name, id);
    this.#sequels.set(id, {
      finished: () => this.#proved.set(name, this.#latest.get(name) === id ? (this.#plans.get(name) ?? pool) : pool),
      failed: () => {
        if (this.#latest.get(name) !== id) return;
        const proved = this.#proved.get(name);
        if (proved === undefined) this.#giveUp(name);
        else this.#goBack(proved);
      },
    });
  }

  #goBack(pool: CheckedPool): void {
    const before = this.#plans.get(pool.config.name);
    if (this.#isLeaving || before === undefined) return;
    this.#inForce(pool);
    this.#changeProxySpec(before, pool);
    void this.#reconfigure(pool).then((reason) => {
      if (reason !== undefined)
        this.#log.warn(`the proxy of pool "${pool.config.name}" keeps the new settings: ${reason}`);
    });
  }

  /** Removes a pool that failed to start; the next reload tries to start it again. */
  #giveUp(name: string): void {
    // The pool and its proxy may both have failed: remove them once.
    if (this.#isLeaving || this.#proved.has(name) || !this.#plans.has(name)) return;
    this.#remove(name);
    this.#forget(name);
  }

  #forget(name: string): void {
    this.#plans = new Map([...this.#plans].filter(([each]) => each !== name));
    const { supervisor } = this.#config;
    const pools = supervisor.pools.filter((pool) => pool.name !== name);
    this.#config = { ...this.#config, supervisor: { ...supervisor, pools } };
  }

  /** Drains and stops the workers, then the proxy. */
  #remove(name: string): Begun {
    const end = this.#departures.begin(this.#placed(poolOf(this.#plans, name)));
    this.#proved.delete(name);
    const id = this.#empty(name, `reload: pool "${name}" is not in the file any more`);
    this.#latest.set(name, id);
    const proxyFollows = () => {
      this.#sockets.release(name);
      if (this.#isLeaving || this.#pools.indexOf(proxyName(name)) === undefined) end();
      else {
        const last = this.#empty(proxyName(name), "no worker is left behind it");
        this.#sequels.set(last, { finished: end, failed: end });
      }
    };
    this.#sequels.set(id, { finished: proxyFollows, failed: proxyFollows });
    return { id, pool: name };
  }

  /** A running pool with its current or planned replicas, whichever is higher. */
  #placed(pool: CheckedPool): PlacedPool {
    const { replicas } = this.#daemon.specOf(this.#indexOf(pool.config.name));
    return { config: pool.config, replicas: Math.max(replicas, pool.spec.replicas) };
  }

  #empty(name: string, reason: string): string {
    const index = this.#indexOf(name);
    return this.#give(index, emptied(this.#daemon.specOf(index)), reason);
  }

  #give(index: number, spec: PoolSpec, reason: string, id?: string): string {
    return this.#order(index, { kind: "reload", spec }, reason, id);
  }

  /** Reconfigures the proxy of a pool; if the proxy refuses, resolves with the reason. */
  async #changeProxy(pool: CheckedPool, before: PoolConfig["server"]): Promise<string | undefined> {
    const { name } = pool.config;
    // Its workers may have failed meanwhile; the pool was then rolled back.
    if (this.#plans.get(name) !== pool) return undefined;
    const reason = await this.#reconfigure(pool);
    if (reason === undefined) return undefined;
    // Keep the old settings on record, so that the next reload finds the difference again.
    const asItIs = { ...pool, config: { ...pool.config, server: before } };
    if (this.#proved.get(name) === pool) this.#proved.set(name, asItIs);
    if (this.#plans.get(name) === pool) this.#inForce(asItIs);
    return reason;
  }

  async #reconfigure({ config, envoy }: CheckedPool): Promise<string | undefined> {
    const proxy = this.#pools.indexOf(proxyName(config.name));
    if (config.server === undefined || proxy === undefined || envoy === undefined) return undefined;
    try {
      requireInotify(INOTIFY_OF_RELOAD, envoy.credentials?.uid);
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
    return this.#traffic.proxyOf(proxy).reconfigure(proxySettings(config, config.server, envoy.version));
  }

  /** Makes `pool` the configuration in force again. */
  #inForce(pool: CheckedPool): void {
    const { name } = pool.config;
    this.#plans = new Map([...this.#plans, [name, pool]]);
    this.#pools.putInForce(pool);
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

/** A map as text, independent of the order of its keys. */
function sorted(map: Readonly<Record<string, string>>): string {
  return JSON.stringify(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function toPlaced({ config, spec }: CheckedPool): PlacedPool {
  return { config, replicas: spec.replicas };
}

/** The new configuration, with the old values of what cannot change while the controller runs. */
function merge(before: Config, next: Config, isTaken: (pool: string) => boolean): Config {
  const pools = next.supervisor.pools.map((pool) =>
    isTaken(pool.name) ? pool : (before.supervisor.pools.find(({ name }) => name === pool.name) ?? pool),
  );
  const { runtimeDir } = before.supervisor;
  return { admin: before.admin, supervisor: { ...next.supervisor, runtimeDir, pools } };
}
