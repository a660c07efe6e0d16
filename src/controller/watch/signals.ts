/** Effects of signals on the controller. Every signal that would end it by default has an effect here or is ignored. */
import { constants } from "node:os";
import type { ReloadPlan } from "../../admin/api.ts";
import type { ControllerHandle } from "../../admin/handle.ts";
import type { Logger } from "../../base/log.ts";
import type { Instant } from "../../base/time.ts";
import type { PoolView } from "../../core/view.ts";
import { systemClock } from "../../runtime/clock.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import { ignoreSignal, unblockSignal } from "../../runtime/os/linux.ts";
import { isServiceMain } from "../../runtime/os/systemd.ts";
import type { GroupSignals } from "../../runtime/process/groupSignals.ts";
import { IGNORED_SIGNALS, STOP_SIGNALS } from "./heldSignals.ts";

/**
 * A second stop signal this soon is the first one delivered twice: timeout(1), npm and others forward a signal that the
 * whole process group has already received. No operator requests an immediate stop so quickly.
 */
const SAME_SIGNAL_MS = 300;

/** A signal to a whole service reaches its processes one after another: how long and how often others are checked. */
const GROUP_SIGNAL_MS = 50;
const GROUP_LOOK_MS = 5;

/** Real-time signals that glibc leaves to programs (signal(7)). */
const FIRST_REAL_TIME_SIGNAL = 34;
const LAST_REAL_TIME_SIGNAL = 64;

export interface SignalOptions {
  readonly daemon: Daemon;
  readonly handle: ControllerHandle;
  readonly log: Logger;
  readonly groupSignals: GroupSignals;
  /** Called when a stop request has been passed on to the daemon. */
  readonly isStopKnown: () => void;
}

/**
 * TERM, INT, QUIT and PWR shut down, HUP reloads, USR1 restarts, TTIN and TTOU scale; USR2 is kept for a live upgrade. All
 * others that would end the controller, and that no program sends on purpose, are ignored.
 */
export function listenToSignals({ daemon, handle, log, groupSignals, isStopKnown }: SignalOptions): void {
  for (const signal of STOP_SIGNALS) {
    process.on(signal, () => {
      const sinceMs = daemon.msSinceShutdownRequest();
      if (sinceMs !== undefined && sinceMs < SAME_SIGNAL_MS) {
        log.debug(`received ${signal} again after ${Math.round(sinceMs)}ms: ignored as a duplicate`);
        return;
      }
      const isFirst = sinceMs === undefined;
      const at = systemClock.now();
      const isGroups = isFirst && groupSignals.has(signal);
      if (isGroups) reportGroupSignal(daemon, signal, at, log);
      daemon.shutdown(`received ${signal}`, isServiceMain(process.env, process) && !isGroups ? GROUP_SIGNAL_MS : 0);
      isStopKnown();
      if (isFirst && !isGroups) awaitGroupSignal(daemon, signal, at, log, groupSignals);
    });
  }
  const attempt = (signal: string, act: () => Promise<void> | void) => {
    process.on(signal, () => {
      Promise.try(act).catch((error: unknown) => {
        log.error(`${signal} changed nothing: ${error instanceof Error ? error.message : String(error)}`);
      });
    });
  };
  attempt("SIGHUP", async () => {
    logReload(await handle.reload(false), log);
  });
  attempt("SIGUSR1", () => {
    for (const { index } of workerPools(handle)) handle.restart(index, undefined, "received SIGUSR1");
  });
  attempt("SIGTTIN", () => scaleBy(handle, 1, "SIGTTIN", log));
  attempt("SIGTTOU", () => scaleBy(handle, -1, "SIGTTOU", log));
  process.on("SIGUSR2", () => log.warn("received SIGUSR2, which is not supported yet and ignored"));
  // The kernel sends SIGIO for each message on a NOTIFY_SOCKET.
  for (const signal of IGNORED_SIGNALS)
    process.on(signal, () => signal === "SIGIO" || log.warn(`received ${signal}, which is ignored`));
  // Not through a Node.js listener: V8's profiler uses SIGPROF while it runs, and the others have no names.
  ignoreSignal(constants.signals.SIGPROF);
  for (let signal = FIRST_REAL_TIME_SIGNAL; signal <= LAST_REAL_TIME_SIGNAL; signal++) ignoreSignal(signal);
  // Node.js blocks SIGUSR1 permanently if it must not start the debugger (--disable-sigusr1).
  unblockSignal(constants.signals.SIGUSR1);
}

export function logReload({ changes, refused, failed }: ReloadPlan, log: Logger): void {
  log.info(changes.length === 0 ? "reload: nothing has changed" : `reload: ${changes.join("; ")}`);
  for (const { path, reason } of refused) log.warn(`reload: ${path} cannot be changed: ${reason}`);
  for (const { path, reason } of failed) log.error(`reload: ${path} was not changed: ${reason}`);
}

/** Checks for GROUP_SIGNAL_MS whether other processes of the service receive the signal too. */
function awaitGroupSignal(daemon: Daemon, signal: string, at: Instant, log: Logger, groupSignals: GroupSignals): void {
  const timer = setInterval(() => {
    const isFound = groupSignals.has(signal);
    if (isFound) reportGroupSignal(daemon, signal, at, log);
    if (isFound || systemClock.now() - at > GROUP_SIGNAL_MS) clearInterval(timer);
  }, GROUP_LOOK_MS);
}

function reportGroupSignal(daemon: Daemon, signal: string, at: Instant, log: Logger): void {
  daemon.groupSignaled(signal, at);
  log.warn(
    `${signal} was sent to every process of this service, not only to the controller: workers stop without being drained`,
    { hint: "With systemd set KillMode=mixed in the unit." },
  );
}

function workerPools(handle: ControllerHandle): PoolView[] {
  return handle.view().pools.filter(({ role }) => role === "workers");
}

function scaleBy(handle: ControllerHandle, difference: number, signal: string, log: Logger): void {
  const [pool, ...others] = workerPools(handle);
  if (pool === undefined || others.length > 0) {
    log.warn(
      `${signal} is ignored: it scales a single pool, and there are ${others.length + 1}; use "monoceros scale"`,
    );
    return;
  }
  const replicas = pool.replicas + difference;
  if (replicas < 1) log.warn(`${signal} is ignored: a pool needs at least one worker`);
  else handle.scale(pool.index, replicas, `received ${signal}`);
}
