/**
 * Applies a changed configuration file at run time: reads and checks it, compares it with what runs, and carries out
 * what core/reload/ decides. An invalid file changes nothing.
 */
import type { ReloadPlan } from "../../admin/api.ts";
import { ControllerError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Config } from "../../config/config.ts";
import { proxyName } from "../../config/spec.ts";
import type { LifecycleEvent, WideLifecycleEvent } from "../../core/event.ts";
import type { Order } from "../../core/pool/order.ts";
import { isSettled, newReloads, preparationsOf, stepReload } from "../../core/reload/reload.ts";
import type {
  PoolVersion,
  Preparation,
  Reconfigure,
  ReloadEvent,
  ReloadState,
  ReloadStep,
  RunningPools,
} from "../../core/reload/state.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import { INOTIFY_OF_RELOAD, requireInotify } from "../../runtime/os/inotify.ts";
import type { SharedSockets } from "../../runtime/socket/sockets.ts";
import type { Preflight } from "../preflight.ts";
import { proxySettings } from "../proxySettings.ts";
import { compareConfigurations, pathOf } from "./compareConfigurations.ts";
import { type CheckedPool, checkedPools, type Pools } from "./pools.ts";
import type { Traffic } from "./traffic.ts";

interface ReloadParts {
  readonly initial: Preflight;
  /** Reads and checks the file again. Rejects with a ControllerError. */
  readonly read: () => Promise<Preflight>;
  readonly daemon: Daemon;
  readonly pools: Pools;
  readonly traffic: Traffic;
  readonly sockets: SharedSockets;
  /** Gives an order to the pool with this index. */
  readonly order: (pool: number, order: Order, reason: string, id: string) => void;
  /** Emits events of operations that wait, in the same way as the daemon's events. */
  readonly emit: (event: WideLifecycleEvent) => void;
  readonly log: Logger;
}

export class Reload {
  readonly #parts: ReloadParts;
  #state: ReloadState;
  /** The parts of the configuration in force that belong to no pool. */
  #base: Config;
  #config: Config;
  /** The configurations that the state refers to, by their numbers. */
  readonly #versions = new Map<number, CheckedPool>();
  #lastVersion = 0;
  readonly #steps: ReloadStep[] = [];
  #isPerforming = false;
  /** Why the proxy refused the settings; undefined if it did not. */
  readonly #refusals = new Map<Reconfigure, Promise<string | undefined>>();
  /** Ends when all pools of the previous reload have been started or have failed. */
  #previous: Promise<unknown> = Promise.resolve();
  #settled = Promise.withResolvers<void>();

  constructor(parts: ReloadParts) {
    this.#parts = parts;
    this.#state = newReloads(checkedPools(parts.initial).map((pool) => this.#register(pool)));
    this.#base = parts.initial.config;
    this.#config = parts.initial.config;
  }

  /** The configuration that is in force. */
  get config(): Config {
    return this.#config;
  }

  /** Replicas of a pool as the start or the last reload read them from the file; undefined if there is no such pool. */
  plannedReplicas(name: string): number | undefined {
    return this.#state.pools.find(({ wanted }) => wanted.spec.name === name)?.wanted.spec.replicas;
  }

  /**
   * Reloads, or with `isDryRun` only plans. A reload waits for the previous one, including pools that the previous one
   * could not start at once.
   * @throws ControllerError of the checks; then nothing has changed
   */
  async run(isDryRun: boolean): Promise<ReloadPlan> {
    if (isDryRun) return { ...this.#compare(await this.#parts.read()).plan, failed: [], operations: [] };
    const run = this.#previous.then(() => this.#apply());
    this.#previous = run.then(
      () => (isSettled(this.#state) ? undefined : this.#settled.promise),
      () => undefined,
    );
    return run;
  }

  /** Call for every lifecycle event. */
  handle(event: LifecycleEvent): void {
    if (event.kind !== "operation_finished" && event.kind !== "operation_failed") return;
    this.#post({ kind: "ended", operation: event.operation, isSuccess: event.kind === "operation_finished" });
  }

  get #running(): RunningPools {
    const { daemon, pools } = this.#parts;
    const { phase } = daemon.view();
    return {
      isLeaving: phase !== "booting" && phase !== "running",
      specOf: (name) => {
        const index = pools.indexOf(name);
        return index === undefined ? undefined : daemon.specOf(index);
      },
    };
  }

  #register(pool: CheckedPool): PoolVersion {
    const id = ++this.#lastVersion;
    this.#versions.set(id, pool);
    return { id, proxyId: id, spec: pool.spec, proxySpec: pool.proxySpec };
  }

