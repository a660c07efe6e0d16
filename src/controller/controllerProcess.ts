/**
 * The composition root: puts the rooms together into one running controller and takes them apart again. The only place
 * that knows all of them. Decides nothing about workers.
 */
import { tmpdir } from "node:os";
import type { LogLine } from "../admin/api.ts";
import { EventLog } from "../admin/events.ts";
import type { ControllerHandle } from "../admin/handle.ts";
import { ControlSocket } from "../admin/http/controlSocket.ts";
import { listenOnPort, listenOnSocket } from "../admin/http/listen.ts";
import { createControlServer, createTcpServer } from "../admin/http/server.ts";
import { defaultSocketCandidates } from "../admin/http/socketPath.ts";
import { TokenFile } from "../admin/http/tokenFile.ts";
import { OperationLog } from "../admin/operations.ts";
import type { Logger } from "../base/log.ts";
import { inTurns } from "../base/turns.ts";
import { VERSION } from "../base/version.ts";
import { proxyName } from "../config/spec.ts";
import { isWorkerEvent, type LifecycleEvent } from "../core/event.ts";
import { workerId } from "../core/identity.ts";
import type { Order } from "../core/pool/order.ts";
import type { ControllerSpec } from "../core/spec.ts";
import type { ControllerView } from "../core/view.ts";
import type { RunProgram } from "../envoy/control/binary.ts";
import { SinkLogger } from "../logs/logger.ts";
import { type LogSink, openSinks } from "../logs/sink.ts";
import { WorkerOutput } from "../logs/workerOutput.ts";
import { systemClock } from "../runtime/clock.ts";
import { Daemon } from "../runtime/daemon.ts";
import { allowOptimization, tuneForLongLife } from "../runtime/engineFlags.ts";
import { HeapCare } from "../runtime/heapCare.ts";
import { CommandLines } from "../runtime/inspect/commandLines.ts";
import { ProcessReadings } from "../runtime/inspect/readings.ts";
import { memoryBoundBytes, repeatedly } from "../runtime/os/cgroup.ts";
import { availableCpus } from "../runtime/os/cpus.ts";
import {
  becomeSubreaper,
  getLimit,
  openListener,
  RLIMITS,
  readSystemUnits,
  reserveDescriptors,
} from "../runtime/os/linux.ts";
import { OomKills } from "../runtime/os/oomKills.ts";
import { readPeer } from "../runtime/os/peerCredentials.ts";
import { requireProcesses } from "../runtime/os/processLimit.ts";
import { findListener, findUnixListener, listPids, readSoftNofile } from "../runtime/os/procfs.ts";
import { ServiceManager } from "../runtime/os/systemd.ts";
import { GroupSignals } from "../runtime/process/groupSignals.ts";
import { leftoverOf } from "../runtime/process/leftovers.ts";
import { Processes } from "../runtime/process/processes.ts";
import { placeShim } from "../runtime/process/spawnShim.ts";
import { ListenerWatch } from "../runtime/socket/listeners.ts";
import { SocketOwners } from "../runtime/socket/socketOwners.ts";
import { SharedSockets } from "../runtime/socket/sockets.ts";
import { openTcpListener } from "../runtime/socket/tcpListener.ts";
import { Health } from "./health/health.ts";
import { ProbeTally } from "./health/probeTally.ts";
import { measuredPool } from "./pools/measuredPool.ts";
import { PoolRegistry } from "./pools/poolRegistry.ts";
import { checkedPools, Pools } from "./pools/pools.ts";
import { Reload } from "./pools/reload.ts";
import { RuntimeDirectory } from "./pools/runtimeDirectory.ts";
import { RuntimeFilesWatch } from "./pools/runtimeFilesWatch.ts";
import { scaleOrder } from "./pools/scaleOrder.ts";
import { Traffic } from "./pools/traffic.ts";
import { type Preflight, toolRunner } from "./preflight.ts";
import { Inspection } from "./report/inspection.ts";
import { createMetrics } from "./report/metricsSource.ts";
import { OperationTally } from "./report/operationTally.ts";
import { readDetails, readProcessDetails } from "./report/statusDetails.ts";
import { WorkerMetrics } from "./report/workerMetrics.ts";
import { type Start, stoppedExitCode } from "./start.ts";
import { Autoscaler } from "./watch/autoscaler.ts";
import { BalanceWatch } from "./watch/balanceWatch.ts";
import { ControlGroupWatch } from "./watch/controlGroupWatch.ts";
import { ExitHold } from "./watch/exitHold.ts";
import { type HeldSignals, STOP_SIGNALS } from "./watch/heldSignals.ts";
import { MemoryWatch } from "./watch/memoryWatch.ts";
import { listenToSignals } from "./watch/signals.ts";
import { StreamEnds } from "./watch/streamEnds.ts";
import { WorkerTrees } from "./watch/workerTrees.ts";

