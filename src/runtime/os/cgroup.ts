/**
 * The control groups around this process, version 1 and 2 (cgroups(7)), and how much memory they allow
 * (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel).
 */
import { readFileSync } from "node:fs";
import { dirname } from "node:path";

const MEMBERSHIP = "/proc/self/cgroup";

/** Reads a file as text; undefined where it cannot be read. */
export type ReadText = (path: string) => string | undefined;

/** A directory that stands for a group. */
export interface GroupDirectory {
  readonly version: 1 | 2;
  readonly path: string;
}

/**
 * Directories of the group that this process is in, and of all groups around it, for a controller such as "cpu"; `mounts`
 * are the names under which version 1 mounts it. Some may not exist: a path may be that of another namespace, and then
 * the topmost directory still is our own.
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

/** Version 1 says "no limit" by the largest number of pages; nothing real comes near this. */
const NO_LIMIT_BYTES = 2 ** 60;

/** Bytes that all processes of this one's control group may use together; undefined where there is no limit. */
export function memoryBoundBytes(read: ReadText = readText): number | undefined {
  const limits = groupDirectories("memory", ["memory"], read).flatMap(({ version, path }) => {
    const text = read(`${path}/${version === 2 ? "memory.max" : "memory.limit_in_bytes"}`)?.trim() ?? "";
    // "max" is no number.
    return /^\d+$/u.test(text) && Number(text) < NO_LIMIT_BYTES ? [Number(text)] : [];
  });
  return limits.length === 0 ? undefined : Math.min(...limits);
}

/**
 * For looks at the limits that repeat: reads the control groups of this process only once, and no file again that was
 * missing.
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

/** The system's own files. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
