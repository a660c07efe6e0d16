/** Finds workers of an earlier controller that was killed: they still serve, hold ports and know nobody. */
import { CONTROLLER_MARK } from "./lifeline.ts";
import { listPids, readCommandLine, readEnvironmentVariable, readStat, sharesPidNamespace } from "./procfs.ts";

/** A worker whose controller is gone. */
export interface Leftover {
  readonly pid: number;
  readonly command: string;
  /** `<pool>-<slot>` it was. */
  readonly worker: string;
  readonly controllerPid: number;
}

/** The mark of this process: its pid and its start, so that a reused pid is not taken for it. */
export function controllerMark(): string {
  return `${process.pid}.${readStat(process.pid)?.startTicks ?? 0}`;
}

/** All leftovers that this process may see. */
export function findLeftovers(): Leftover[] {
  return listPids().flatMap((pid) => leftoverOf(pid) ?? []);
}

/** What a process is left over from; undefined where its controller lives, or it never had one. */
export function leftoverOf(pid: number): Leftover | undefined {
  const mark = readEnvironmentVariable(pid, CONTROLLER_MARK);
  if (mark === undefined || pid === process.pid) return undefined;
  const [controllerPid, start] = mark.split(".").map(Number);
  if (controllerPid === undefined || readStat(controllerPid)?.startTicks === start) return undefined;
  // The pid in the mark of a worker inside a container means another process than it does out here.
  if (!sharesPidNamespace(pid)) return undefined;
  const worker = `${readEnvironmentVariable(pid, "MONOCEROS_POOL")}-${readEnvironmentVariable(pid, "MONOCEROS_SLOT")}`;
  return { pid, command: readCommandLine(pid) ?? "?", worker, controllerPid };
}
