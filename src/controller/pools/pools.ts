/** Installs pools: creates their parts and registers them with all components. Used at the start and by a reload. */
import { accessSync, constants } from "node:fs";
import { resolve } from "node:path";
import { ControllerError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { PoolConfig } from "../../config/config.ts";
import { ownPorts } from "../../config/ports.ts";
import { proxyName } from "../../config/spec.ts";
import type { ControllerSpec, PoolSpec } from "../../core/spec.ts";
import { checkListenerPort } from "../../envoy/control/listenerPort.ts";
import { makePassable } from "../../envoy/control/privateFiles.ts";
import type { WorkerOutput } from "../../logs/workerOutput.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import { findListener } from "../../runtime/os/procfs.ts";
import type { LaunchPlan } from "../../runtime/process/launch.ts";
import type { SharedSockets } from "../../runtime/socket/sockets.ts";
import { checkPorts } from "../../runtime/socket/workerPorts.ts";
import { poolFile } from "../logFileChecks.ts";
import type { EnvoyProgram, Preflight } from "../preflight.ts";
import { proxyPlaces, proxySettings } from "../proxySettings.ts";
import type { StreamingPool } from "../watch/streamEnds.ts";
import { proxyLaunch, workerLaunch } from "./poolLaunches.ts";
import type { PoolRegistry } from "./poolRegistry.ts";
import { type RuntimeDirectory, requirePassable, requireTrusted } from "./runtimeDirectory.ts";
import type { Traffic } from "./traffic.ts";
import { WorkerPlaces } from "./workerPlaces.ts";

/** Everything about one pool of a checked configuration. */
export interface CheckedPool {
  readonly config: PoolConfig;
  readonly plan: LaunchPlan;
  /** undefined without a server. */
  readonly envoy: EnvoyProgram | undefined;
  readonly spec: PoolSpec;
  /** The specification of its proxy; undefined without a server. */
  readonly proxySpec: PoolSpec | undefined;
}

/** The pools of a checked configuration, in their order. */
export function checkedPools({ config, launches, envoys, spec }: Preflight): CheckedPool[] {
  return config.supervisor.pools.map((pool, index) => {
    const plan = launches[index];
    const ownSpec = spec.pools[index];
    if (plan === undefined || ownSpec === undefined) throw new RangeError(`pool ${index} has no launch plan`);
    const proxySpec = spec.pools.find(({ fronts }) => fronts === pool.name);
    return { config: pool, plan, envoy: envoys[index], spec: ownSpec, proxySpec };
  });
}

export class Pools {
  readonly #daemon: Daemon;
  readonly #registry: PoolRegistry;
  readonly #traffic: Traffic;
  readonly #output: Pick<WorkerOutput, "setPool" | "removePool">;
  readonly #sockets: SharedSockets;
  readonly #runtime: () => RuntimeDirectory;
  readonly #log: Logger;
  /** Index by name, of pools of workers and of proxies. A removed pool's name keeps its index. */
  readonly #indices = new Map<string, number>();
  /** The Envoy of each pool, by the pool's name; it keeps its user for as long as it is a proxy. */
  readonly #envoys = new Map<string, EnvoyProgram>();

  constructor(options: {
    daemon: Daemon;
    registry: PoolRegistry;
    traffic: Traffic;
    output: Pick<WorkerOutput, "setPool" | "removePool">;
    sockets: SharedSockets;
    runtime: () => RuntimeDirectory;
    log: Logger;
  }) {
    this.#daemon = options.daemon;
    this.#registry = options.registry;
    this.#traffic = options.traffic;
    this.#output = options.output;
    this.#sockets = options.sockets;
    this.#runtime = options.runtime;
    this.#log = options.log;
  }

  /** Index of a pool of workers or of a proxy; undefined if no pool ever had this name. */
  indexOf(name: string): number | undefined {
    return this.#indices.get(name);
  }

  /** Index of a pool of workers; undefined for a proxy. */
  workersIndexOf(name: string): number | undefined {
    const index = this.#indices.get(name);
    return index === undefined || this.#daemon.specOf(index).role === "proxy" ? undefined : index;
  }

  /** Claims the ports and sockets, which only one process can have. @throws ControllerError PORT_IN_USE and others */
  async claim(pools: readonly CheckedPool[]): Promise<void> {
    for (const { config, spec } of pools) {
      const { name, server } = config;
      for (const { key, from, to } of ownPorts(config, spec.replicas))
        await checkPorts({ pool: name, from, to }, key, this.#log);
      if (server === undefined) continue;
      const place = { pool: name, address: server.listenerAddress, port: server.listenerPort };
      await checkListenerPort(place, findListener);
    }
    await this.#sockets.add(
      pools.flatMap(({ config }) => config.sockets.map((socket) => ({ pool: config.name, ...socket }))),
    );
  }

  /** Registers the pools of `spec` under the indices that the daemon gives them. */
  installAll(pools: readonly CheckedPool[], spec: Pick<ControllerSpec, "pools">): void {
    for (const [index, { name }] of spec.pools.entries()) this.#indices.set(name, index);
    for (const pool of pools) this.#install(pool, 1);
  }

  /** Adds an empty pool to a running daemon. The removal of an earlier pool of the same name must be complete. */
  add(pool: CheckedPool, revision: number): void {
    // An earlier proxy of this name had other settings and paths.
    const formerProxy = this.#indices.get(proxyName(pool.config.name));
    if (formerProxy !== undefined) this.#traffic.remove(formerProxy);
    this.#envoys.delete(pool.config.name);
    for (const spec of [pool.spec, pool.proxySpec]) {
      if (spec === undefined || this.#indices.has(spec.name)) continue;
      this.#indices.set(spec.name, this.#daemon.addPools([spec === pool.spec ? { ...spec, revision } : spec]));
    }
    this.#install(pool, revision);
  }

  #install(pool: CheckedPool, revision: number): void {
    const { name } = pool.config;
    if (pool.envoy !== undefined && !this.#envoys.has(name)) this.#envoys.set(name, pool.envoy);
    this.addRevision(pool, revision);
    this.putInForce(pool);
    this.#installProxy(pool);
  }

  /**
   * Adds a revision of a pool, with which its workers can be launched from now on.
   * @throws ControllerError CONFIG_INVALID, RUNTIME_DIR_UNSAFE
   */
  addRevision(pool: CheckedPool, revision: number): void {
    const { config, plan } = pool;
    const index = this.#index(config.name);
    this.#warnOfSharedUser(pool);
    const places = new WorkerPlaces(config, plan, this.#runtime, this.#envoys.get(config.name));
    const inherited = this.#sockets.inheritedBy(config.name);
    const parts = { config, plan, places, launch: workerLaunch(config, plan, places, inherited) };
    this.#registry.add(index, revision, parts, this.#oldestInUse(index));
  }

  /** Applies the part of a pool's configuration that takes effect without a launch. */
  putInForce({ config }: CheckedPool): void {
    const index = this.#index(config.name);
    this.#registry.putInForce(index, config);
    const { maxLineBytes, stderrLevel } = config.logs;
    this.#output.setPool(index, { name: config.name, maxLineBytes, stderrLevel, file: poolFile(config) });
    const name = proxyName(config.name);
    const proxy = this.#indices.get(name);
    if (proxy !== undefined) this.#output.setPool(proxy, { name, maxLineBytes, stderrLevel: "info", file: undefined });
  }

  /** Call when the last worker of a removed pool has exited. */
  removeOutput(name: string): void {
    this.#output.removePool(this.#index(name));
  }

  /** A reload can give workers the user of a running Envoy; at a start, Envoy gets another user. */
  #warnOfSharedUser({ config, plan }: CheckedPool): void {
    const uid = plan.credentials?.uid;
    for (const [name, { credentials }] of this.#envoys)
      if (uid !== undefined && credentials?.uid === uid && this.#traffic.hasProxy(this.#index(proxyName(name))))
        this.#log.warn(
          `workers of pool "${config.name}" run as uid ${uid} like the proxy of pool "${name}", and may signal and trace it until the controller restarts`,
        );
  }

  #oldestInUse(index: number): number {
    const workers = this.#daemon.view().pools.find((pool) => pool.index === index)?.workers ?? [];
    const running = workers.flatMap(({ pid, revision }) => (pid === undefined ? [] : [revision]));
    return Math.min(this.#daemon.specOf(index).revision, ...running);
  }

  #installProxy({ config, plan, envoy }: CheckedPool): void {
    const { name, server } = config;
    const proxy = this.#indices.get(proxyName(name));
    if (server === undefined || proxy === undefined || envoy === undefined || this.#traffic.hasProxy(proxy)) return;
    const index = this.#index(name);
    const directory =
      server.proxyConfigPath === undefined
        ? this.#runtime().directory([name, "envoy"])
        : resolve(server.proxyConfigPath, name);
    requireTrusted(directory, plan.credentials === undefined ? [] : [plan.credentials]);
    const { credentials } = envoy;
    makeProxyDirectory(name, directory);
    if (credentials !== undefined) requirePassable(directory, credentials, `the proxy of pool "${name}"`);
    this.#traffic.add({
      name,
      pool: index,
      proxyPool: proxy,
      options: {
        settings: proxySettings(config, server, envoy.version),
        location: proxyPlaces(server, directory, credentials),
      },
      addressOf: (slot, revision) => this.#registry.partsOf(index, revision).places.proxyAddressOf(slot),
      limits: () => this.#daemon.specOf(index).limits,
    });
    this.#registry.addProxy(
      proxy,
      proxyLaunch(proxyName(name), envoy, () => this.#traffic.proxyOf(proxy)),
    );
  }

  /** The pool `name` as StreamEnds needs it; undefined if it is not behind a proxy. */
  streamingPool(name: string): StreamingPool | undefined {
    const index = this.workersIndexOf(name);
    const proxyPool = this.#indices.get(proxyName(name));
    if (index === undefined || proxyPool === undefined || !this.#traffic.hasProxy(proxyPool)) return undefined;
    return {
      proxyPool,
      drainMs: this.#daemon.specOf(index).drainMs,
      addressOf: (slot, revision) => this.#registry.partsOf(index, revision).places.addressOf(slot),
    };
  }

  #index(name: string): number {
    const index = this.#indices.get(name);
    if (index === undefined) throw new RangeError(`pool "${name}" is not known`);
    return index;
  }
}

/** @throws ControllerError RUNTIME_DIR_UNUSABLE */
function makeProxyDirectory(pool: string, directory: string): void {
  try {
    makePassable(directory);
    accessSync(directory, constants.W_OK);
  } catch (cause) {
    const reason = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new ControllerError(
      "RUNTIME_DIR_UNUSABLE",
      `Cannot start the proxy of pool "${pool}": its files cannot be written to "${directory}" (${reason})`,
      {
        cause,
        hint: "Mount a writable volume there, or set server.proxy_config_path to a writable directory.",
      },
    );
  }
}
