/** Collects the input for trust.ts (the steps of a path, the existing users) and returns its decision for one path. */
import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { type Distrust, type FileKind, findDistrust, type PathStep, type Population } from "./trust.ts";

/** The maximum number of symbolic links that the kernel follows. */
const MAX_LINKS = 40;

/** Inode of the initial PID namespace, the ancestor of all others (PROC_PID_INIT_INO). */
const INITIAL_PID_NAMESPACE = "pid:[4026531836]";

/** A user that processes run as, with all its groups. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

export interface TrustOptions {
  /** A user that may own the path, such as the one a program runs as; root and the controller's user always may. */
  readonly owner?: number | undefined;
  /** Users that the controller's processes will run as, besides users of running processes. */
  readonly identities?: readonly Identity[];
}

/** Why another user controls the target of `path`; undefined if none does. Ignores parts that do not exist yet. */
export function distrustOf(path: string, { owner, identities = [] }: TrustOptions = {}): Distrust | undefined {
  const owners = new Set([0, process.getuid?.() ?? 0, ...(owner === undefined ? [] : [owner])]);
  return findDistrust(stepsOf(path), owners, readPopulation(identities));
}

/** The steps of `path` as far as they exist and may be seen. */
export function stepsOf(path: string): readonly PathStep[] {
  const steps: PathStep[] = [];
  const rest = resolve(path).split("/");
  let at = "/";
  for (let links = 0; rest.length > 0; ) {
    const name = rest.shift() ?? "";
    if (name === "..") {
      at = dirname(at);
      continue;
    }
    const next = name === "" || name === "." ? at : join(at, name);
    if (next === at && steps.length > 0) continue;
    let stats: Stats;
    try {
      stats = lstatSync(next);
      if (!stats.isSymbolicLink()) at = next;
      else if (++links > MAX_LINKS) return steps;
      else {
        const target = readlinkSync(next);
        if (target.startsWith("/")) at = "/";
        rest.unshift(...target.split("/"));
      }
    } catch {
      return steps;
    }
    steps.push({ path: next, kind: kindOf(stats), uid: stats.uid, gid: stats.gid, mode: stats.mode });
  }
  return steps;
}

export function kindOf(stats: Stats): FileKind {
  if (stats.isDirectory()) return "directory";
  if (stats.isSymbolicLink()) return "symlink";
  if (stats.isSocket()) return "socket";
  if (stats.isFIFO()) return "FIFO";
  return stats.isFile() ? "file" : "device";
}

function readPopulation(identities: readonly Identity[]): Population {
  let members: ReadonlyMap<number, readonly number[]> | undefined;
  const mapped = readText("/proc/self/uid_map")
    .split("\n")
    .map((line) => line.trim().split(/\s+/u).map(Number));
  return {
    users: isContained() ? new Set([...runningUsers(), ...identities.map(({ uid }) => uid)]) : "any",
    isMapped: (uid) => mapped.some(([first = 0, , count = 0]) => uid >= first && uid < first + count),
    membersOf: (gid) => {
      members ??= readMembers();
      const ours = identities.filter((each) => each.gid === gid || each.groups.includes(gid)).map(({ uid }) => uid);
      return [...(members.get(gid) ?? []), ...ours];
    },
  };
}

/** Whether the visible processes are all there are, except for outside processes with access to this container. */
function isContained(): boolean {
  try {
    return readlinkSync("/proc/self/ns/pid") !== INITIAL_PID_NAMESPACE;
  } catch {
    return false;
  }
}

function runningUsers(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/u.test(name))
    .flatMap((pid) => {
      try {
        return statSync(`/proc/${pid}`).uid;
      } catch {
        // The process has exited.
        return [];
      }
    });
}

/** Users by group, from /etc/passwd and /etc/group. */
function readMembers(): ReadonlyMap<number, readonly number[]> {
  const members = new Map<number, number[]>();
  const add = (gid: number, uid: number) => members.set(gid, [...(members.get(gid) ?? []), uid]);
  const uids = new Map<string, number>();
  for (const [name = "", , uid, gid] of readTable("/etc/passwd")) {
    uids.set(name, Number(uid));
    add(Number(gid), Number(uid));
  }
  for (const [, , gid, names = ""] of readTable("/etc/group"))
    for (const name of names.split(",")) {
      const uid = uids.get(name);
      if (uid !== undefined) add(Number(gid), uid);
    }
  return members;
}

function readTable(path: string): string[][] {
  return readText(path)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split(":"));
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
