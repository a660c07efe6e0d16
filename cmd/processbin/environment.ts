/**
 * What the controller gave this process, read from /proc. The soft limit of open files is not what was inherited:
 * Node.js raises it to the hard limit at its start (ask `sh -c "ulimit -n"` for the inherited one).
 */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { getPriority } from "node:os";

/** A signal set as /proc prints it, as names are of no use to a comparison: 16 hexadecimal digits. */
type SignalMask = string;

/** What this process inherited. */
export interface Environment {
  readonly pid: number;
  readonly ppid: number;
  readonly processGroup: number;
  readonly session: number;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly umask: number;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly nice: number;
  readonly oomScoreAdj: number;
  /** Soft and hard value by name of /proc/self/limits ("Max open files"), as text ("unlimited"). */
  readonly limits: Readonly<Record<string, readonly [soft: string, hard: string]>>;
  /** Target by descriptor number, for example "pipe:[4711]". */
  readonly fds: Readonly<Record<string, string>>;
  readonly signals: Readonly<Record<"pending" | "blocked" | "ignored" | "caught", SignalMask>>;
}

/** Reads what this process inherited. */
export function readEnvironment(): Environment {
  const status = readFileSync("/proc/self/status", "latin1");
  const statusField = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, "mu").exec(status)?.[1] ?? "";
  const stat = readFileSync("/proc/self/stat", "latin1");
  // Field 2, the name, may hold blanks and parentheses; counting starts after its last parenthesis.
  const [, , processGroup, session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return {
    pid: process.pid,
    ppid: process.ppid,
    processGroup: Number(processGroup),
    session: Number(session),
    argv: process.argv,
    env: process.env,
    cwd: process.cwd(),
    umask: process.umask(),
    uid: process.getuid?.() ?? -1,
    gid: process.getgid?.() ?? -1,
    groups: process.getgroups?.() ?? [],
    nice: getPriority(),
    oomScoreAdj: Number(readFileSync("/proc/self/oom_score_adj", "latin1")),
    limits: readLimits(),
    fds: readDescriptors(),
    signals: {
      pending: statusField("SigPnd"),
      blocked: statusField("SigBlk"),
      ignored: statusField("SigIgn"),
      caught: statusField("SigCgt"),
    },
  };
}

function readLimits(): Record<string, [string, string]> {
  const limits: Record<string, [string, string]> = {};
  for (const line of readFileSync("/proc/self/limits", "latin1").split("\n").slice(1)) {
    const match = /^(.+?)\s{2,}(\S+)\s+(\S+)/u.exec(line);
    if (match?.[1] !== undefined && match[2] !== undefined && match[3] !== undefined) {
      limits[match[1]] = [match[2], match[3]];
    }
  }
  return limits;
}

function readDescriptors(): Record<string, string> {
  const targets: Record<string, string> = {};
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      targets[fd] = readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The descriptor of the directory listing itself, closed by now.
    }
  }
  return targets;
}
