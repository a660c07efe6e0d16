/** What signals ask of the controller. */
import { constants } from "node:os";
import type { ControllerHandle } from "../admin/handle.ts";
import type { Logger } from "../base/log.ts";
import type { PoolView } from "../core/view.ts";
import type { Daemon } from "../runtime/daemon.ts";
import { unblockSignal } from "../runtime/linux.ts";

/**
 * A second stop signal this soon is the first one delivered twice: timeout(1), npm and others pass on to us what the whole
 * process group has got from them or from the terminal. No person means "at once" so quickly.
 */
const SAME_SIGNAL_MS = 300;

/** TERM and INT shut down, HUP reloads, USR1 restarts, TTIN and TTOU scale; USR2 is kept for a live upgrade. */
export function listenToSignals(daemon: Daemon, handle: ControllerHandle, log: Logger): void {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      const sinceMs = daemon.msSinceShutdownRequest();
      if (sinceMs !== undefined && sinceMs < SAME_SIGNAL_MS)
        log.debug(`${signal} once more, taken for the same request`);
      else daemon.shutdown(`received ${signal}`);
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
    const { changes, refused, failed } = await handle.reload(false);
    log.info(changes.length === 0 ? "reload: nothing has changed" : `reload: ${changes.join("; ")}`);
    for (const { path, reason } of refused) log.warn(`reload: ${path} stays as it was: ${reason}`);
    for (const { path, reason } of failed) log.error(`reload: ${path} is as it was: ${reason}`);
  });
  attempt("SIGUSR1", () => {
    for (const { index } of workerPools(handle)) handle.restart(index, undefined, "received SIGUSR1");
  });
  attempt("SIGTTIN", () => scaleBy(handle, 1, "SIGTTIN", log));
  attempt("SIGTTOU", () => scaleBy(handle, -1, "SIGTTOU", log));
  process.on("SIGUSR2", () => log.warn("SIGUSR2 is not supported yet and ignored"));
  // Node.js blocks it for good where its debugger may not be started by it (--disable-sigusr1).
  unblockSignal(constants.signals.SIGUSR1);
}

function workerPools(handle: ControllerHandle): PoolView[] {
  return handle.view().pools.filter(({ role }) => role === "workers");
}

function scaleBy(handle: ControllerHandle, difference: number, signal: string, log: Logger): void {
  const [pool, ...others] = workerPools(handle);
  if (pool === undefined || others.length > 0) {
    log.warn(`${signal} is for the only pool, and there are ${others.length + 1}: use "monoceros scale"`);
    return;
  }
  const replicas = pool.replicas + difference;
  if (replicas < 1) log.warn(`${signal} is ignored: the last worker stays`);
  else handle.scale(pool.index, replicas, `received ${signal}`);
}