  /** The configuration of a version, with the proxy settings that apply. */
  #checkedOf({ id, proxyId }: PoolVersion): CheckedPool {
    const [pool, ofProxy] = [this.#versions.get(id), this.#versions.get(proxyId)];
    if (pool === undefined || ofProxy === undefined) throw new RangeError(`configuration ${id} is not known`);
    return id === proxyId ? pool : { ...pool, config: { ...pool.config, server: ofProxy.config.server } };
  }

  #compare(next: Preflight) {
    const { specOf } = this.#running;
    const running = {
      config: this.#config,
      pools: this.#state.pools.map(({ wanted }) => this.#checkedOf(wanted)),
      replicasOf: (name: string) => specOf(name)?.replicas ?? 0,
      leaving: this.#state.leaving.map(({ version, replicas }) => ({ ...this.#checkedOf(version), replicas })),
    };
    return compareConfigurations(running, next, (pool) => this.#register(pool));
  }

  async #apply(): Promise<ReloadPlan> {
    // Runs Envoy to check its configuration; all pools keep running meanwhile.
    const next = await this.#parts.read();
    this.#requireRunning();
    for (const warning of next.warnings) this.#parts.log.warn(warning);
    this.#forgetVersions();
    const { request, plan } = this.#compare(next);
    const prepared = preparationsOf(this.#state, request);
    await this.#prepare(prepared);
    this.#requireRunning();
    const { runtimeDir } = this.#base.supervisor;
    this.#base = { admin: this.#base.admin, supervisor: { ...next.config.supervisor, runtimeDir } };
    const steps = this.#post({ kind: "requested", request, prepared });
    const operations = steps.flatMap((step) => {
      if (step.kind === "order") return [{ id: step.id, pool: step.pool }];
      const isQueued = step.kind === "emit" && step.event.kind === "operation_queued";
      return isQueued ? [{ id: step.event.operation, pool: step.event.pool }] : [];
    });
    const refusals = steps.flatMap((step) => (step.kind === "reconfigure" ? [step] : []));
    const failed = await Promise.all(
      refusals.map(async (step) => {
        const reason = await this.#refusals.get(step);
        const path = `${pathOf(next.config, step.version.spec.name)}.server`;
        return reason === undefined ? [] : [{ path, reason }];
      }),
    );
    return { ...plan, failed: failed.flat(), operations };
  }

  #requireRunning(): void {
    if (this.#running.isLeaving)
      throw new ControllerError("REQUEST_REFUSED", "Cannot reload: the controller is shutting down");
  }

