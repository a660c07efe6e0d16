/**
 * Files and directories for Envoy alone. An Envoy with a user of its own may read what is there but change nothing: the
 * controller, which is root then, writes in these directories and must not be led elsewhere by a symlink.
 */
import { chmodSync, chownSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { JsonObject } from "../resources/json.ts";
import type { ProxyUser } from "../resources/settings.ts";

/** Others may pass through to what is theirs. */
const PASSABLE = 0o711;

/** Makes a directory that all users may pass through, and those above it where they are missing. @throws Error of the system */
export function makePassable(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return;
    if (code !== "ENOENT") throw error;
    // Not all at once: on a read-only file system Node.js would say ENOENT then.
    makePassable(dirname(path));
    mkdirSync(path);
  }
  // Whatever the umask says.
  chmodSync(path, PASSABLE);
}

/** Makes a directory whose files Envoy may read and whose changes it may watch. @throws Error of the system */
export function makeReadable(path: string, user: ProxyUser | undefined): void {
  make(path, user, (gid) => {
    chownSync(path, process.getuid?.() ?? 0, gid);
    chmodSync(path, 0o750);
  });
}

/** Makes a directory in which Envoy may make files itself. @throws Error of the system */
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

/** Writes a file so that a reader, Envoy alone, sees it whole or not at all. @throws Error of the system */
export function writePrivate(file: string, content: string | Uint8Array, user: ProxyUser | undefined): void {
  const temporary = `${file}.new`;
  writeFileSync(temporary, content, { mode: 0o600 });
  if (user !== undefined) chownSync(temporary, user.uid, user.gid);
  renameSync(temporary, file);
}

/** The same for JSON. @throws Error of the system */
export function writeWhole(file: string, content: JsonObject, user?: ProxyUser): void {
  writePrivate(file, JSON.stringify(content), user);
}
