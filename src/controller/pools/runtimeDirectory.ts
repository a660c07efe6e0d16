/**
 * A private directory for what the controller's processes share at run time: Envoy's files, sockets of workers. Each
 * controller has its own, so that two never conflict. It removes directories that killed controllers left behind.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ControllerError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { makePassable } from "../../envoy/control/privateFiles.ts";
import { distrustOf, type Identity } from "../../files/inspectPath.ts";
import { findClosed } from "../../runtime/os/access.ts";
import { readStat } from "../../runtime/os/procfs.ts";
import type { Credentials } from "../../runtime/process/spawnShim.ts";

/** Parent directory if the configuration names none. */
const DEFAULT_PARENT = "/run/monoceros";

/** Other users may pass through to their own socket, and see nothing else. */
const MODE = 0o711;

/** Access to a directory inside: by default the controller owns it and every user may pass through. */
export interface DirectoryAccess {
  readonly mode?: number;
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
}

export class RuntimeDirectory implements Disposable {
  /** Absolute, and short: the path of a socket has room for 107 bytes. */
  readonly path: string;
  /** The directories inside, in the order in which they were requested. */
  readonly #inside = new Map<string, DirectoryAccess>();

  readonly #identities: readonly Identity[];

  private constructor(path: string, identities: readonly Identity[]) {
    this.path = path;
    this.#identities = identities;
  }

  /**
   * Creates it below `configured`, else the default parent, else the directory for temporary files. `identities`
   * are the users that workers run as. @throws ControllerError RUNTIME_DIR_UNSAFE, RUNTIME_DIR_UNUSABLE
   */
  static create(configured: string | undefined, log: Logger, identities: readonly Identity[] = []): RuntimeDirectory {
    const parent = configured ?? DEFAULT_PARENT;
    let reason: string;
    try {
      requireTrusted(parent, identities);
      makePassable(parent);
      requireTrusted(parent, identities);
      if (configured === undefined) openToPass(parent);
      removeAbandoned(parent, log);
      return new RuntimeDirectory(makeIn(parent), identities);
    } catch (error) {
      if (configured !== undefined && error instanceof ControllerError) throw error;
      reason = codeOf(error);
      if (configured !== undefined)
        log.warn("runtime_dir is not usable; using a temporary directory", { error: reason });
    }
    requireTrusted(tmpdir(), identities);
    try {
      return new RuntimeDirectory(makeIn(tmpdir()), identities);
    } catch (cause) {
      throw new ControllerError(
        "RUNTIME_DIR_UNUSABLE",
        `Cannot create a directory for sockets and Envoy's files: neither "${parent}" (${reason}) nor "${tmpdir()}" (${codeOf(cause)}) is writable`,
        {
          cause,
          hint: `Mount a writable volume, such as an emptyDir, at ${tmpdir()}, or set supervisor.runtime_dir to a writable directory.`,
        },
      );
    }
  }

  /** A directory inside and those above it; created if missing. @throws Error of the system */
  directory(names: readonly string[], access: DirectoryAccess = {}): string {
    for (const depth of names.keys()) {
      const path = join(this.path, ...names.slice(0, depth));
      if (depth > 0 && !this.#inside.has(path)) this.#remember(path, {});
    }
    return this.#remember(join(this.path, ...names), access);
  }

  #remember(path: string, access: DirectoryAccess): string {
    this.#inside.set(path, access);
    make(path, access);
    return path;
  }

  /**
   * Creates the directories again that were removed, and returns their paths. @throws Error of the system, or ControllerError
   * RUNTIME_DIR_UNSAFE if another user created the path meanwhile
   */
  restore(): string[] {
    const lost = [this.path, ...this.#inside.keys()].filter((path) => !existsSync(path));
    if (lost.includes(this.path)) make(this.path, {});
    if (lost.length > 0) requireTrusted(this.path, this.#identities);
    for (const path of lost) if (path !== this.path) make(path, this.#inside.get(path) ?? {});
    return lost;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/**
 * A user who can replace a directory on the path could give Envoy a forged configuration. `identities` are the users
 * that workers run as. @throws ControllerError RUNTIME_DIR_UNSAFE
 */
export function requireTrusted(parent: string, identities: readonly Identity[]): void {
  const distrust = distrustOf(parent, { identities });
  if (distrust === undefined) return;
  throw new ControllerError(
    "RUNTIME_DIR_UNSAFE",
    `Cannot use directory "${parent}" for sockets and Envoy's files: ${distrust.reason}`,
    { hint: `${distrust.hint}; or set supervisor.runtime_dir to another directory.` },
  );
}

function make(path: string, { mode = MODE, owner }: DirectoryAccess): void {
  // Sets the mode regardless of the umask. An existing directory keeps its mode.
  if (mkdirSync(path, { recursive: true }) !== undefined) chmodSync(path, mode);
  if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
}

/** @throws ControllerError RUNTIME_DIR_UNUSABLE if a process with these ids, `who`, may not enter a directory */
export function requirePassable(path: string, ids: Credentials, who: string): void {
  const closed = findClosed(path, ids);
  if (closed === undefined) return;
  throw new ControllerError(
    "RUNTIME_DIR_UNUSABLE",
    `Cannot start ${who} as uid ${ids.uid}: this user cannot enter directory "${closed}"`,
    { hint: `chmod o+x ${closed}, or set supervisor.runtime_dir to a directory that every user can enter.` },
  );
}

/** Lets other users pass through the directory created for the control socket; the socket itself stays private. */
function openToPass(directory: string): void {
  const { mode, uid } = statSync(directory);
  if (process.getuid?.() === 0 && uid === 0 && (mode & 0o001) === 0) chmodSync(directory, MODE);
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}

const NAME = /^mc-(\d+)\.(\d+)-/u;

function makeIn(parent: string): string {
  const path = mkdtempSync(join(parent, `mc-${process.pid}.${readStat(process.pid)?.startTicks ?? 0}-`));
  // mkdtemp sets 0700 regardless of the umask; workers of other users must pass through.
  chmodSync(path, MODE);
  return path;
}

/** The start time distinguishes a reused pid. */
function removeAbandoned(parent: string, log: Logger): void {
  for (const name of readdirSync(parent)) {
    const [, pid, start] = NAME.exec(name) ?? [];
    if (pid === undefined || readStat(Number(pid))?.startTicks === Number(start)) continue;
    // In a directory for temporary files, another user may have created a directory with such a name.
    if (lstatSync(join(parent, name)).uid !== process.getuid?.()) continue;
    log.debug("removed the directory of a controller that has exited", { path: join(parent, name) });
    rmSync(join(parent, name), { recursive: true, force: true });
  }
}
