/** Reads process data from /proc (proc(5)). If a process exits between two reads, the result is undefined. */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { decodeOsText } from "../../base/osText.ts";
import { printable } from "../../base/printable.ts";
import { listNames, procBytes, readNumber, readProcFile, readText } from "./procFile.ts";

/** The fields of /proc/<pid>/stat that are used here. */
export interface ProcessStat {
  readonly pid: number;
  readonly command: string;
  /** R, S, D, Z, T … */
  readonly state: string;
  readonly ppid: number;
  readonly processGroup: number;
  readonly session: number;
  /** User and system time in clock ticks. */
  readonly cpuTicks: number;
  /** The same for all descendants that this process, or a child before its own exit, has waited for. */
  readonly reapedTicks: number;
  /** Start time after boot in clock ticks; with the pid it identifies a process uniquely. */
  readonly startTicks: number;
  readonly virtualBytes: number;
  readonly rssPages: number;
}

const SPACE = 32;
const OPEN = 40;
const CLOSE = 41;
const MINUS = 45;
const ZERO = 48;

/** Fields from the parent, after the state, to the resident pages (proc_pid_stat(5)). */
const FIRST_NUMBER = 4;
const LAST_NUMBER = 24;

/** The numbers of the last stat; field n is at index n. */
const numbers = new Float64Array(LAST_NUMBER + 1);

/**
 * Parses /proc/<pid>/stat. Reads the numbers directly from the bytes, without a string for each field, because thousands
 * are parsed at a time. The command may contain any character, including parentheses; later fields contain none.
 */
export function parseStat(bytes: Buffer, length = bytes.length): ProcessStat | undefined {
  const open = bytes.indexOf(OPEN);
  const close = bytes.lastIndexOf(CLOSE, length - 1);
  if (open < 0 || close < open || close + 2 >= length) return undefined;
  let at = close + 4;
  for (let field = FIRST_NUMBER; field <= LAST_NUMBER; field++) {
    let value = 0;
    const isNegative = bytes[at] === MINUS;
    if (isNegative) at++;
    for (; at < length; at++) {
      const byte = bytes[at] ?? SPACE;
      if (byte === SPACE) break;
      value = value * 10 + byte - ZERO;
    }
    numbers[field] = isNegative ? -value : value;
    at++;
  }
  const number = (field: number) => numbers[field] ?? 0;
  const state = String.fromCharCode(bytes[close + 2] ?? 0);
  return {
    pid: Number(bytes.toString("latin1", 0, open)),
    command: bytes.toString("utf8", open + 1, close),
    // Z with more than one thread: only the main thread has exited; the process is still alive.
    state: state === "Z" && number(20) > 1 ? "S" : state,
    ppid: number(4),
    processGroup: number(5),
    session: number(6),
    cpuTicks: number(14) + number(15),
    reapedTicks: number(16) + number(17),
    startTicks: number(22),
    virtualBytes: number(23),
    rssPages: number(24),
  };
}

/** /proc/<pid>/stat, or the stat of one thread of the process. */
export function readStat(pid: number, tid?: number): ProcessStat | undefined {
  const length = readProcFile(tid === undefined ? `/proc/${pid}/stat` : `/proc/${pid}/task/${tid}/stat`);
  return length === undefined ? undefined : parseStat(procBytes, length);
}

/** All visible process ids, in no particular order. */
export function listPids(): number[] {
  return readdirSync("/proc")
    .filter((name) => name.charCodeAt(0) <= 57)
    .map(Number);
}

/** Parses a list of process ids, as in /proc/<pid>/task/<tid>/children. */
export function parsePids(text: string): number[] {
  return text.split(" ").flatMap((pid) => (pid === "" ? [] : [Number(pid)]));
}

/** Process ids of the direct children of this process's main thread, including zombies. */
export function listChildren(): number[] {
  const text = readText(`/proc/self/task/${process.pid}/children`);
  if (text !== undefined) return parsePids(text);
  return listPids().filter((pid) => readStat(pid)?.ppid === process.pid);
}

/**
 * A snapshot of the environment that a process was started with; undefined if it cannot be read. It is empty during an
 * execve(2), when the old memory is released and the new memory is not filled yet.
 */
export function readEnvironment(pid: number): ReadonlyMap<string, string> | undefined {
  const text = readText(`/proc/${pid}/environ`) ?? readThreadEnvironment(pid);
  if (text === undefined) return undefined;
  const entries = text.split("\0").filter((entry) => entry.includes("="));
  return new Map(entries.map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]));
}

/**
 * `environment`, which is process.env, with the exact bytes of each name and value (osText.ts): Node.js replaces bytes
 * that are not UTF-8. Variables removed or changed since the start stay so. If a name occurs several times, the first
 * entry counts, as for getenv(3). `environ` is the content of /proc/self/environ.
 */
export function exactEnvironment(
  environment: NodeJS.ProcessEnv,
  environ: Buffer | undefined = readOwnEnviron(),
): Readonly<Record<string, string | undefined>> {
  const exact = new Map<string, string | undefined>();
  for (let at = 0; environ !== undefined && at < environ.length; ) {
    const zero = environ.indexOf(0, at);
    const entry = environ.subarray(at, zero === -1 ? environ.length : zero);
    at += entry.length + 1;
    const equals = entry.indexOf("=");
    if (equals <= 0) continue;
    const name = decodeOsText(entry.subarray(0, equals));
    // process.env does not know names that are not UTF-8, so nothing can have removed them.
    const isPresent = !name.isWellFormed() || environment[name] === entry.toString("utf8", equals + 1);
    if (!isPresent || exact.has(name)) continue;
    exact.set(name, decodeOsText(entry.subarray(equals + 1)));
  }
  for (const [name, value] of Object.entries(environment)) if (!exact.has(name)) exact.set(name, value);
  return Object.fromEntries(exact);
}

