/** Inotify instances. Each user has few of them, and an Envoy that cannot get one aborts. */
import { statSync } from "node:fs";
import { ControllerError } from "../../base/errors.ts";
import { countFreeInotify } from "./linux.ts";
import { readNumber } from "./procFile.ts";
import { listFdTargets, listPids } from "./procfs.ts";

/** Envoy watches one directory each for listeners, clusters, routes and endpoints. */
export const INOTIFY_OF_ENVOY = 4;

/** During a reload, Envoy watches the new files before it stops watching the old ones. */
export const INOTIFY_OF_RELOAD = 2;

/**
 * Checks that Envoys can open `needed` more instances as user `uid`; undefined means the controller's user.
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

/** Only the user itself can probe its limit; instances of another user are counted in /proc. */
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

/** Instances that a process has open; 0 if it has exited or cannot be inspected. */
function countOpen(pid: number): number {
  return [...listFdTargets(pid)].filter((target) => target === "anon_inode:inotify").length;
}

function readLimit(): number | undefined {
  return readNumber("/proc/sys/fs/inotify/max_user_instances");
}
