/**
 * Runs one controller from start to exit: builds its components (compose.ts), starts them, waits, and closes them.
 * Makes no decisions about workers.
 */
import type { Server } from "node:http";
import type { Logger } from "../base/log.ts";
import { inTurns } from "../base/turns.ts";
import type { RunProgram } from "../envoy/control/binary.ts";
import { allowOptimization, tuneForLongLife } from "../runtime/engineFlags.ts";
import { HeapCare } from "../runtime/heapCare.ts";
import { becomeSubreaper } from "../runtime/os/linux.ts";
import { listPids } from "../runtime/os/procfs.ts";
import { leftoverOf } from "../runtime/process/leftovers.ts";
import { placeShim } from "../runtime/process/spawnShim.ts";
import { openAdmin } from "./adminServers.ts";
import { countWorkers, requireRoom, reserveForWorkers } from "./capacity.ts";
import {
  buildChanges,
  buildDriver,
  buildProcesses,
  buildSourceWatch,
  buildWatches,
  type Driver,
  type Foundation,
  installPools,
  layFoundation,
  type WatchOptions,
  type WorkerProcesses,
} from "./compose.ts";
import { createHandle } from "./createHandle.ts";
import type { Preflight } from "./preflight.ts";
import { type Start, stoppedExitCode } from "./start.ts";
import type { HeldSignals } from "./watch/heldSignals.ts";
import { listenToSignals } from "./watch/signals.ts";

/** Time for writing the last log lines after all processes have exited, if the shutdown timeout is used up. */
const MIN_FLUSH_MS = 1000;

/** Approximate time to start one worker, and its maximum for all: after that, logs need optimized code anyway. */
const SPAWN_MS = 1;
const MAX_SPAWNING_MS = 1000;

/**
 * Reads and checks the file again. `run` runs Envoy to completion; `isProxied` returns whether a pool's Envoy runs.
 * Rejects with a ControllerError.
 */
export type ReadAgain = (run: RunProgram, isProxied: (pool: string) => boolean) => Promise<Preflight>;

export interface RunOptions {
  readonly isDebug: boolean;
  /** Whether the log is for people even if it is not for debugging. */
  readonly isReadable?: boolean;
  /** Restarts pools when their files change. */
  readonly watch?: WatchOptions | undefined;
  readonly held: HeldSignals;
  readonly start: Start;
}

/**
 * Runs the controller of a checked configuration and resolves with the exit code. `readAgain` reads and checks it again
 * for a reload. A write without a reader may still block a thread of libuv's pool afterwards: exit through exitNow().
 * @throws ControllerError PROCESS_LIMIT, PORT_IN_USE, SOCKET_IN_USE, ADDRESS_UNAVAILABLE, CONTROL_SOCKET_IN_USE, CONTROL_SOCKET_UNSAFE before any worker starts
 */
export async function runController(preflight: Preflight, readAgain: ReadAgain, options: RunOptions): Promise<number> {
  const { start, held } = options;
  // From here on the controller's processes reap every child.
  start.tools[Symbol.dispose]();
  tuneForLongLife();
  using resources = new DisposableStack();
  const base = layFoundation(preflight, options, resources);
  const { log, sinks, events } = base;
  for (const warning of preflight.warnings) log.warn(warning);
  for (const note of preflight.notes) log.info(note);
  requireRoom(preflight, start.guardian?.pid !== undefined);
  becomeSubreaper();

  const driver = await buildDriver(base);
  const { daemon, traffic, sockets, finished, observers } = driver;
  placeSpawnShim(driver, log);
  process.on("uncaughtException", (error) => daemon.fail(error));
  await installPools(base, driver);
  const workers = buildProcesses(base, driver, start);
  const watches = buildWatches(base, driver, workers);
  const changes = buildChanges(base, driver, workers, readAgain);
  observers.push(
    base.operations,
    base.operationTally,
    { handle: base.report },
    traffic,
    workers.trees,
    watches.health,
    watches.memory,
    watches.workerMetrics,
    watches.streamEnds,
    workers.listeners,
    changes.reload,
    changes.autoscaler,
    { handle: (event) => event.kind === "stopping" && event.cause === "shutdown" && sockets.release(event.pool) },
  );
  if (options.watch !== undefined)
    observers.push(resources.use(buildSourceWatch(base, driver, changes, options.watch)));
  const handle = createHandle(base, driver, workers, watches, changes);
  const view = () => daemon.view();
  const servers = await openAdmin({ config: preflight.config.admin, handle, view, log, resources });

  if (start.guardian !== undefined && start.guardian.pid === undefined)
    log.warn("there is no shell: workers will outlive a controller that is killed with SIGKILL");
  const isStopKnown = () => workers.exits.release();
  listenToSignals({ daemon, handle, log, groupSignals: workers.groupSignals, isStopKnown });
  boot(base, driver, workers, held, () => watches.health.begin());
  const written = () => sinks.stdout.bytesWritten + sinks.stderr.bytesWritten + base.output.fileBytesWritten;
  const heapCare = new HeapCare(() => events.lastSeq + written());
  const exitCode = await finished;
  heapCare.close();
  return takeApart(base, driver, workers, servers, exitCode);
}