/** Whether a state is that of a process which has exited. */
export function isDead({ state }: { readonly state: string }): boolean {
  return state === "Z" || state === "X";
}

function readOwnEnviron(): Buffer | undefined {
  try {
    return readFileSync("/proc/self/environ");
  } catch {
    return undefined;
  }
}

/** Reads the same text from another thread: an exited main thread has none (ESRCH) while its process lives. */
function readThreadEnvironment(pid: number): string | undefined {
  for (const thread of listNames(`/proc/${pid}/task`)) {
    const text = Number(thread) === pid ? undefined : readText(`/proc/${pid}/task/${thread}/environ`);
    if (text !== undefined) return text;
  }
  return undefined;
}

/** The value of a variable in the environment a process was started with; undefined if it cannot be read. */
export function readEnvironmentVariable(pid: number, name: string): string | undefined {
  return readEnvironment(pid)?.get(name);
}

/** Whether a process is in this process's PID namespace; false if that cannot be read. */
export function sharesPidNamespace(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`) === readlinkSync("/proc/self/ns/pid");
  } catch {
    return false;
  }
}

const MAX_COMMAND_LENGTH = 200;

/** The command line of a process, separated by spaces and cut to 200 characters; its name if it has none. */
export function readCommandLine(pid: number): string | undefined {
  const text = readText(`/proc/${pid}/cmdline`);
  if (text === undefined) return undefined;
  const line = printable(text.slice(0, MAX_COMMAND_LENGTH)).trim().slice(0, MAX_COMMAND_LENGTH);
  return line === "" ? `[${printable(readStat(pid)?.command ?? "?")}]` : line;
}

/** The soft limit on open files of a process, from /proc/<pid>/limits. */
export function readSoftNofile(pid: number): number | "unlimited" | undefined {
  const soft = /^Max open files\s+(\S+)/mu.exec(readText(`/proc/${pid}/limits`) ?? "")?.[1];
  if (soft === undefined) return undefined;
  return soft === "unlimited" ? "unlimited" : Number(soft);
}

/** The oom_score_adj of this process; undefined if it cannot be read. */
export function readOwnOomScoreAdj(): number | undefined {
  return readNumber("/proc/self/oom_score_adj");
}

/** Kernel functions that a process waits in, innermost first; undefined if they cannot be read. */
export function readKernelStack(pid: number): readonly string[] | undefined {
  const lines = readText(`/proc/${pid}/stack`)
    ?.split("\n")
    .map((line) => line.replace(/^\[<[0-9a-f]*>\] /u, "").trim());
  return lines?.filter((line) => line !== "");
}

/** Number of open descriptors; undefined if hidden. Since Linux 6.2 it is the size of the directory. */
export function countOpenFds(pid: number): number | undefined {
  const path = `/proc/${pid}/fd`;
  try {
    const { size } = statSync(path);
    return size > 0 ? size : readdirSync(path).length;
  } catch {
    return undefined;
  }
}

/** All descendants of `root` at this moment, nearest first. */
export function listDescendants(root: number): number[] {
  const children = Map.groupBy(listPids(), (pid) => readStat(pid)?.ppid);
  const found: number[] = [];
  for (let queue = children.get(root) ?? []; queue.length > 0; ) {
    found.push(...queue);
    queue = queue.flatMap((pid) => children.get(pid) ?? []);
  }
  return found;
}

/** A process that listens on a TCP port. */
export interface Listener {
  readonly pid: number;
  readonly command: string;
}

/** `pid 7 (nginx)`; "another process" if it is unknown. */
export function formatHolder(holder: Listener | undefined): string {
  return holder === undefined ? "another process" : `pid ${holder.pid} (${holder.command})`;
}

/** The process that listens on a TCP port, if this process can see it. */
export function findListener(port: number): Listener | undefined {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  // Field 3 is the state, 0A is LISTEN; field 9 is the inode of the socket.
  const listening = [...rowsOf("/proc/net/tcp"), ...rowsOf("/proc/net/tcp6")].filter(
    ({ 1: local, 3: state }) => state === "0A" && local?.endsWith(wanted),
  );
  return findHolder(listening.map((fields) => fields[9]));
}

/** The process that has bound a Unix socket to a path. */
export function findUnixListener(path: string): Listener | undefined {
  const bound = rowsOf("/proc/net/unix").filter((fields) => fields.slice(7).join(" ") === path);
  return findHolder(bound.map((fields) => fields[6]));
}

/** The rows of a table without its heading, split into fields. */
function rowsOf(table: string): string[][] {
  const rows = (readText(table) ?? "").split("\n").slice(1);
  return rows.map((row) => row.trim().split(/\s+/u));
}

/** Another process that holds a socket with one of these inodes. */
function findHolder(inodes: readonly (string | undefined)[]): Listener | undefined {
  if (inodes.length === 0) return undefined;
  const targets = new Set(inodes.map((inode) => `socket:[${inode}]`));
  const pid = listPids().find(
    (each) => each !== process.pid && listFdTargets(each).some((target) => targets.has(target)),
  );
  return pid === undefined ? undefined : { pid, command: readCommandLine(pid) ?? "?" };
}

/** The targets of a process's descriptors; none if it has exited or belongs to another user. */
export function* listFdTargets(pid: number): Generator<string> {
  for (const fd of listNames(`/proc/${pid}/fd`)) {
    try {
      yield readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      // The descriptor was closed in the meantime; the others still count.
    }
  }
}
