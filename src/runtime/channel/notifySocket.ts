/**
 * The NOTIFY_SOCKET of one worker (sd_notify(3)): a datagram socket of its own, so that a message needs no
 * authentication beyond the file's owner. Keeps what the worker last reported.
 */
import { chmodSync, chownSync, closeSync, existsSync, rmSync } from "node:fs";
import { findReadable, openDatagramReceiver, receiveDatagram } from "../os/linux.ts";
import { type NotifyMessage, parseNotifyMessage } from "./notifyMessage.ts";

/** Maximum messages of a worker read at once: a worker that floods its socket must not block the controller. */
const MAX_MESSAGES = 32;

/** What the owner of a socket is notified of. */
export interface NotifyListener {
  /** READY=1; only the first one counts. */
  readonly ready?: (() => void) | undefined;
  /** STOPPING=1; only the first one counts. */
  readonly stopping?: (() => void) | undefined;
  /** The worker needs this much longer to start or to stop. */
  readonly extended?: ((ms: number) => void) | undefined;
}

export class NotifySocket implements Disposable {
  readonly path: string;
  readonly #owner: { readonly uid: number; readonly gid: number } | undefined;
  #fd: number;
  #listener: NotifyListener = {};
  #isReady = false;
  #isStopping = false;
  /** A keep-alive that no check has consumed; before the first one and READY=1 the worker may still be starting. */
  #isAlive = true;
  #hasWatchdog = false;
  /** Whether it requested its replacement. */
  #hasFailed = false;
  #status: string | undefined;

  /** Only `owner` (default: this process's user) and root may send. @throws SystemCallError, Error of the system */
  constructor(path: string, owner: { readonly uid: number; readonly gid: number } | undefined) {
    this.path = path;
    this.#owner = owner;
    this.#fd = this.#open();
    inbox.add(this.#fd, this);
  }

  #open(): number {
    rmSync(this.path, { force: true });
    const fd = openDatagramReceiver(this.path);
    try {
      chmodSync(this.path, 0o600);
      if (this.#owner !== undefined) chownSync(this.path, this.#owner.uid, this.#owner.gid);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** The worker's last STATUS; undefined if it has none. */
  get status(): string | undefined {
    return this.#status;
  }

  /** Sets the listener, and repeats to it what the worker has reported so far. */
  listen(listener: NotifyListener): void {
    this.#listener = { ...this.#listener, ...listener };
    if (this.#isReady) listener.ready?.();
    if (this.#isStopping) listener.stopping?.();
  }

  /**
   * Whether the worker has sent a keep-alive since the last call; READY=1 is one. If its socket file was removed, it
   * could not send any: the file is created again.
   */
  takeWatchdog(): "alive" | "failed" | "silent" {
    if (this.#hasFailed) return "failed";
    const wasAlive = this.#isAlive;
    this.#isAlive = !this.#isReady && !this.#hasWatchdog;
    return wasAlive || this.#restore() ? "alive" : "silent";
  }

  /** Binds the path again if its file was removed; whether it was. */
  #restore(): boolean {
    if (existsSync(this.path)) return false;
    try {
      const fd = this.#open();
      inbox.remove(this.#fd);
      closeSync(this.#fd);
      this.#fd = fd;
      inbox.add(fd, this);
      return true;
    } catch {
      // The directory is missing too; RuntimeFilesWatch creates it again.
      return true;
    }
  }

  /** Reads the messages that have arrived; whether there may be more. */
  read(): boolean {
    for (let count = 0; count < MAX_MESSAGES; count++) {
      const text = receiveDatagram(this.#fd);
      if (text === undefined) return false;
      this.#accept(parseNotifyMessage(text));
      if (this.#fd < 0) return false;
    }
    return true;
  }

  #accept({ isReady, isStopping, watchdog, status, extendMs }: NotifyMessage): void {
    if (status !== undefined) this.#status = status === "" ? undefined : status;
    if (watchdog === "failed") this.#hasFailed = true;
    if (watchdog === "alive") this.#hasWatchdog = true;
    if (watchdog === "alive" || isReady) this.#isAlive = true;
    if (extendMs !== undefined) this.#listener.extended?.(extendMs);
    if (isReady && !this.#isReady) {
      this.#isReady = true;
      this.#listener.ready?.();
    }
    if (isStopping && !this.#isStopping) {
      this.#isStopping = true;
      this.#listener.stopping?.();
    }
  }

  /** Closes the socket and removes its file; the listener is not notified afterwards. */
  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    this.#listener = {};
    inbox.remove(this.#fd);
    closeSync(this.#fd);
    this.#fd = -1;
    rmSync(this.path, { force: true });
  }
}

/** All open sockets. One signal announces datagrams on any of them. */
class Inbox {
  readonly #sockets = new Map<number, NotifySocket>();
  #isListening = false;

  add(fd: number, socket: NotifySocket): void {
    this.#sockets.set(fd, socket);
    if (this.#isListening) return;
    // Never removed: without a handler, a late SIGIO would end this process.
    this.#isListening = true;
    process.on("SIGIO", () => this.#read());
    // A datagram may have arrived before the handler existed.
    setImmediate(() => this.#read());
  }

  remove(fd: number): void {
    this.#sockets.delete(fd);
  }

  #read(): void {
    let isUnfinished = false;
    for (const fd of findReadable([...this.#sockets.keys()]))
      isUnfinished = this.#sockets.get(fd)?.read() === true || isUnfinished;
    if (isUnfinished) setImmediate(() => this.#read());
  }
}

const inbox = new Inbox();
