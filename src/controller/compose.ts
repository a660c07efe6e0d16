/** Builds the components of one controller in dependency order, without starting anything. */
import { resolve } from "node:path";
import { EventLog } from "../admin/events.ts";
import { OperationLog } from "../admin/operations.ts";
import type { Logger } from "../base/log.ts";
import type { LifecycleEvent } from "../core/event.ts";
import type { WorkerRef } from "../core/identity.ts";
import type { Order } from "../core/pool/order.ts";
import type { ControllerView } from "../core/view.ts";
import { SinkLogger } from "../logs/logger.ts";
import { openSinks } from "../logs/sink.ts";
import { WorkerOutput } from "../logs/workerOutput.ts";
import { systemClock } from "../runtime/clock.ts";
import { Daemon } from "../runtime/daemon.ts";
import { CommandLines } from "../runtime/inspect/commandLines.ts";
import { ProcessReadings } from "../runtime/inspect/readings.ts";
import { memoryBoundBytes, repeatedly } from "../runtime/os/cgroup.ts";
import { availableCpus } from "../runtime/os/cpus.ts";
import { readSystemUnits } from "../runtime/os/linux.ts";
import { OomKills } from "../runtime/os/oomKills.ts";
import { ServiceManager } from "../runtime/os/systemd.ts";
import { GroupSignals } from "../runtime/process/groupSignals.ts";
import { Processes } from "../runtime/process/processes.ts";
import { ListenerWatch } from "../runtime/socket/listeners.ts";
import { SocketOwners } from "../runtime/socket/socketOwners.ts";
import { SharedSockets } from "../runtime/socket/sockets.ts";
import { countWorkers, inheritedNofile } from "./capacity.ts";
import type { ReadAgain } from "./controllerProcess.ts";
import { record } from "./eventRecord.ts";
import { Health } from "./health/health.ts";
import { measuredPool } from "./pools/measuredPool.ts";
import { PoolRegistry } from "./pools/poolRegistry.ts";
import { checkedPools, Pools } from "./pools/pools.ts";
import { Reload } from "./pools/reload.ts";
import { RuntimeDirectory } from "./pools/runtimeDirectory.ts";
import { RuntimeFilesWatch } from "./pools/runtimeFilesWatch.ts";
import { scaleOrder } from "./pools/scaleOrder.ts";
import { Traffic } from "./pools/traffic.ts";
import type { Preflight } from "./preflight.ts";
import { logFilesListener } from "./report/logFileEvents.ts";
import { Profiles } from "./report/profiles.ts";
import { PythonStacks } from "./report/pythonStacks.ts";
import { OperationTally, ProbeTally } from "./report/tallies.ts";
import { WorkerDumps } from "./report/workerDumps.ts";
import { WorkerMetrics } from "./report/workerMetrics.ts";
import { WorkerScraper } from "./report/workerScraper.ts";
import { WorkerSurvey } from "./report/workerSurvey.ts";
import type { Start } from "./start.ts";
import { toolRunner } from "./systemChecks.ts";
import { Autoscaler } from "./watch/autoscaler.ts";
import { BalanceWatch } from "./watch/balanceWatch.ts";
import { ControlGroupWatch } from "./watch/controlGroupWatch.ts";
import { ExitHold } from "./watch/exitHold.ts";
import { STOP_SIGNALS } from "./watch/heldSignals.ts";
import { MemoryWatch } from "./watch/memoryWatch.ts";
import { SourceWatch } from "./watch/sourceWatch.ts";
import { StreamEnds } from "./watch/streamEnds.ts";
import { WorkerTrees } from "./watch/workerTrees.ts";

/** Time limit for reading the command lines of all processes in one response. */
const COMMAND_LINES_MS = 500;

/** Is notified of every lifecycle event, and of the worker that it is about. */
export interface LifecycleObserver {
  handle(event: LifecycleEvent, worker?: WorkerRef): void;
}

/** Logs and events; `resources` owns everything that must be closed at the end, and closes the last one first. */
export type Foundation = ReturnType<typeof layFoundation>;

export function layFoundation(
  preflight: Preflight,
  { isDebug, isReadable = isDebug }: { readonly isDebug: boolean; readonly isReadable?: boolean },
  resources: DisposableStack,
) {
  const reportTo = (stream: string) => (error: NodeJS.ErrnoException) =>
    log.error(`${stream} cannot be written to`, { error: error.code ?? error.message });
  const sinks = openSinks({ fd: 1, onError: reportTo("stdout") }, { fd: 2 });
  const log: Logger = new SinkLogger({ sink: sinks.stderr, isDebug, isReadable });
  const events = new EventLog(() => new Date());
  const report = (event: LifecycleEvent) => record(event, events, log, { isDebug, isReadable });
  return {
    preflight,
    isDebug,
    resources,
    sinks,
    log,
    events,
    operations: new OperationLog(() => new Date()),
    operationTally: new OperationTally(),
    output: new WorkerOutput(sinks, logFilesListener(report, log)),
    manager: new ServiceManager(process.env, process.pid),
    report,
  };
}