/** How long the last log lines may take after everything has ended, where the shutdown's own bound is already used up. */
const MIN_FLUSH_MS = 1000;

/** How long the command lines of all processes may take in one answer. */
const COMMAND_LINES_MS = 500;

/** From so many workers on, the table of descriptors would grow more than once while they start. */
const MANY_WORKERS = 50;
const OWN_DESCRIPTORS = 128;
/** Connections to the admin port that may wait to be accepted; net.core.somaxconn bounds it. */
const ADMIN_BACKLOG = 4096;

/**
 * Reads and checks the file anew; `run` is how Envoy is run to its end meanwhile, `isProxied` tells pools whose Envoy runs.
 * Rejects with a ControllerError.
 */
export type ReadAgain = (run: RunProgram, isProxied: (pool: string) => boolean) => Promise<Preflight>;

/**
 * Runs the controller of a checked configuration, which `readAgain` reads and checks anew, until its end and resolves with the
 * exit code. A write that no reader takes may still hold a thread of libuv's pool then: leave by exitNow().
 * @throws ControllerError PROCESS_LIMIT, PORT_IN_USE, SOCKET_IN_USE, ADDRESS_UNAVAILABLE, CONTROL_SOCKET_IN_USE, CONTROL_SOCKET_UNSAFE before any worker starts
 */
