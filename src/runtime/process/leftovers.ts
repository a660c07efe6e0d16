/** Finds workers of an earlier controller that was killed: they still serve and hold ports, but are unmanaged. */

import { setTimeout as wait } from "node:timers/promises";
import type { Logger } from "../../base/log.ts";
import { monotonicMs } from "../../base/monotonic.ts";
import { type Listener, readCommandLine, readEnvironmentVariable, readStat, sharesPidNamespace } from "../os/procfs.ts";
import { CONTROLLER_MARK } from "./guardian.ts";

/** How long workers of a killed controller may still hold an address: the guardian stops them within 2 s. */
const LEFTOVER_BOUND_MS = 3000;
const LEFTOVER_POLL_MS = 50;

/** A worker whose controller has exited. */
export interface Leftover {
  readonly pid: number;
  readonly command: string;
  /** `<pool>-<slot>`. */
  readonly worker: string;
  readonly controllerPid: number;
}

/** The mark of this process: its pid and start time, so that a reused pid does not match. */
export function controllerMark(): string {
  return `${process.pid}.${readStat(process.pid)?.startTicks ?? 0}`;
}

/** Describes a leftover process; undefined if its controller is alive or it never had one. */
export function leftoverOf(pid: number): Leftover | undefined {
  const mark = readEnvironmentVariable(pid, CONTROLLER_MARK);
  if (mark === undefined || pid === process.pid) return undefined;
  const [controllerPid, start] = mark.split(".").map(Number);
  if (controllerPid === undefined || readStat(controllerPid)?.startTicks === start) return undefined;
  // In another pid namespace (a container), the pid in the mark names a different process.
  if (!sharesPidNamespace(pid)) return undefined;
  const worker = `${readEnvironmentVariable(pid, "MONOCEROS_POOL")}-${readEnvironmentVariable(pid, "MONOCEROS_SLOT")}`;
  return { pid, command: readCommandLine(pid) ?? "?", worker, controllerPid };
}

/** Waits for workers of a controller that was killed: its guardian is about to stop them. */
export class LeftoverWait {
  readonly #what: string;
  readonly #log: Logger;
  readonly #deadlineMs = monotonicMs() + LEFTOVER_BOUND_MS;
  #isReported = false;

  /** `what` names the waiting resource, such as `socket "http"`. */
  constructor(what: string, log: Logger) {
    this.#what = what;
    this.#log = log;
  }

  /** Whether to retry because the holder is such a worker. If so, waits a moment first. */
  async isWorthIt(holder: Listener | undefined): Promise<boolean> {
    const leftover = holder === undefined ? undefined : leftoverOf(holder.pid);
    if (leftover === undefined || monotonicMs() >= this.#deadlineMs) return false;
    const { pid, worker, controllerPid } = leftover;
    if (!this.#isReported)
      this.#log.info(
        `${this.#what} waits until pid ${pid} has exited: worker "${worker}" of controller ${controllerPid}, which has exited`,
      );
    this.#isReported = true;
    await wait(LEFTOVER_POLL_MS);
    return true;
  }
}
