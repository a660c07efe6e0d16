/**
 * Keeps the control socket reachable: rebinds it if a cleaner of temporary files removed its file. Dispose removes only
 * the controller's own file, never that of another controller that has since bound the path.
 */
import { rmSync } from "node:fs";
import type { Server } from "node:http";
import { createServer, type Server as NetServer } from "node:net";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { bindSocket, identityOf, type ListenerFinder, type OpenSocket, type SocketFile } from "./listen.ts";

/** How often the file is checked; each check is one lstat(2). */
const LOOK_MS = 5000;

interface ControlSocketParts {
  /** Listens on `file`. */
  readonly server: Server;
  readonly file: SocketFile;
  readonly find: ListenerFinder;
  readonly open: OpenSocket;
  readonly log: Logger;
  readonly lookMs?: number;
}

export class ControlSocket implements Disposable {
  readonly #parts: ControlSocketParts;
  readonly #timer: NodeJS.Timeout;
  /** Listeners bound after the original file was removed. */
  readonly #listeners = new Set<NetServer>();
  #file: SocketFile;
  #isLooking = false;
  /** The last logged reason why the socket could not be rebound. */
  #lastReason: string | undefined;

  constructor(parts: ControlSocketParts) {
    this.#parts = parts;
    this.#file = parts.file;
    this.#timer = setInterval(() => void this.#look(), parts.lookMs ?? LOOK_MS).unref();
  }

  /** Stops listening and removes the file if it is still the controller's own. Open connections continue. */
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
      const reason = messageOf(error);
      if (reason !== this.#lastReason)
        this.#parts.log.warn(`the control socket was removed and cannot be bound again: ${reason}`);
      this.#lastReason = reason;
    } finally {
      this.#isLooking = false;
    }
  }

  async #restore(): Promise<void> {
    const { path, identity } = this.#file;
    if (identity !== undefined && identityOf(path) === identity) return;
    // Pass connections of the new listener to the original server, which has the limits and the routes.
    const listener = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      this.#parts.server.emit("connection", socket),
    );
    this.#file = await bindSocket(listener, path, this.#parts.find, this.#parts.open);
    for (const old of this.#listeners) old.close();
    this.#listeners.clear();
    this.#listeners.add(listener);
    this.#lastReason = undefined;
    this.#parts.log.warn(`the control socket "${path}" was removed; bound it again`, {
      hint: "Exclude it from the cleanup of temporary files (tmpfiles.d), or set admin.socket to a path under /run.",
    });
  }
}