export async function runController(
  preflight: Preflight,
  readAgain: ReadAgain,
  options: { readonly isDebug: boolean; readonly held: HeldSignals; readonly start: Start },
): Promise<number> {
  const { mark, lifeline, tools } = options.start;
  // From here on every child is reaped by the processes of the controller.
  tools[Symbol.dispose]();
  tuneForLongLife();
  const { config, spec, warnings } = preflight;
  const sinks = openSinks({ fd: 1, onError: reportTo("stdout") }, { fd: 2 });
  const log = new SinkLogger({ sink: sinks.stderr, isDebug: options.isDebug });
  function reportTo(stream: string) {
    return (error: NodeJS.ErrnoException) =>
      log.error(`${stream} cannot be written to`, { error: error.code ?? error.message });
  }

  for (const warning of warnings) log.warn(warning);
  for (const note of preflight.notes) log.info(note);

  requireRoom(preflight, lifeline?.pid !== undefined);
  becomeSubreaper();
  using sockets = await SharedSockets.bind([], log);
  using resources = new DisposableStack();
  const identities = preflight.launches.flatMap(({ credentials }) => credentials ?? []);
  let runtimeDirectory: RuntimeDirectory | undefined;
  const runtime = () => {
    runtimeDirectory ??= resources.use(RuntimeDirectory.create(config.supervisor.runtimeDir, log, identities));
    return runtimeDirectory;
  };
  const obstacles = placeShim(() => runtime().path);
  if (obstacles.length > 0)
    log.warn(
      `the spawn shim cannot be executed ${obstacles.join(" or ")}: workers have the controller's oom_score_adj and its limit of open files`,
    );
  const events = new EventLog(() => new Date());
  const operations = new OperationLog(() => new Date());
  const operationTally = new OperationTally();
  const manager = new ServiceManager(process.env, process.pid);
  const output = new WorkerOutput([], sinks);
  const { promise: finished, resolve: finish } = Promise.withResolvers<number>();
  const report = (event: LifecycleEvent) => record(event, events, log, options.isDebug);

  const told = (event: LifecycleEvent) => {
    operations.observe(event);
    operationTally.observe(event);
    report(event);
    traffic.handle(event);
    trees.handle(event);
    health.handle(event);
    memory.handle(event);
    workerMetrics.handle(event);
    streamEnds.handle(event);
    watch.handle(event);
    reload.handle(event);
    autoscaler.handle(event);
    if (event.kind === "stopping" && event.cause === "shutdown") sockets.release(event.pool);
  };
  const daemon = new Daemon({
    spec,
    clock: systemClock,
    random: Math.random,
    listener: {
      told,
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
  process.on("uncaughtException", (error) => daemon.fail(error));

  const registry = new PoolRegistry();
  const traffic = resources.use(new Traffic({ daemon, clock: systemClock, report }));
  const pools = new Pools({ daemon, registry, traffic, output, sockets, runtime, log });
  const checked = checkedPools(preflight);
  await pools.claim(checked);
  pools.installAll(checked, spec);
  await traffic.loadFiles(checked.map((pool) => pool.config.name));
  const witnesses = () => {
    if (lifeline?.pid === undefined) return [];
    return [lifeline.pid, ...daemon.proxyPids()];
  };
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
    lifeline,
    log,
    mark,
    nofileSoft: inheritedNofile(),
    oomKills,
  });
  const trees = new WorkerTrees(mark);
  const inspection = new Inspection({
    view: () => daemon.view(),
    trees: trees.processes,
    tools: processes,
    searchPath: () => process.env["PATH"],
  });
  const probeTally = new ProbeTally();
  const owners = new SocketOwners((leader) => processes.adoptedOf(leader));
  const health = resources.use(
    new Health({
      registry,
      indexOf: (name) => pools.workersIndexOf(name),
      processes,
      daemon,
      traffic,
      inspection,
      sockets,
      owners,
      clock: systemClock,
      log,
      tally: probeTally,
    }),
  );
  const memory = resources.use(
    new MemoryWatch({
      indexOf: (name) => pools.workersIndexOf(name),
      trees: trees.processes,
      daemon,
      clock: systemClock,
      log,
    }),
  );
  const watch = new ListenerWatch({ workers: () => leadersOf(daemon.view()), mark, log });

  const streamEnds = resources.use(
    new StreamEnds({
      view: () => daemon.view(),
      poolOf: (name) => pools.streamingPool(name),
      clock: systemClock,
      log,
    }),
  );

  const view = () => daemon.view();
  const proxies = () => traffic.readings();
  const numbers = {
    view,
    proxies,
    trees,
    processes: new ProcessReadings(readSystemUnits()),
    balance: resources.use(new BalanceWatch({ view, proxies, trees }, systemClock)),
  };
  const commands = new CommandLines(COMMAND_LINES_MS);

  const workerMetrics = new WorkerMetrics({
    poolOf: (name) => measuredPool(name, { pools, registry, daemon }),
    view: () => daemon.view(),
    judge: (asked, address) => owners.judge(asked, address),
    clock: systemClock,
    log,
  });

  let orders = 0;
  const nextId = () => `op-${++orders}`;
  const order = (pool: number, what: Order, reason: string, id = nextId()): string => {
    // Known from now on, although the daemon may have other events to handle first.
    const asked = { pool: daemon.specOf(pool).name, operation: id, what: what.kind, done: 0, total: 0, reason };
    operations.observe({ kind: "operation_queued", ...asked });
    daemon.order(pool, id, what, reason);
    return id;
  };
  const reload = new Reload({
    initial: preflight,
    read: () => readAgain(toolRunner(processes), (pool) => traffic.adminOf(proxyName(pool)) !== undefined),
    daemon,
    pools,
    registry,
    traffic,
    sockets,
    order,
    nextId,
    tell: told,
    log,
  });
  resources.use(
    new RuntimeFilesWatch({
      runtime: () => runtimeDirectory,
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
        if (pool !== undefined) order(pool, scaleOrder(reload.config, daemon.view(), pool, replicas), reason);
      },
      log,
    }),
  );
  const autoscaler = resources.use(
    new Autoscaler({
      daemon,
      clock: systemClock,
      trees,
      proxies: () => traffic.readings(),
      scale: (pool, replicas, reason) => {
        order(pool, scaleOrder(reload.config, daemon.view(), pool, replicas), reason);
      },
    }),
  );
  const handle: ControllerHandle = {
    version: VERSION,
    events,
    operations,
    view: () => daemon.view(),
    now: () => systemClock.now(),
    // One that is ready again waits for nothing, whatever its last attempt returned.
    waitOf: (pool, { phase, slot, incarnation }) =>
      phase === "starting" || phase === "unready" ? health.waitOf(pool, slot, incarnation) : undefined,
    details: () => readDetails({ pools: reload.config.supervisor.pools, ...numbers }),
    detailsWithProcesses: () => readProcessDetails({ pools: reload.config.supervisor.pools, ...numbers }, commands),
    metrics: createMetrics({
      ...numbers,
      output,
      sinks,
      orphansReaped: () => processes.orphansReaped,
      oomKills: () => oomKills.total,
      probes: probeTally,
      operations: operationTally,
      workerMetrics,
    }),
    workerMetrics: (accept) => workerMetrics.exposition(accept),
    audit: (who, what) => record({ kind: "audited", who, what }, events, log, options.isDebug),
    shutdown: (reason) => daemon.shutdown(reason),
    restart: (pool, slots, reason) => order(pool, { kind: "restart", slots }, reason),
    stop: (pool, slots, reason) => order(pool, { kind: "stop", slots }, reason),
    start: (pool, slots, reason) => order(pool, { kind: "start", slots }, reason),
    scale: (pool, replicas, reason) => order(pool, scaleOrder(reload.config, daemon.view(), pool, replicas), reason),
    reload: (isDryRun) => reload.run(isDryRun),
    dump: (pool, slot, pid) => inspection.dump(pool, slot, pid),
    profileWorker: (pool, slot, request) => inspection.profileWorker(pool, slot, request),
    profileSelf: (subject, seconds, signal) => inspection.profileSelf(subject, seconds, signal),
    tapLogs: (listener) => tapSinks(sinks, listener),
  };
  const find = { onPort: findListener, onSocket: findUnixListener };
  const { tokenFile } = config.admin;
  const token = tokenFile === undefined ? undefined : await TokenFile.open(tokenFile, (message) => log.warn(message));
  const isToken = token === undefined ? undefined : (text: string) => token.matches(text);
  const openServer = createTcpServer(handle, isToken, openConnections());
  let isProxyWarned = false;
  const isProxy = ({ pid }: { readonly pid: number }) => {
    const proxy = leadersOf(daemon.view()).find(({ role, leader }) => role === "proxy" && leader === pid);
    if (proxy === undefined) return false;
    if (!isProxyWarned)
      log.warn(`refused Envoy (pid ${pid}, ${proxy.pool}) at the control socket: a worker has led it there`);
    isProxyWarned = true;
    return true;
  };
  const controlServer = createControlServer(handle, readPeer, isProxy);
  const candidates =
    config.admin.socket === undefined
      ? defaultSocketCandidates(process.env, process.getuid?.() ?? 0, tmpdir())
      : [config.admin.socket];
  const open = async (host: string, port: number) => (await openTcpListener({ host, port }, ADMIN_BACKLOG)).fd;
  const port = await listenOnPort(openServer, config.admin.port, config.admin.address, open, find);
  const openSocket = (path: string, backlog: number) => openListener({ family: "Unix", path }, backlog, 0);
  const socket = await listenOnSocket(controlServer, candidates, find, openSocket).catch((error: unknown) => {
    // A port that goes on listening would keep this process from ending.
    openServer.close();
    throw error;
  });
  const { file } = socket;
  if (file !== undefined)
    resources.use(new ControlSocket({ server: controlServer, file, find, open: openSocket, log }));
  if (file === undefined) log.warn("running without a control socket: no usable path for it");
  for (const reason of socket.reasons) log.warn(`the control socket cannot be there: ${reason}`);
  log.debug("admin listens", { address: `${config.admin.address}:${port}`, socket: file?.path });

  if (lifeline !== undefined && lifeline.pid === undefined)
    log.warn("there is no shell: workers will outlive a controller that is killed with SIGKILL");
  const workers = countWorkers(spec);
  if (workers > MANY_WORKERS) reserveDescriptors(2 * workers + OWN_DESCRIPTORS);
  listenToSignals({ daemon, handle, log, groupSignals, isStopKnown: () => exits.release() });
  const early = options.held.release();
  if (early.stop === undefined) {
    health.begin();
    setTimeout(allowOptimization, Math.min(MAX_SPAWNING_MS, SPAWN_MS * workers)).unref();
    daemon.boot(processes);
    if (early.isReloadDue) process.emit("SIGHUP");
    warnOfLeftovers(log);
  } else {
    log.info(`received ${early.stop} during the start: no worker was started`);
    finish(stoppedExitCode(early.stop));
  }

  const heapCare = new HeapCare(() => events.lastSeq + sinks.stdout.bytesWritten + sinks.stderr.bytesWritten);

  const exitCode = await finished;
  heapCare.close();
  processes.killStrays();
  processes.close();
  resources.dispose();
  sockets[Symbol.dispose]();
  for (const server of [openServer, controlServer]) {
    server.close();
    server.closeAllConnections();
  }
  const boundMs = Math.max(MIN_FLUSH_MS, daemon.policy.shutdownTimeoutMs - (daemon.msSinceShutdownRequest() ?? 0));
  await withinBound(output.drained(), boundMs);
  manager.close();
  const lostBytes = sinks.stdout.pendingBytes + sinks.stderr.pendingBytes;
  if (lostBytes === 0) return exitCode;
  if (sinks.stderr.pendingBytes === 0) {
    log.error(`the last ${lostBytes} bytes of the workers' output are lost: nobody reads stdout`);
    await withinBound(sinks.stderr.flush(), MIN_FLUSH_MS);
  }
  return Math.max(exitCode, 1);
}

