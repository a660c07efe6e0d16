/**
 * Whether a port is free for the worker that is to listen on it. Tested before a start and before each spawn: a stranger
 * there would answer for the worker, or share its connections with it.
 */
import { lstatSync } from "node:fs";
import { ControllerError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { LeftoverWait } from "./leftovers.ts";
import { whyNotBindable } from "./linux.ts";
import { findListener, findUnixListener } from "./procfs.ts";
import { readUnixListeners } from "./socketTable.ts";

/** Ports that workers of a pool are told to use. */
export interface PortRange {
  readonly pool: string;
  /** The first and the last one. */
  readonly from: number;
  readonly to: number;
}

/** Whether a program that sets SO_REUSEADDR could bind the port on loopback. Other errors than a taken port are its own. */
function isTaken(port: number): boolean {
  return whyNotBindable({ family: "IPv4", host: "127.0.0.1", port }) === "EADDRINUSE";
}

/** Who has a port, in words. */
function holderOf(port: number): string {
  const holder = findListener(port);
  return holder === undefined ? "another process" : `pid ${holder.pid} (${holder.command})`;
}

/** @throws ControllerError PORT_IN_USE where somebody has the port that a worker is about to use. */
export function checkPort(port: number): void {
  if (isTaken(port)) throw new ControllerError("PORT_IN_USE", `port ${port} is held by ${holderOf(port)}`);
}

/** The first port of a range that somebody has, and who; undefined where all are free. */
export function findTakenPort({ from, to }: Omit<PortRange, "pool">): string | undefined {
  for (let port = from; port <= to; port++) if (isTaken(port)) return `port ${port} is held by ${holderOf(port)}`;
  return undefined;
}

/** @throws ControllerError SOCKET_IN_USE where somebody listens on the path that a worker is about to use. */
export function checkSocketPath(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
  const isListening = readUnixListeners().some((listener) => listener.path === path);
  if (!isListening) return;
  const holder = findUnixListener(path);
  const who = holder === undefined ? "another process" : `pid ${holder.pid} (${holder.command})`;
  throw new ControllerError("SOCKET_IN_USE", `${who} listens on ${path}`);
}

/**
 * Checks every port of a range; waits for workers of a controller that was killed, which are about to end. Rejects with a
 * ControllerError PORT_IN_USE.
 */
export async function checkPorts({ pool, from, to }: PortRange, key: string, log: Logger): Promise<void> {
  const leftovers = new LeftoverWait(`pool "${pool}"`, log);
  for (let port = from; port <= to; ) {
    if (!isTaken(port)) port++;
    else if (!(await leftovers.isWorthIt(findListener(port))))
      throw new ControllerError(
        "PORT_IN_USE",
        `Cannot start pool "${pool}": port ${port}, one of ports ${from} to ${to} of its workers, is held by ${holderOf(port)}`,
        { hint: `End it, or set another ${key}.` },
      );
  }
}
