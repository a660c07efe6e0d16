/**
 * Closes connections of another process, for streams that would otherwise outlive their worker: Envoy keeps requests on
 * a removed endpoint running indefinitely and cannot end them. The process sees its connection closed, as if by the
 * peer. This needs Linux 5.6 and permission to trace the process (ptrace(2)); Docker's default seccomp profile denies
 * it without CAP_SYS_PTRACE.
 */
import { closeSync, readdirSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import {
  copyDescriptor,
  endConnection,
  type LocalEnd,
  openProcess,
  readConnection,
  SystemCallError,
} from "../os/linux.ts";

/** Descriptors handled per turn of the event loop; each takes some microseconds. */
const DESCRIPTORS_PER_TURN = 128;

/** `refused` is the code of the system call that failed, such as EPERM. */
export type EndedConnections = { readonly count: number } | { readonly refused: string };

/**
 * Closes the connections of a process to `address`, or with `side` own those that it accepted there.
 * Listening sockets are left alone. A process that has exited has none.
 */
export async function endConnections(
  pid: number,
  address: LocalEnd,
  side: "peer" | "own" = "peer",
): Promise<EndedConnections> {
  let descriptors: readonly number[];
  try {
    descriptors = readdirSync(`/proc/${pid}/fd`).map(Number);
  } catch (error) {
    const { code = String(error) } = error as NodeJS.ErrnoException;
    return code === "ENOENT" || code === "ESRCH" ? { count: 0 } : { refused: code };
  }
  let count = 0;
  let processFd: number | undefined;
  try {
    processFd = openProcess(pid);
    for (const [index, fd] of descriptors.entries()) {
      if (index > 0 && index % DESCRIPTORS_PER_TURN === 0) await turn();
      if (endIfMatching(processFd, fd, address, side)) count += 1;
    }
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    return error.code === "ESRCH" ? { count } : { refused: error.code };
  } finally {
    if (processFd !== undefined) closeSync(processFd);
  }
  return { count };
}

function endIfMatching(processFd: number, fd: number, address: LocalEnd, side: "peer" | "own"): boolean {
  const copy = copyDescriptor(processFd, fd);
  if (copy === undefined) return false;
  try {
    const end = readConnection(copy)?.[side];
    if (end === undefined || !isSame(end, address)) return false;
    endConnection(copy);
    return true;
  } finally {
    closeSync(copy);
  }
}

function isSame(a: LocalEnd, b: LocalEnd): boolean {
  return "port" in a ? "port" in b && a.port === b.port : "path" in b && a.path === b.path;
}
