/**
 * Files and directories for Envoy only. An Envoy with its own user may read but not change them: the controller, which
 * then runs as root, writes in these directories and must not be redirected by a symlink.
 */
import { chmodSync, chownSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { JsonObject } from "../resources/json.ts";
import type { ProxyUser } from "../resources/settings.ts";

/** Other users may traverse the directory to reach their own files. */
const PASSABLE = 0o711;

/** Creates a directory that all users may traverse, and its missing parents. @throws Error of the system */
export function makePassable(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return;
    if (code !== "ENOENT") throw error;
    // Not with `recursive`: on a read-only file system Node.js would then report ENOENT.
    makePassable(dirname(path));
    mkdirSync(path);
  }
  // Regardless of the umask.
  chmodSync(path, PASSABLE);
}

/** Creates a directory whose files Envoy may read and whose changes it may watch. @throws Error of the system */
export function makeReadable(path: string, user: ProxyUser | undefined): void {
  make(path, user, (gid) => {
    chownSync(path, process.getuid?.() ?? 0, gid);
    chmodSync(path, 0o750);
  });
}

/** Creates a directory in which Envoy may create files. @throws Error of the system */
export function makeOwn(path: string, user: ProxyUser | undefined): void {
  make(path, user, (gid, uid) => {
    chownSync(path, uid, gid);
    chmodSync(path, 0o700);
  });
}

function make(path: string, user: ProxyUser | undefined, give: (gid: number, uid: number) => void): void {
  if (user === undefined) {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return;
  }
  makePassable(dirname(path));
  mkdirSync(path, { recursive: true, mode: 0o700 });
  give(user.gid, user.uid);
}

/** Writes a file atomically; only Envoy may read it. @throws Error of the system */
export function writePrivate(file: string, content: string | Uint8Array, user: ProxyUser | undefined): void {
  const temporary = `${file}.new`;
  writeFileSync(temporary, content, { mode: 0o600 });
  if (user !== undefined) chownSync(temporary, user.uid, user.gid);
  renameSync(temporary, file);
}

/** Like writePrivate, for JSON. @throws Error of the system */
export function writeWhole(file: string, content: JsonObject, user?: ProxyUser): void {
  writePrivate(file, JSON.stringify(content), user);
}
