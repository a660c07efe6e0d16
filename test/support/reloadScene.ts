/**
 * A controller's reload in memory: the real checks, daemon, pools, revisions and proxies, with fake processes and a fake
 * clock. Its picture shows the values that each part of the controller currently uses.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ReloadPlan } from "../../src/admin/api.ts";
import type { Logger } from "../../src/base/log.ts";
import type { Config } from "../../src/config/config.ts";
import { type HealthCheck, healthCheckOf, workerProbes } from "../../src/controller/health/probeTargets.ts";
import { measuredPool } from "../../src/controller/pools/measuredPool.ts";
import { PoolRegistry } from "../../src/controller/pools/poolRegistry.ts";
import { checkedPools, Pools } from "../../src/controller/pools/pools.ts";
import { Reload } from "../../src/controller/pools/reload.ts";
import { RuntimeDirectory } from "../../src/controller/pools/runtimeDirectory.ts";
import { Traffic } from "../../src/controller/pools/traffic.ts";
import { type Preflight, preflight } from "../../src/controller/preflight.ts";
import { systemChecks } from "../../src/controller/systemChecks.ts";
import type { LifecycleEvent } from "../../src/core/event.ts";
import type { WorkerRef } from "../../src/core/identity.ts";
import type { PoolView } from "../../src/core/view.ts";
import { proxyFiles } from "../../src/envoy/resources/files.ts";
import type { PoolOutput } from "../../src/logs/workerOutput.ts";
import { Daemon } from "../../src/runtime/daemon.ts";
import type { ProcessControl } from "../../src/runtime/driver/driver.ts";
import type { ProbeMethod } from "../../src/runtime/probe/prober.ts";
import { SharedSockets } from "../../src/runtime/socket/sockets.ts";
import { FakeClock } from "./fakeClock.ts";

type Block = Readonly<Record<string, unknown>>;

export const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/** Keys of the proxy are not part of a launch. */
const NO_HEALTH_CHECK: HealthCheck = { path: undefined, host: "" };

/** Limit of steps until all operations have ended. */
const MAX_STEPS = 200;

/**
 * The values that the parts of the controller use, as JSON. `policy`: specifications and everything else that applies at
 * once. `launch`: how the next worker is started and probed. `proxy`: Envoy's configuration and health check.
 */
export interface Picture {
  readonly policy: string;
  readonly launch: string;
  readonly proxy: string;
}

/** The values of one Envoy. */
interface ProxyPicture {
  readonly args: readonly string[];
  readonly resources: readonly string[];
  readonly startupProbe: ProbeMethod | undefined;
}

/** Fake processes that exit at a stop signal unless `ignoresSignals` is set. */
class FakeProcesses implements ProcessControl {
  readonly #leaders = new Map<number, WorkerRef>();
  readonly #exited: (worker: WorkerRef) => void;
  /** Whether stop signals are ignored. */
  ignoresSignals = false;
  #lastPid = 100;

  constructor(exited: (worker: WorkerRef) => void) {
    this.#exited = exited;
  }

  begin(worker: WorkerRef): () => number {
    const pid = ++this.#lastPid;
    this.#leaders.set(pid, worker);
    return () => pid;
  }

  signal(leader: number): void {
    if (!this.ignoresSignals) this.kill(leader);
  }

  kill(leader: number): void {
    const worker = this.#leaders.get(leader);
    if (worker !== undefined) this.#exited(worker);
    this.#leaders.delete(leader);
  }
}

export class ReloadScene implements Disposable {
  readonly directory: string;
  readonly clock = new FakeClock();
  readonly events: LifecycleEvent[] = [];
  readonly registry = new PoolRegistry();
  readonly processes: FakeProcesses;
  /** Behaviour of new workers: they become ready, fail their startup, or do nothing until failSilent(). */
  newWorkers: "good" | "bad" | "silent" = "good";
  readonly #silent: WorkerRef[] = [];
  /** Also notified of each event. */
  onEvent: (event: LifecycleEvent, worker?: WorkerRef) => void = () => {};
  readonly #resources = new DisposableStack();
  readonly #output = new Map<number, PoolOutput>();
  readonly daemon: Daemon;
  readonly #traffic: Traffic;
  readonly #pools: Pools;
  readonly #reload: Reload;