/** About how long the start of a worker takes, and the time for all of them after which logs need fast code in any case. */
const SPAWN_MS = 1;
const MAX_SPAWNING_MS = 1000;

/** Enough for a thousand clients that scrape at once, and at most a quarter of the descriptors. */
function openConnections(): number {
  const { soft } = getLimit(0, RLIMITS["nofile"] ?? 7);
  return Math.min(1280, soft === "unlimited" ? 1280 : Math.max(64, Math.floor(soft / 4)));
}

/** Threads of an Envoy besides its workers (`server.concurrency`). */
const ENVOY_THREADS = 5;

/** Refuses a start whose processes cannot all exist. @throws ControllerError PROCESS_LIMIT */
function requireRoom({ config, spec }: Preflight, hasGuardian: boolean): void {
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

function countWorkers({ pools }: ControllerSpec): number {
  return pools.reduce((sum, pool) => sum + (pool.role === "workers" ? pool.replicas : 0), 0);
}

function leadersOf(view: ControllerView): { pool: string; role: "workers" | "proxy"; leader: number }[] {
  return view.pools.flatMap(({ name, role, workers }) =>
    workers.flatMap(({ pid }) => (pid === undefined ? [] : { pool: name, role, leader: pid })),
  );
}

/** Resolves when `work` is done, or after `boundMs`. */
async function withinBound(work: Promise<void>, boundMs: number): Promise<void> {
  const { promise: bound, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, boundMs);
  await Promise.race([work, bound]);
  clearTimeout(timer);
}

/** Events that are always of level debug. */
const QUIET_EVENTS: ReadonlySet<LifecycleEvent["kind"]> = new Set([
  "starting",
  "spawned",
  "ready",
  "draining",
  "stopping",
  "stopped",
]);

/** A lifecycle event goes to the ring and to the log; for a person the sentence says it all. */
function record(event: LifecycleEvent, events: EventLog, log: Logger, isDebug: boolean): void {
  if (!isDebug && QUIET_EVENTS.has(event.kind)) {
    events.addQuietly(event);
    return;
  }
  const { level, message, code } = events.add(event);
  if (isDebug) {
    log[level](message);
    return;
  }
  const worker = isWorkerEvent(event)
    ? { pool: event.pool, worker_id: workerId(event.pool, event.slot), incarnation: event.incarnation }
    : {};
  log[level](message, { event: event.kind, code, ...worker, pid: "pid" in event ? event.pid : undefined });
}

/** The soft limit the controller was started with: Node.js has raised its own, but not that of its parent. */
function inheritedNofile(): number | "unlimited" {
  const own = getLimit(0, RLIMITS["nofile"] ?? 7);
  const parents = process.ppid === 0 ? undefined : readSoftNofile(process.ppid);
  if (parents === undefined || parents === "unlimited" || own.soft === "unlimited") return own.soft;
  return Math.min(parents, own.soft);
}

function tapSinks(
  sinks: { stdout: LogSink; stderr: LogSink },
  listener: (stream: LogLine["stream"], chunk: Buffer) => void,
): Disposable {
  const stops = [sinks.stdout.tap((chunk) => listener("stdout", chunk))];
  if (sinks.stderr !== sinks.stdout) stops.push(sinks.stderr.tap((chunk) => listener("stderr", chunk)));
  return {
    [Symbol.dispose]: () => {
      for (const stop of stops) stop();
    },
  };
}

/** There may be thousands of processes, so they are looked at in several turns. */
function warnOfLeftovers(log: Logger): void {
  const warn = (pid: number) => {
    const leftover = leftoverOf(pid);
    if (leftover === undefined) return;
    const { command, worker, controllerPid } = leftover;
    const what = `worker "${worker}" of controller ${controllerPid}, which is gone`;
    log.warn(`pid ${pid} (${command}) is left over: ${what}`, { hint: `kill ${pid}` });
  };
  setImmediate(() => inTurns(listPids(), warn));
}
