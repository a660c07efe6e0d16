/**
 * The spawn shim (native/spawn): a 4 KB program that applies the settings of a process to itself and then executes the
 * process's program. This file places the shim, encodes its settings and decodes the failures that it reports.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { getRawAsset, isSea } from "node:sea";
import {
  awaitExit,
  openExecutableMemory,
  PreparedStrings,
  type ProcessRequest,
  RLIMITS,
  raiseDescriptor,
  SystemCallError,
  spawnProcess,
} from "../os/linux.ts";

/** Numeric identity of a process. */
export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  /** Numbers of capabilities below 32 that it keeps (capabilities(7), ambient set); none by default. */
  readonly ambient?: readonly number[] | undefined;
}

/** A limit to set. If `hard` is undefined, the hard limit stays, unless it is below `soft`. */
export interface LimitSetting {
  readonly soft: number | "unlimited";
  readonly hard: number | "unlimited" | undefined;
}

/** An absolute score, or one relative to the controller's, which the process inherits. */
export interface OomScore {
  readonly value: number;
  readonly isRelative: boolean;
}

/** Settings applied to a process before its program runs. */
export interface ProcessSettings {
  readonly credentials?: Credentials | undefined;
  readonly umask?: number | undefined;
  /** By their names in RLIMITS. */
  readonly rlimits?: ReadonlyMap<string, LimitSetting> | undefined;
  readonly nice?: number | undefined;
  readonly oomScoreAdj?: OomScore | undefined;
  /** Whether LISTEN_PID, whose value is ROOM_FOR_PID, is replaced with the pid of the process. */
  readonly hasListenPid?: boolean | undefined;
  /** Whether the kernel kills it when the controller exits. */
  readonly diesWithController?: boolean | undefined;
}

/** Placeholder for LISTEN_PID until the shim replaces it; has room for any pid. */
export const ROOM_FOR_PID = "0000000000";

/** RLIM_INFINITY. */
const UNLIMITED = "18446744073709551615";

/** The settings as the shim reads them; "" if there are none. `spawn.c` describes the letters. Pure. */
export function encodeSettings(settings: ProcessSettings, controllerPid: number): string {
  const { credentials, umask, rlimits, nice, oomScoreAdj, hasListenPid, diesWithController } = settings;
  const parts: string[] = [];
  if (nice !== undefined) parts.push(`n${nice}`);
  if (oomScoreAdj !== undefined) parts.push(`${oomScoreAdj.isRelative ? "O" : "o"}${oomScoreAdj.value}`);
  if (umask !== undefined) parts.push(`m${umask}`);
  if (hasListenPid === true) parts.push("p");
  // After the settings that open files.
  for (const [name, { soft, hard }] of rlimits ?? []) {
    const resource = RLIMITS[name];
    if (resource === undefined) continue;
    parts.push(`l${resource},${limitText(soft)},${hard === undefined ? "" : limitText(hard)}`);
  }
  // Drop privileges last, because other settings need them: groups first, the user last.
  if (credentials !== undefined) {
    if (credentials.ambient !== undefined && credentials.ambient.length > 0)
      parts.push(`a${credentials.ambient.join(",")}`);
    parts.push(`G${credentials.groups.join(",")}`, `g${credentials.gid}`, `u${credentials.uid}`);
  }
  if (diesWithController === true) parts.push(`d${controllerPid}`);
  return parts.map((part) => `${part};`).join("");
}

function limitText(value: number | "unlimited"): string {
  return value === "unlimited" ? UNLIMITED : String(value);
}

/** A failure that the shim reported. */
export interface ShimReport {
  /** Whether it prevented the program from starting. */
  readonly isFatal: boolean;
  /** The setting in the configuration's terms, or the system call. */
  readonly what: string;
  readonly errno: number;
}

const REPORT_BYTES = 8;

/** By letter: settings whose failure does not prevent a start, and the system calls of all others. */
const OPTIONAL: Readonly<Record<string, string>> = { n: "nice", o: "oom_score_adj" };
const CALLS: Readonly<Record<string, string>> = {
  x: "execve",
  c: "chdir",
  G: "setgroups",
  g: "setresgid",
  u: "setresuid",
  d: "prctl",
  a: "capset",
  r: "fcntl",
};

