/**
 * Checks that the port of a worker is free, before a start and before each spawn: another process on it would answer for
 * the worker, or take some of its connections.
 */
import { lstatSync } from "node:fs";
import { ControllerError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { whyNotBindable } from "../os/linux.ts";
import { findListener, findUnixListener, formatHolder } from "../os/procfs.ts";
import { LeftoverWait } from "../process/leftovers.ts";
import { readUnixListeners } from "./socketTable.ts";

/** Ports that are assigned to the workers of a pool. */
export interface PortRange {
  readonly pool: string;
  /** The first and the last port. */
  readonly from: number;
  readonly to: number;
}

/** Whether the port on loopback is in use, even for a program that sets SO_REUSEADDR. Ignores other errors. */
function isTaken(port: number): boolean {
  return whyNotBindable({ family: "IPv4", host: "127.0.0.1", port }) === "EADDRINUSE";
}

/** @throws ControllerError PORT_IN_USE if another process holds the port that a worker is about to use. */
export function checkPort(port: number): void {
  const taken = findTakenPort({ from: port, to: port });
  if (taken !== undefined) throw new ControllerError("PORT_IN_USE", taken);
}

/** The first port of a range that is in use, and by which process; undefined if all are free. */
export function findTakenPort({ from, to }: Omit<PortRange, "pool">): string | undefined {
  for (let port = from; port <= to; port++)
    if (isTaken(port)) return `port ${port} is held by ${formatHolder(findListener(port))}`;
  return undefined;
}

/** @throws ControllerError SOCKET_IN_USE if another process listens on the path that a worker is about to use. */
export function checkSocketPath(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
  if (readUnixListeners()?.some((listener) => listener.path === path) !== true) return;
  throw new ControllerError("SOCKET_IN_USE", `${formatHolder(findUnixListener(path))} listens on ${path}`);
}

/**
 * Checks every port of a range. Waits for workers of a controller that was killed, which are about to exit. Rejects
 * with a ControllerError PORT_IN_USE.
 */
export async function checkPorts({ pool, from, to }: PortRange, key: string, log: Logger): Promise<void> {
  const leftovers = new LeftoverWait(`pool "${pool}"`, log);
  for (let port = from; port <= to; ) {
    if (!isTaken(port)) port++;
    else if (!(await leftovers.isWorthIt(findListener(port))))
      throw new ControllerError(
        "PORT_IN_USE",
        `Cannot start pool "${pool}": port ${port} (of worker ports ${from} to ${to}) is held by ${formatHolder(findListener(port))}`,
        { hint: `Stop that process, or set another ${key}.` },
      );
  }
}
