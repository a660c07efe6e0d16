/** Inotify instances, of which each user has few: an Envoy that cannot get one aborts. */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { ControllerError } from "../../base/errors.ts";
import { countFreeInotify } from "./linux.ts";
import { listPids } from "./procfs.ts";

/** An Envoy watches a directory each for listeners, clusters, routes and endpoints. */
export const INOTIFY_OF_ENVOY = 4;

/** A running Envoy watches what a reload replaces before it stops watching the old files. */
export const INOTIFY_OF_RELOAD = 2;

/**
 * Checks that Envoys can open so many instances as user `uid`; undefined is the controller's own.
 * @throws ControllerError INOTIFY_EXHAUSTED
 */
export function requireInotify(needed: number, uid?: number, count = countFree): void {
  const user = uid ?? process.geteuid?.() ?? 0;
  const free = count(needed, user);
  if (free >= needed) return;
  const limit = readLimit();
  throw new ControllerError(
    "INOTIFY_EXHAUSTED",
    `Envoy needs ${needed} more inotify instances, but uid ${user} has ${free} left` +
      `${limit === undefined ? "" : ` of the ${limit} of fs.inotify.max_user_instances`}`,
    { hint: "Raise the limit (`sysctl -w fs.inotify.max_user_instances=1024`), or run fewer Envoys as this user." },
  );
}

/** Only a user itself can ask the kernel; instances of another user are counted in /proc. */
function countFree(most: number, uid: number): number {
  if (uid === process.geteuid?.()) return countFreeInotify(most);
  const limit = readLimit();
  if (limit === undefined) return most;
  const open = listPids().reduce((sum, pid) => sum + (isOwnedBy(pid, uid) ? countOpen(pid) : 0), 0);
  return Math.max(0, Math.min(most, limit - open));
}

function isOwnedBy(pid: number, uid: number): boolean {
  return statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid === uid;
}

/** Instances that a process has open; 0 if it has exited or may not be looked at. */
function countOpen(pid: number): number {
  try {
    const directory = `/proc/${pid}/fd`;
    return readdirSync(directory).filter((fd) => readlinkSync(`${directory}/${fd}`) === "anon_inode:inotify").length;
  } catch {
    return 0;
  }
}

function readLimit(): number | undefined {
  try {
    return Number(readFileSync("/proc/sys/fs/inotify/max_user_instances", "utf8"));
  } catch {
    return undefined;
  }
}
