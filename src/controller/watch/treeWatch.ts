/**
 * Watches directories with everything below them, except what is ignored. Each directory has one inotify watch. (The
 * recursive mode of fs.watch takes one for each directory in node_modules too, and longer.)
 */
import { existsSync, type FSWatcher, lstatSync, readdirSync, watch } from "node:fs";
import { join } from "node:path";
import { ControllerError, codeOf, messageOf } from "../../base/errors.ts";
import { isIgnoredDirectory, isIgnoredFile, VIRTUAL_ENVIRONMENT } from "./ignoredPaths.ts";

/** A source tree has fewer directories. More of them are a home directory, or a whole file system. */
const MAX_DIRECTORIES = 20_000;

export interface TreeWatchListener {
  /** A file or directory was created or removed (`isRename`), or changed. */
  changed(path: string, isRename: boolean): void;
  /** A new directory cannot be watched. */
  failed(error: ControllerError): void;
}

export class TreeWatch implements Disposable {
  readonly #listener: TreeWatchListener;
  readonly #maxDirectories: number;
  readonly #watchers = new Map<string, FSWatcher>();

  constructor(listener: TreeWatchListener, maxDirectories = MAX_DIRECTORIES) {
    this.#listener = listener;
    this.#maxDirectories = maxDirectories;
  }

  /** Number of watched directories. */
  get size(): number {
    return this.#watchers.size;
  }

  /** Watches `root` too, an absolute path. Does nothing if it is watched already. @throws ControllerError WATCH_FAILED */
  add(root: string): void {
    for (const left = [root]; left.length > 0; ) {
      const directory = left.pop() ?? root;
      if (this.#watchers.has(directory)) continue;
      const inside = this.#open(directory, root);
      left.push(...inside.map((name) => join(directory, name)));
    }
  }

  [Symbol.dispose](): void {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  /** Watches one directory. Returns the directories in it. */
  #open(directory: string, root: string): string[] {
    try {
      if (directory !== root && existsSync(join(directory, VIRTUAL_ENVIRONMENT))) return [];
      if (this.#watchers.size >= this.#maxDirectories)
        throw watchError(root, `it has more than ${this.#maxDirectories} directories`);
      // Before the directory is read, so that no change is missed.
      const watcher = watch(directory, { persistent: false }, (event, name) => {
        if (name !== null && this.#watchers.has(directory)) this.#notice(directory, name, event === "rename");
      });
      watcher.on("error", (error) => this.#listener.failed(watchError(directory, messageOf(error))));
      this.#watchers.set(directory, watcher);
      return readdirSync(directory, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && !isIgnoredDirectory(entry.name))
        .map(({ name }) => name);
    } catch (error) {
      if (error instanceof ControllerError) throw error;
      // It was removed meanwhile, or may not be read: then the program cannot read it either.
      if (directory !== root && ["ENOENT", "ENOTDIR", "EACCES", "EPERM"].includes(codeOf(error) ?? "")) return [];
      throw systemError(root, error, this.#watchers.size);
    }
  }

  #notice(directory: string, name: string, isRename: boolean): void {
    const path = join(directory, name);
    const kind = kindOf(path);
    if (kind === "directory") {
      if (isIgnoredDirectory(name) || this.#watchers.has(path)) return;
      this.#addLater(path);
    } else if (isIgnoredFile(name)) return;
    // The kernel also reports the removal of a directory to the watch of that directory.
    else if (kind === "missing") this.#forget(kindOf(directory) === "missing" ? directory : path);
    this.#listener.changed(path, isRename);
  }

  #addLater(path: string): void {
    try {
      this.add(path);
    } catch (error) {
      if (!(error instanceof ControllerError)) throw error;
      this.#listener.failed(error);
    }
  }

  /** Stops watching what is no longer at `path` or below it. */
  #forget(path: string): void {
    for (const [directory, watcher] of this.#watchers) {
      if (directory !== path && !directory.startsWith(`${path}/`)) continue;
      watcher.close();
      this.#watchers.delete(directory);
    }
  }
}

function kindOf(path: string): "directory" | "file" | "missing" {
  try {
    return lstatSync(path).isDirectory() ? "directory" : "file";
  } catch {
    return "missing";
  }
}

function watchError(path: string, what: string, hint?: string): ControllerError {
  return new ControllerError("WATCH_FAILED", `Cannot watch "${path}" for changes: ${what}`, {
    hint: hint ?? "Specify the directories with --watch-path.",
  });
}

/** The error of inotify, whose codes have other meanings than usual. */
function systemError(path: string, error: unknown, watched: number): ControllerError {
  switch (codeOf(error)) {
    case "ENOSPC":
      return watchError(
        path,
        `this user has no inotify watch left (${watched} in use here, fs.inotify.max_user_watches is the limit)`,
        "Raise the limit (`sysctl -w fs.inotify.max_user_watches=524288`), or watch fewer directories with --watch-path.",
      );
    case "EMFILE":
      return watchError(
        path,
        "this user has no inotify instance left (fs.inotify.max_user_instances is the limit)",
        "Raise the limit (`sysctl -w fs.inotify.max_user_instances=1024`).",
      );
    case "ENOENT":
      return watchError(path, "no such directory");
    case "ENOTDIR":
      return watchError(path, "not a directory");
    default:
      return watchError(path, messageOf(error));
  }
}