  /** A controller that runs the configuration. */
  static async start(configuration: Block): Promise<ReloadScene> {
    const directory = mkdtempSync(join(tmpdir(), "monoceros-reload-"));
    writeFileSync(join(directory, "config.yaml"), JSON.stringify(configuration));
    const initial = await check(directory).catch((error: unknown) => {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    });
    const sockets = await SharedSockets.bind([], SILENT);
    return new ReloadScene(directory, initial, sockets).#boot(initial);
  }

  private constructor(directory: string, initial: Preflight, sockets: SharedSockets) {
    this.directory = directory;
    this.#resources.use(sockets);
    this.#resources.defer(() => rmSync(directory, { recursive: true, force: true }));
    const { clock, registry } = this;
    this.daemon = new Daemon({
      spec: initial.spec,
      clock,
      random: () => 0.5,
      listener: {
        emitted: (event, worker) => this.#told(event, worker),
        changed: () => {},
        drainProxy: (pool) => this.daemon.proxyDrained(pool),
        ready: () => {},
        stopping: () => {},
        finished: () => {},
        broken: (error) => {
          throw error;
        },
      },
    });
    const { daemon } = this;
    this.processes = new FakeProcesses((worker) => {
      daemon.exited(worker, { kind: "code", code: 0 }, false);
      daemon.vacated(worker);
    });
    this.#traffic = this.#resources.use(new Traffic({ daemon, clock, report: () => {} }));
    let runtime: RuntimeDirectory | undefined;
    this.#pools = new Pools({
      daemon,
      registry,
      traffic: this.#traffic,
      output: { setPool: (index, pool) => void this.#output.set(index, pool), removePool: () => {} },
      sockets,
      runtime: () => {
        runtime ??= this.#resources.use(RuntimeDirectory.create(initial.config.supervisor.runtimeDir, SILENT));
        return runtime;
      },
      log: SILENT,
    });
    this.#reload = new Reload({
      initial,
      read: () => check(directory),
      daemon,
      pools: this.#pools,
      traffic: this.#traffic,
      sockets,
      order: (pool, order, reason, id) => daemon.order(pool, id, order, reason),
      emit: (event) => this.#told(event),
      log: SILENT,
    });
  }

  async #boot(initial: Preflight): Promise<this> {
    const checked = checkedPools(initial);
    await this.#pools.claim(checked);
    this.#pools.installAll(checked, initial.spec);
    this.daemon.boot(this.processes);
    await this.settle();
    return this;
  }

  #told(event: LifecycleEvent, worker?: WorkerRef): void {
    this.events.push(event);
    this.onEvent(event, worker);
    this.#reload.handle(event);
    if (worker === undefined) return;
    if (event.kind === "draining") this.daemon.report(worker, { kind: "drained" });
    if (event.kind !== "spawned") return;
    if (this.newWorkers === "good") this.daemon.report(worker, { kind: "becameReady" });
    else if (this.newWorkers === "bad") this.daemon.report(worker, { kind: "startupFailed", reason: "it is bad" });
    else this.#silent.push(worker);
  }

  /** The startup of silent workers fails. */
  failSilent(): void {
    for (const worker of this.#silent.splice(0))
      this.daemon.report(worker, { kind: "startupFailed", reason: "it was silent" });
  }

  /** The configuration in force. */
  get config(): Config {
    return this.#reload.config;
  }

  /** Reloads another configuration. Resolves when its operations have ended, or at once if `isLeftAlone`. */
  async reload(configuration: Block, isLeftAlone = false): Promise<ReloadPlan> {
    writeFileSync(join(this.directory, "config.yaml"), JSON.stringify(configuration));
    const plan = await this.#reload.run(false);
    if (!isLeftAlone) await this.settle();
    return plan;
  }

  /** Lets time pass until all operations have ended. */
  async settle(): Promise<void> {
    for (let step = 0; step < MAX_STEPS; step++) {
      // The consequences of an operation's end follow in later turns of the event loop.
      for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
      if (step > 0 && this.daemon.view().pools.every(({ operations }) => operations.length === 0)) return;
      this.clock.pass(1000);
    }
    assert.fail("an operation has not ended");
  }

  /** The pools of workers. */
  pools(): readonly PoolView[] {
    return this.daemon.view().pools.filter(({ role }) => role === "workers");
  }

  /** The current values of all parts. */
  picture(): Picture {
    const { daemon, registry } = this;
    const all = daemon.view().pools;
    const workers = this.pools();
    const policy = {
      controller: daemon.policy,
      specs: all.map(({ index }) => ({ ...daemon.specOf(index), revision: 0 })),
      output: all.map(({ index }) => this.#output.get(index)),
      metrics: workers.map(({ name }) => measuredPool(name, { pools: this.#pools, registry, daemon })?.path),
    };
    const launch = workers.map(({ name, index }) => this.#launchOf(name, index));
    return { policy: json(policy), launch: json(launch), proxy: json(this.proxies()) };
  }

  /** Configuration of each Envoy, and the startup probe of the workers behind it. */
  proxies(): readonly ProxyPicture[] {
    const { pools } = this.daemon.view();
    return pools.flatMap(({ index, role, fronts }) => (role === "proxy" ? [this.#proxyOf(index, fronts)] : []));
  }

  #launchOf(name: string, index: number): unknown {
    const { revision } = this.daemon.specOf(index);
    const { plan, argsOf, envOf, captured, sockets, notifies } = this.registry.launchOf(index, revision);
    const parts = this.registry.partsOf(index, revision);
    const probes = workerProbes(
      parts,
      0,
      () => [],
      () => NO_HEALTH_CHECK,
    );
    const measured = measuredPool(name, { pools: this.#pools, registry: this.registry, daemon: this.daemon });
    const ofSlot = (slot: number) => [argsOf(slot), envOf(slot), measured?.addressOf(slot, revision)];
    return { revision, plan, slots: [0, 1].map(ofSlot), captured, sockets, notifies, probes, scope: measured?.scope };
  }

  #proxyOf(index: number, fronts: string | undefined): ProxyPicture {
    const proxy = this.#traffic.proxyOf(index);
    proxy.prepare();
    const args = proxy.args();
    const bootstrap = args[args.indexOf("-c") + 1] ?? "";
    const { listeners, routes, clusters } = proxyFiles({
      directory: bootstrap.slice(0, bootstrap.lastIndexOf("/")),
      admin: { port: 0 },
    });
    const workers = this.#pools.indexOf(fronts ?? "") ?? -1;
    const parts = this.registry.partsOf(workers, this.daemon.specOf(workers).revision);
    const { startup } = workerProbes(
      parts,
      0,
      () => [],
      () => healthCheckOf(this.registry.inForceOf(workers)),
    );
    const resources = [listeners, routes, clusters].map((file) =>
      readFileSync(file, "utf8").replace(/"version_info":"\d+"/u, ""),
    );
    return { args, resources, startupProbe: startup?.method };
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }
}

/** The checks of a start, without running an Envoy. */
function check(directory: string): Promise<Preflight> {
  const checks = {
    ...systemChecks(),
    findEnvoy: async () => ({ file: "/usr/bin/envoy", version: "1.40.0" }),
    checkProxy: async () => {},
    fileProblem: async () => undefined,
    checkWatches: () => {},
    logFileProblem: () => undefined,
  };
  return preflight(join(directory, "config.yaml"), { PATH: process.env["PATH"] }, checks);
}

/** JSON that also distinguishes maps, infinities and undefined values. */
function json(value: unknown): string {
  return JSON.stringify(value, (_, each) => {
    if (each instanceof Map) return [...each];
    if (typeof each === "number" && !Number.isFinite(each)) return String(each);
    return each === undefined ? "undefined" : each;
  });
}
