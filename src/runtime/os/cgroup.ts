/**
 * This process's control group and its ancestors, version 1 and 2 (cgroups(7)), and their memory limits
 * (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel).
 */
import { dirname } from "node:path";
import { readText } from "./procFile.ts";

const MEMBERSHIP = "/proc/self/cgroup";

/** Reads a file as text; undefined if it cannot be read. */
export type ReadText = (path: string) => string | undefined;

/** The directory of a control group. */
export interface GroupDirectory {
  readonly version: 1 | 2;
  readonly path: string;
}

/**
 * Directories of this process's group and of all its ancestors, for a controller such as "cpu". `mounts` are the names
 * under which version 1 mounts it. Some directories may not exist: a path may belong to another namespace; then the
 * topmost directory is still this process's own.
 */
export function groupDirectories(
  controller: string,
  mounts: readonly string[],
  read: ReadText = readText,
): readonly GroupDirectory[] {
  return (read(MEMBERSHIP) ?? "").split("\n").flatMap((line) => {
    const match = /^\d+:([^:]*):(\/.*)$/u.exec(line);
    if (match === null) return [];
    const [, controllers = "", group = "/"] = match;
    if (controllers === "") return climb(2, ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], group);
    if (!controllers.split(",").includes(controller)) return [];
    const roots = mounts.map((name) => `/sys/fs/cgroup/${name}`);
    return climb(1, roots, group);
  });
}

function climb(version: 1 | 2, roots: readonly string[], group: string): GroupDirectory[] {
  const found: GroupDirectory[] = [];
  for (const root of roots) {
    for (let at = group; ; at = dirname(at)) {
      found.push({ version, path: at === "/" ? root : `${root}${at}` });
      if (at === "/") break;
    }
  }
  return found;
}

/** Version 1 reports "no limit" as the largest number of pages; real limits stay far below this. */
const NO_LIMIT_BYTES = 2 ** 60;

/** Memory in bytes that all processes of this control group may use together; undefined if there is no limit. */
export function memoryBoundBytes(read: ReadText = readText): number | undefined {
  const limits = groupDirectories("memory", ["memory"], read).flatMap(({ version, path }) => {
    const text = read(`${path}/${version === 2 ? "memory.max" : "memory.limit_in_bytes"}`)?.trim() ?? "";
    // "max" is not a number.
    return /^\d+$/u.test(text) && Number(text) < NO_LIMIT_BYTES ? [Number(text)] : [];
  });
  return limits.length === 0 ? undefined : Math.min(...limits);
}

/**
 * For repeated reads of the limits: reads this process's control groups only once, and never reads a missing file
 * again.
 */
export function repeatedly(read: ReadText = readText): ReadText {
  const known = new Map<string, string | undefined>();
  return (path) => {
    if (known.has(path)) return known.get(path);
    const text = read(path);
    if (text === undefined || path === MEMBERSHIP) known.set(path, text);
    return text;
  };
}