  /** Forgets configurations to which nothing refers. */
  #forgetVersions(): void {
    const { pools, leaving, operations } = this.#state;
    const used = [
      ...pools.flatMap((pool) => [pool.wanted, pool.phase === "running" ? pool.proved : undefined]),
      ...leaving.map(({ version }) => version),
      ...operations.map(({ purpose }) => (purpose.kind === "apply" ? purpose.version : undefined)),
    ];
    const ids = new Set(used.flatMap((version) => (version === undefined ? [] : [version.id, version.proxyId])));
    for (const { previous } of this.#refusals.keys()) ids.add(previous);
    for (const id of this.#versions.keys()) if (!ids.has(id)) this.#versions.delete(id);
  }

  /** Carries out what follows from an event, after all steps before it. Returns the steps of this event. */
  #post(event: ReloadEvent): readonly ReloadStep[] {
    const { state, steps } = stepReload(this.#state, event, this.#running);
    this.#state = state;
    const pools = state.pools.map(({ wanted }) => this.#checkedOf(wanted).config);
    this.#config = { ...this.#base, supervisor: { ...this.#base.supervisor, pools } };
    this.#steps.push(...steps);
    if (!this.#isPerforming) this.#performAll();
    if (isSettled(state)) {
      this.#settled.resolve();
      this.#settled = Promise.withResolvers();
    }
    return steps;
  }

  #performAll(): void {
    this.#isPerforming = true;
    try {
      for (let step = this.#steps.shift(); step !== undefined; step = this.#steps.shift()) this.#perform(step);
    } finally {
      this.#isPerforming = false;
    }
  }

  #perform(step: ReloadStep): void {
    const { daemon, pools, sockets, order, emit } = this.#parts;
    switch (step.kind) {
      case "prepare":
        void this.#prepareLater(step);
        return;
      case "setPolicy":
        daemon.setPolicy(step.policy);
        return;
      case "putInForce":
        pools.putInForce(this.#checkedOf(step.version));
        return;
      case "order":
        order(this.#indexOf(step.pool), { kind: "reload", spec: step.spec, keeps: step.keeps }, step.reason, step.id);
        return;
      case "reconfigure":
        this.#refusals.set(step, this.#reconfigure(step));
        return;
      case "releaseSockets":
        sockets.release(step.pool);
        pools.removeOutput(step.pool);
        return;
      case "emit":
        emit(step.event);
        return;
    }
  }

  /** Claims ports and sockets of new pools, and adds the revisions. @throws ControllerError; then nothing has changed */
  async #prepare(preparations: readonly Preparation[]): Promise<void> {
    const { pools, sockets, traffic } = this.#parts;
    const added = preparations.flatMap(({ isNew, version }) => (isNew ? [this.#checkedOf(version)] : []));
    await pools.claim(added);
    try {
      for (const { version, revision, isNew } of preparations) {
        if (isNew) pools.add(this.#checkedOf(version), revision);
        else pools.addRevision(this.#checkedOf(version), revision);
      }
      await traffic.loadFiles(added.map(({ config }) => config.name));
    } catch (error) {
      for (const { config } of added) sockets.release(config.name);
      throw error;
    }
  }

  async #prepareLater(preparation: Preparation): Promise<void> {
    const failure = await this.#prepare([preparation]).then(
      () => undefined,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    this.#post({ kind: "prepared", pool: preparation.version.spec.name, failure });
  }

  async #reconfigure(step: Reconfigure): Promise<string | undefined> {
    const reason = await this.#refusalOf(this.#checkedOf(step.version));
    if (reason !== undefined) {
      const { name } = step.version.spec;
      this.#parts.log.warn(`the proxy of pool "${name}" keeps its previous settings: ${reason}`);
    }
    this.#post({ kind: "reconfigured", step, isSuccess: reason === undefined });
    this.#refusals.delete(step);
    return reason;
  }

  /** Reconfigures the proxy of a pool; if the proxy refuses, resolves with the reason. */
  async #refusalOf({ config, envoy }: CheckedPool): Promise<string | undefined> {
    const proxy = this.#parts.pools.indexOf(proxyName(config.name));
    if (config.server === undefined || proxy === undefined || envoy === undefined) return undefined;
    try {
      requireInotify(INOTIFY_OF_RELOAD, envoy.credentials?.uid);
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
    return this.#parts.traffic.proxyOf(proxy).reconfigure(proxySettings(config, config.server, envoy.version));
  }

  #indexOf(name: string): number {
    const index = this.#parts.pools.indexOf(name);
    if (index === undefined) throw new RangeError(`pool "${name}" is not known`);
    return index;
  }
}