export type Driver = Awaited<ReturnType<typeof buildDriver>>;

/** The driver, its pools and their proxies. */
export async function buildDriver(base: Foundation) {
  const { preflight, resources, log, manager, output, report } = base;
  const { config, spec } = preflight;
  const sockets = resources.use(await SharedSockets.bind([], log));
  const identities = preflight.launches.flatMap(({ credentials }) => credentials ?? []);
  let directory: RuntimeDirectory | undefined;
  const runtime = () => {
    directory ??= resources.use(RuntimeDirectory.create(config.supervisor.runtimeDir, log, identities));
    return directory;
  };
  const { promise: finished, resolve: finish } = Promise.withResolvers<number>();
  const observers: LifecycleObserver[] = [];
  const daemon = new Daemon({
    spec,
    clock: systemClock,
    random: Math.random,
    listener: {
      emitted: (event, worker) => {
        for (const observer of observers) observer.handle(event, worker);
      },
      changed: () => traffic.changed(),
      drainProxy: (pool) => traffic.proxyOf(pool).drainListeners(),
      ready: () => manager.ready(`${countWorkers(spec)} workers run`),
      stopping: () => manager.stopping(),
      finished: finish,
      broken: (error) => {
        log.error("a bug in the controller: all workers are killed", {
          error: error instanceof Error ? (error.stack ?? error.message) : String(error),
        });
        finish(70);
      },
    },
  });
  const registry = new PoolRegistry();
  const traffic = resources.use(new Traffic({ daemon, clock: systemClock, report }));
  const pools = new Pools({ daemon, registry, traffic, output, sockets, runtime, log });
  return {
    daemon,
    registry,
    traffic,
    pools,
    sockets,
    /** undefined while no pool needs one. */
    runtimeDirectory: () => directory,
    /** The same, created if it is missing. */
    runtime,
    /** In the order in which they are notified; to be filled before the boot. */
    observers,
    /** The exit code of the controller. */
    finished,
    finish,
  };
}

export type WorkerProcesses = ReturnType<typeof buildProcesses>;

/** Processes of workers, and what is known about them. */
export function buildProcesses({ resources, log, output }: Foundation, driver: Driver, { mark, guardian }: Start) {
  const { daemon, registry } = driver;
  const witnesses = () => (guardian?.pid === undefined ? [] : [guardian.pid, ...daemon.proxyPids()]);
  const groupSignals = resources.use(new GroupSignals(witnesses));
  const exits = resources.use(
    new ExitHold({
      listener: daemon,
      isDoubtful: () => daemon.msSinceShutdownRequest() === undefined && groupSignals.has(...STOP_SIGNALS),
      stopSignalOf: (pool) => daemon.specOf(pool).stopSignal,
    }),
  );
  const oomKills = new OomKills();
  const processes = new Processes({
    launchOf: (pool, revision) => registry.launchOf(pool, revision),
    attach: (worker) => output.attach(worker),
    listener: exits,
    guardian,
    log,
    mark,
    nofileSoft: inheritedNofile(),
    oomKills,
  });
  return {
    groupSignals,
    exits,
    oomKills,
    processes,
    trees: new WorkerTrees(mark),
    owners: new SocketOwners((leader) => processes.adoptedOf(leader)),
    listeners: new ListenerWatch({ workers: () => leadersOf(daemon.view()), mark, log }),
  };
}

export type Watches = ReturnType<typeof buildWatches>;

/** Probes, limits, streams, numbers and metrics. */
export function buildWatches({ resources, log }: Foundation, driver: Driver, workers: WorkerProcesses) {
  const { daemon, registry, traffic, pools, sockets } = driver;
  const { processes, trees, owners } = workers;
  const view = () => daemon.view();
  const clock = systemClock;
  const proxies = () => traffic.readings();
  const survey = new WorkerSurvey(view, trees.processes);
  const stacks = new PythonStacks(processes.helpers, () => process.env["PATH"]);
  const dumps = new WorkerDumps(survey, stacks);
  const probeTally = new ProbeTally();
  return {
    dumps,
    profiles: new Profiles(survey, stacks),
    probeTally,
    health: resources.use(
      new Health({
        registry,
        indexOf: (name) => pools.workersIndexOf(name),
        processes,
        daemon,
        traffic,
        dumps,
        sockets,
        owners,
        clock,
        log,
        tally: probeTally,
      }),
    ),
    memory: resources.use(new MemoryWatch({ trees: trees.processes, daemon, clock, log })),
    streamEnds: resources.use(new StreamEnds({ view, poolOf: (name) => pools.streamingPool(name), clock, log })),
    numbers: {
      view,
      proxies,
      trees,
      processes: new ProcessReadings(readSystemUnits()),
      balance: resources.use(new BalanceWatch({ view, proxies, usages: trees.usages }, clock)),
    },
    commands: new CommandLines(COMMAND_LINES_MS),
    workerMetrics: new WorkerMetrics({
      poolOf: (name) => measuredPool(name, { pools, registry, daemon }),
      view,
      scraper: new WorkerScraper(owners, log),
      clock,
    }),
  };
}