/** Determines where the spawn shim can be executed. */
function placeSpawnShim({ runtime }: Driver, log: Logger): void {
  const obstacles = placeShim(() => runtime().path);
  if (obstacles.length > 0)
    log.warn(
      `the spawn shim cannot be executed ${obstacles.join(" or ")}: workers have the controller's oom_score_adj and its limit of open files`,
    );
}

/** Starts the workers, unless a stop was requested meanwhile. */
function boot(
  { preflight, log }: Foundation,
  { daemon, finish }: Driver,
  { processes }: WorkerProcesses,
  held: HeldSignals,
  beginProbing: () => void,
): void {
  const workers = countWorkers(preflight.spec);
  reserveForWorkers(workers);
  const early = held.release();
  if (early.stop !== undefined) {
    log.info(`received ${early.stop} during startup; no worker was started`);
    finish(stoppedExitCode(early.stop));
    return;
  }
  beginProbing();
  setTimeout(allowOptimization, Math.min(MAX_SPAWNING_MS, SPAWN_MS * workers)).unref();
  daemon.boot(processes);
  if (early.isReloadDue) process.emit("SIGHUP");
  warnOfLeftovers(log);
}

/** Call after all workers have exited: closes everything and writes the last log lines. Resolves with the exit code. */
async function takeApart(
  { resources, output, manager, sinks, log }: Foundation,
  { daemon }: Driver,
  { processes }: WorkerProcesses,
  servers: readonly Server[],
  exitCode: number,
): Promise<number> {
  processes.killStrays();
  processes.close();
  resources.dispose();
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
  const boundMs = Math.max(MIN_FLUSH_MS, daemon.policy.shutdownTimeoutMs - (daemon.msSinceShutdownRequest() ?? 0));
  await withinBound(output.drained(), boundMs);
  manager.close();
  const lostBytes = sinks.stdout.pendingBytes + sinks.stderr.pendingBytes;
  const lostFileBytes = output.fileBytesMissing;
  if (lostBytes + lostFileBytes === 0) return exitCode;
  if (sinks.stderr.pendingBytes === 0) {
    if (lostBytes > 0)
      log.error(`the last ${lostBytes} bytes of the workers' output are lost: no process reads stdout`);
    if (lostFileBytes > 0)
      log.error(`the last ${lostFileBytes} bytes of the log files are lost: a file cannot be written`, {
        code: "LOG_FILE_FAILED",
      });
    await withinBound(sinks.stderr.flush(), MIN_FLUSH_MS);
  }
  return Math.max(exitCode, 1);
}

/** Resolves when `work` is done, or after `boundMs`. */
async function withinBound(work: Promise<void>, boundMs: number): Promise<void> {
  const { promise: bound, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, boundMs);
  await Promise.race([work, bound]);
  clearTimeout(timer);
}

/** There may be thousands of processes, so they are examined in several turns. */
function warnOfLeftovers(log: Logger): void {
  const warn = (pid: number) => {
    const leftover = leftoverOf(pid);
    if (leftover === undefined) return;
    const { command, worker, controllerPid } = leftover;
    const what = `worker "${worker}" of controller ${controllerPid}, which has exited`;
    log.warn(`pid ${pid} (${command}) is left over: ${what}`, { hint: `kill ${pid}` });
  };
  setImmediate(() => inTurns(listPids(), warn));
}
