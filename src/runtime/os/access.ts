/** Checks access to a path by its directories' permission bits (path_resolution(7)). Ignores access control lists. */
import { existsSync, realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Credentials } from "../process/spawnShim.ts";

/**
 * The directory above `path`, or `path` itself, that a process with these ids may not enter or execute; undefined if it
 * may, or if `path` does not exist.
 */
export function findClosed(path: string, ids: Pick<Credentials, "uid" | "gid" | "groups">): string | undefined {
  if (ids.uid === 0 || !existsSync(path)) return undefined;
  // A symlink in the path leads through other directories.
  for (const start of new Set([path, realpathSync(path)])) {
    const closed = ancestors(start).findLast((each) => !mayExecute(each, ids));
    if (closed !== undefined) return closed;
  }
  return undefined;
}

/** `path`, then each directory above it. */
function ancestors(path: string): string[] {
  const found = [path];
  for (let at = path; dirname(at) !== at; ) {
    at = dirname(at);
    found.push(at);
  }
  return found;
}

function mayExecute(path: string, { uid, gid, groups }: Pick<Credentials, "uid" | "gid" | "groups">): boolean {
  const stat = statSync(path);
  const shift = stat.uid === uid ? 6 : stat.gid === gid || groups.includes(stat.gid) ? 3 : 0;
  return ((stat.mode >> shift) & 1) === 1;
}
