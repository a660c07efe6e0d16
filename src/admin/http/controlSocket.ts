/**
 * Keeps the control socket reachable: a file that a cleaner of temporary files removed is bound again, and at the end only
 * the controller's own file is removed, never that of another controller that took the path meanwhile.
 */
import { rmSync } from "node:fs";
import type { Server } from "node:http";
import { createServer, type Server as NetServer } from "node:net";
import type { Logger } from "../../base/log.ts";
import { bindSocket, identityOf, type ListenerFinder, type OpenSocket, type SocketFile } from "./listen.ts";

/** How often the file is looked at; a look is one lstat(2). */
const LOOK_MS = 5000;

export class ControlSocket implements Disposable {
  readonly #server: Server;
  readonly #find: ListenerFinder;
  readonly #open: OpenSocket;
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;
  /** Those that listen since the first file was removed. */
  readonly #listeners = new Set<NetServer>();
  #file: SocketFile;
  #isLooking = false;
  /** Why the file could not be bound again, as it was last logged. */
  #lastReason: string | undefined;

  /** `server` listens on `file`. */
  constructor(options: {
    server: Server;
    file: SocketFile;
    find: ListenerFinder;
    open: OpenSocket;
    log: Logger;
    lookMs?: number;
  }) {
    this.#server = options.server;
    this.#file = options.file;
    this.#find = options.find;
    this.#open = options.open;
    this.#log = options.log;
    this.#timer = setInterval(() => void this.#look(), options.lookMs ?? LOOK_MS).unref();
  }

  /** Listens no more and removes the file if it is still the controller's own. Connections stay. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    const { path, identity } = this.#file;
    if (identity !== undefined && identityOf(path) === identity) rmSync(path, { force: true });
    for (const listener of this.#listeners) listener.close();
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      await this.#restore();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (reason !== this.#lastReason)
        this.#log.warn(`the control socket was removed and cannot be bound again: ${reason}`);
      this.#lastReason = reason;
    } finally {
      this.#isLooking = false;
    }
  }

  async #restore(): Promise<void> {
    const { path, identity } = this.#file;
    if (identity !== undefined && identityOf(path) === identity) return;
    // The server that has the limits and the routes takes the connections of the new listener.
    const listener = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      this.#server.emit("connection", socket),
    );
    this.#file = await bindSocket(listener, path, this.#find, this.#open);
    for (const old of this.#listeners) old.close();
    this.#listeners.clear();
    this.#listeners.add(listener);
    this.#lastReason = undefined;
    this.#log.warn(`the control socket "${path}" was removed; bound it again`, {
      hint: "Exclude it from the cleanup of temporary files (tmpfiles.d), or set admin.socket to a path under /run.",
    });
  }
}