export type Changes = ReturnType<typeof buildChanges>;

/** What changes pools: orders, reloads, healing of removed files, control groups, the autoscaler. */
export function buildChanges(base: Foundation, driver: Driver, workers: WorkerProcesses, readAgain: ReadAgain) {
  const { resources, operations, log, preflight } = base;
  const { daemon, registry, traffic, pools, sockets, observers } = driver;
  const { processes, oomKills, trees } = workers;
  let orders = 0;
  const order = (pool: number, what: Order, reason: string, id = `op-${++orders}`): string => {
    // Known at once, although the driver may have other events to handle first.
    const requested = { pool: daemon.specOf(pool).name, operation: id, what: what.kind, done: 0, total: 0, reason };
    operations.handle({ kind: "operation_queued", ...requested });
    daemon.order(pool, id, what, reason);
    return id;
  };
  const reload = new Reload({
    initial: preflight,
    read: () => readAgain(toolRunner(processes.helpers), (pool) => pools.streamingPool(pool) !== undefined),
    daemon,
    pools,
    traffic,
    sockets,
    order,
    emit: (event) => {
      for (const observer of observers) observer.handle(event);
    },
    log,
  });
  const scale = (pool: number, replicas: number, reason: string) =>
    order(pool, scaleOrder(reload.config, daemon.view(), pool, replicas), reason);
  resources.use(
    new RuntimeFilesWatch({
      runtime: driver.runtimeDirectory,
      daemon,
      traffic,
      placesOf: (pool, revision) => registry.partsOf(pool, revision).places,
      order,
      clock: systemClock,
      log,
    }),
  );
  const readGroupFile = repeatedly();
  resources.use(
    new ControlGroupWatch({
      config: () => reload.config,
      spec: () => ({ pools: daemon.view().pools.map(({ index }) => daemon.specOf(index)) }),
      availableCpus: () => availableCpus(readGroupFile),
      memoryBoundBytes: () => memoryBoundBytes(readGroupFile),
      plannedReplicas: (name) => reload.plannedReplicas(name),
      takeUnclaimedKills: () => oomKills.takeUnclaimed(),
      scale: (name, replicas, reason) => {
        const pool = pools.workersIndexOf(name);
        if (pool !== undefined) scale(pool, replicas, reason);
      },
      log,
    }),
  );
  const autoscaler = resources.use(
    new Autoscaler({ daemon, clock: systemClock, usages: trees.usages, proxies: () => traffic.readings(), scale }),
  );
  return { order, scale, reload, autoscaler };
}

/** Which directories are watched. */
export interface WatchOptions {
  /** The working directory of each pool if empty. */
  readonly directories: readonly string[];
}

/** Restarts pools when their files change. @throws ControllerError WATCH_FAILED */
export function buildSourceWatch(
  { preflight, log }: Foundation,
  { daemon }: Driver,
  { order, reload }: Changes,
  { directories }: WatchOptions,
): SourceWatch {
  const pools = () => reload.config.supervisor.pools;
  return new SourceWatch({
    sources: () =>
      pools().map(({ name, cwd = "." }) => ({
        pool: name,
        directories: (directories.length === 0 ? [cwd] : directories).map((path) => resolve(path)),
      })),
    settings: () => [preflight.file, ...pools().flatMap(({ envFile }) => envFile ?? [])].map((path) => resolve(path)),
    view: () => daemon.view(),
    order,
    reload: () => reload.run(false),
    clock: systemClock,
    log,
  });
}

function leadersOf(view: ControllerView): { pool: string; role: "workers" | "proxy"; leader: number }[] {
  return view.pools.flatMap(({ name, role, workers }) =>
    workers.flatMap(({ pid }) => (pid === undefined ? [] : { pool: name, role, leader: pid })),
  );
}

/** Installs the initial pools: claims their ports and sockets, and registers them. @throws ControllerError */
export async function installPools({ preflight }: Foundation, { pools, traffic }: Driver): Promise<void> {
  const checked = checkedPools(preflight);
  await pools.claim(checked);
  pools.installAll(checked, preflight.spec);
  await traffic.loadFiles(checked.map(({ config }) => config.name));
}
