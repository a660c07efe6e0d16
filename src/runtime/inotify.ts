/** Inotify instances, of which each user has few: an Envoy that cannot get one aborts. */
import { readFileSync } from "node:fs";
import { ControllerError } from "../base/errors.ts";
import { countFreeInotify } from "./linux.ts";

/** An Envoy watches a directory each for listeners, clusters, routes and endpoints. */
export const INOTIFY_OF_ENVOY = 4;

/** A running Envoy watches anew what a reload replaces, before it lets go of the old. */
export const INOTIFY_OF_RELOAD = 2;

/** Checks that so many instances are left for this user. @throws ControllerError INOTIFY_EXHAUSTED */
export function requireInotify(needed: number, count: (most: number) => number = countFreeInotify): void {
  const free = count(needed);
  if (free >= needed) return;
  const limit = readLimit();
  throw new ControllerError(
    "INOTIFY_EXHAUSTED",
    `Envoy needs ${needed} more inotify instances, but uid ${process.geteuid?.()} has ${free} left` +
      `${limit === undefined ? "" : ` of the ${limit} of fs.inotify.max_user_instances`}`,
    { hint: "Raise the limit (`sysctl -w fs.inotify.max_user_instances=1024`), or run fewer Envoys as this user." },
  );
}

function readLimit(): number | undefined {
  try {
    return Number(readFileSync("/proc/sys/fs/inotify/max_user_instances", "utf8"));
  } catch {
    return undefined;
  }
}