/** Decodes the records that the shim has written. Pure. */
export function decodeReports(bytes: Buffer): ShimReport[] {
  const reports: ShimReport[] = [];
  for (let at = 0; at + REPORT_BYTES <= bytes.length; at += REPORT_BYTES) {
    const letter = String.fromCharCode(bytes.readUInt8(at));
    const resource = bytes.readUInt8(at + 1);
    const limit = Object.keys(RLIMITS).find((name) => RLIMITS[name] === resource) ?? resource;
    const optional = letter === "l" ? `rlimit ${limit}` : OPTIONAL[letter];
    const what = optional ?? CALLS[letter] ?? `setting "${letter}"`;
    reports.push({ isFatal: optional === undefined, what, errno: bytes.readInt32LE(at + 4) });
  }
  return reports;
}

/** No place allows executing the shim; `reasons` say why, such as "from memory (EACCES)". */
interface Nowhere {
  readonly reasons: readonly string[];
}

type Place = { readonly fd: number } | { readonly path: string } | Nowhere;

/** Determined once per process. */
let place: Place | undefined;

/**
 * The path by which a child executes the shim; undefined if no place allows it. `lowestFd` is the lowest number that no
 * descriptor of the child has.
 */
export function shimPath(lowestFd: number): string | undefined {
  place ??= placeInMemory();
  if ("reasons" in place) return undefined;
  if ("path" in place) return place.path;
  const { fd } = place;
  // A failed raise closes it.
  place = undefined;
  place = { fd: raiseDescriptor(fd, lowestFd) };
  return `/proc/self/fd/${place.fd}`;
}

/**
 * Places the shim where it may be executed: in memory, otherwise in the directory that `directory` creates. Returns the
 * places that refused it, with the reason, or nothing on success. Call it before the first worker starts.
 */
export function placeShim(directory: () => string): readonly string[] {
  place ??= placeInMemory();
  if ("reasons" in place) place = placeInFile(directory, place.reasons);
  return "reasons" in place ? place.reasons : [];
}

/** Like placeShim, but for a directory that is removed afterwards: only checks. */
export function findShimObstacles(directory: () => string): readonly string[] {
  place ??= placeInMemory();
  if (!("reasons" in place)) return [];
  const inFile = placeInFile(directory, place.reasons);
  return "reasons" in inFile ? inFile.reasons : [];
}

function placeInMemory(): Place {
  try {
    const fd = openExecutableMemory("spawn", readShim());
    tryOut(`/proc/self/fd/${fd}`);
    return { fd };
  } catch (error) {
    return { reasons: [`from memory (${reasonOf(error)})`] };
  }
}

function placeInFile(directory: () => string, reasons: readonly string[]): Place {
  let parent = "a file";
  try {
    const own = directory();
    parent = dirname(own);
    const path = join(own, "spawn");
    // The shim runs as the controller's user until it changes its ids.
    writeFileSync(path, readShim(), { mode: 0o500 });
    tryOut(path);
    return { path };
  } catch (error) {
    // Keeps one reason per place if this is called again.
    return { reasons: [...reasons.slice(0, 1), `from ${parent} (${reasonOf(error)})`] };
  }
}

/** Only an exec shows whether a security module allows it. @throws SystemCallError */
function tryOut(file: string): void {
  awaitExit(spawnProcess({ ...NOTHING, file, argv: [""] }));
}

const NOTHING: Omit<ProcessRequest, "file" | "argv"> = {
  sharedEnv: new PreparedStrings([]),
  env: [],
  cwd: undefined,
  stdinFd: undefined,
  stdoutFd: undefined,
  stderrFd: undefined,
};

function reasonOf(error: unknown): string {
  if (error instanceof SystemCallError) return error.code;
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}

/** The executable contains the shim; for programs that run from source, the setup puts it beside the runtime. */
function readShim(): Uint8Array {
  if (isSea()) return new Uint8Array(getRawAsset("spawn"));
  const architecture = process.arch === "arm64" ? "aarch64" : "x86_64";
  return readFileSync(join(import.meta.dirname, `../../../node_modules/.runtime/spawn-${architecture}`));
}
