/**
 * Writes records to one descriptor of the controller (1 or 2), in the order in which they were accepted, nothing twice
 * and nothing lost while there is a reader.
 *
 * Two buffers: records gather in one while the other is being written by libuv's thread pool, so a reader that stops
 * never blocks the main thread. Where too much has gathered the sink is full and sources wait their turn, which stops
 * the workers through their full pipes. A reader that is gone for good makes it discard, so that workers go on.
 * Everything handed to the system ends at the end of a record; only the system itself may take a part of it, and then
 * the rest follows at once. It never closes the descriptor and never changes its flags, which others may share.
 *
 * A write that the reader blocks holds a thread of the pool, and a process that exits joins those threads: whoever ends
 * the process while `pendingBytes` is not 0 needs _exit(2).
 */

import { fstatSync, write } from "node:fs";
import { monotonicMs } from "../base/monotonic.ts";
import { OutputBuffer } from "./outputBuffer.ts";

/** While a write is on its way, sources wait once so much has gathered. */
export const FULL_BYTES = 256 * 1024;

/** A buffer that grew beyond this is given back after its write: in a flood, and when nothing more is there. */
const KEPT_BUSY_BYTES = 1024 * 1024;
const KEPT_IDLE_BYTES = 256 * 1024;
const RETRY_MIN_MS = 1;
const RETRY_MAX_MS = 64;

/** Errors that pass: the reader is slow (somebody made the descriptor non-blocking) or the disk is full for now. */
const PASSING: ReadonlySet<string> = new Set(["EAGAIN", "EINTR", "ENOBUFS", "ENOMEM", "ENOSPC", "EDQUOT"]);
/** Of those, the ones that nobody needs to hear of. */
const NORMAL: ReadonlySet<string> = new Set(["EAGAIN", "EINTR"]);

export interface LogSinkOptions {
  /** Where records go. It stays open and is never closed by the sink. */
  readonly fd: number;
  /** Hears of a reader that is gone (once; `sink.isDead` is true then) and of each spell of a full disk. */
  readonly onError?: (error: NodeJS.ErrnoException) => void;
}

/** Receives a copy of whole records, in order, as they are handed to the system. */
export type LogTap = (records: Buffer) => void;

interface Flush {
  readonly untilBytes: number;
  readonly resolve: () => void;
}

export class LogSink {
  /** Bytes that the system has taken. */
  bytesWritten = 0;
  /** Bytes thrown away because the reader is gone. */
  discardedBytes = 0;
  /** Whether the reader is gone for good. */
  isDead = false;

  readonly #fd: number;
  readonly #onError: (error: NodeJS.ErrnoException) => void;
  #active = new OutputBuffer();
  #writing = new OutputBuffer();
  /** Bytes of #writing that the system has taken. */
  #offset = 0;
  #isWriting = false;
  #retryMs = 0;
  #isComplaining = false;

  #waiting: (() => void)[] = [];
  #waitingSince = 0;
  #blockedMs = 0;
  readonly #taps = new Set<LogTap>();
  #flushes: Flush[] = [];

  constructor(options: LogSinkOptions) {
    this.#fd = options.fd;
    this.#onError = options.onError ?? (() => {});
  }

  /** Where sources append whole records before they call `commit`. Take it anew each time. */
  get buffer(): OutputBuffer {
    return this.#active;
  }

  /** Bytes accepted but not yet taken by the system. */
  get pendingBytes(): number {
    return this.#active.length + this.#writing.length - this.#offset;
  }

  /** Whether sources must wait (`whenDrained`) before they append more. */
  get isFull(): boolean {
    return this.#isWriting && this.#active.length >= FULL_BYTES;
  }

  /** Milliseconds in which at least one source had to wait, up to now. */
  get blockedMs(): number {
    return this.#blockedMs + (this.#waiting.length > 0 ? monotonicMs() - this.#waitingSince : 0);
  }

  /** Accepts what was appended to `buffer` and sees that it is written. */
  commit(): void {
    if (!this.#isWriting && this.#active.length > 0) this.#start();
  }

  /** Accepts `records`, whole lines of the controller itself; never refused, so the caller bounds them. */
  write(records: string): void {
    this.#active.text(records);
    this.commit();
  }

  /**
   * Calls `callback` once there is room. Callers are served in the order in which they asked; the sink may be full
   * again before a later one's turn, which then keeps its place.
   */
  whenDrained(callback: () => void): void {
    if (!this.isFull && this.#waiting.length === 0) {
      callback();
      return;
    }
    if (this.#waiting.length === 0) this.#waitingSince = monotonicMs();
    this.#waiting.push(callback);
  }

  /** Lets `listener` have a copy of all records from now on, until the returned function is called. */
  tap(listener: LogTap): () => void {
    this.#taps.add(listener);
    return () => {
      this.#taps.delete(listener);
    };
  }

  /** Resolves when all that has been accepted so far is written, or discarded because the reader is gone. */
  flush(): Promise<void> {
    if (this.pendingBytes === 0) return Promise.resolve();
    const untilBytes = this.bytesWritten + this.discardedBytes + this.pendingBytes;
    return new Promise((resolve) => {
      this.#flushes.push({ untilBytes, resolve });
    });
  }

  /** Hands all that has gathered to the system. */
  #start(): void {
    const full = this.#active;
    if (this.#taps.size > 0) {
      const copy = Buffer.from(full.bytes.subarray(0, full.length));
      for (const listener of this.#taps) listener(copy);
    }
    if (this.isDead) {
      this.discardedBytes += full.length;
      full.clear(0);
      return;
    }
    this.#active = this.#writing;
    this.#writing = full;
    this.#offset = 0;
    this.#isWriting = true;
    this.#writeRest();
  }

  #writeRest(): void {
    write(this.#fd, this.#writing.bytes, this.#offset, this.#writing.length - this.#offset, null, this.#onWritten);
  }

  readonly #onWritten = (error: NodeJS.ErrnoException | null, count: number): void => {
    if (error !== null) {
      this.#onFailed(error);
      return;
    }
    this.bytesWritten += count;
    this.#offset += count;
    this.#retryMs = 0;
    this.#isComplaining = false;
    if (this.#offset < this.#writing.length) this.#writeRest();
    else this.#onTaken();
  };

  #onFailed(error: NodeJS.ErrnoException): void {
    const code = error.code ?? "";
    if (PASSING.has(code)) {
      this.#retryMs = Math.min(RETRY_MAX_MS, Math.max(RETRY_MIN_MS, this.#retryMs * 2));
      setTimeout(() => this.#writeRest(), this.#retryMs);
      if (NORMAL.has(code) || this.#isComplaining) return;
      this.#isComplaining = true;
      this.#onError(error);
      return;
    }
    this.isDead = true;
    this.discardedBytes += this.#writing.length - this.#offset;
    this.#onTaken();
    this.#onError(error);
  }

  /** The buffer on its way has arrived (or is given up): the next one goes, and who waited is served. */
  #onTaken(): void {
    this.#writing.clear(this.#active.length > 0 ? KEPT_BUSY_BYTES : KEPT_IDLE_BYTES);
    this.#offset = 0;
    this.#isWriting = false;
    this.commit();
    this.#settleFlushes();
    this.#serveWaiting();
  }

  #settleFlushes(): void {
    if (this.#flushes.length === 0) return;
    const doneBytes = this.bytesWritten + this.discardedBytes;
    const open: Flush[] = [];
    for (const flush of this.#flushes) {
      if (flush.untilBytes <= doneBytes) flush.resolve();
      else open.push(flush);
    }
    this.#flushes = open;
  }

  #serveWaiting(): void {
    if (this.#waiting.length === 0) return;
    const callbacks = this.#waiting;
    this.#blockedMs += monotonicMs() - this.#waitingSince;
    this.#waiting = [];
    let served = 0;
    while (served < callbacks.length && !this.isFull) callbacks[served++]?.();
    // Those that could not be served go before any that a callback has just added.
    if (served < callbacks.length) this.#waiting = [...callbacks.slice(served), ...this.#waiting];
    if (this.#waiting.length > 0) this.#waitingSince = monotonicMs();
  }
}

/**
 * The sinks for standard output and standard error. Where both are the same file, pipe or terminal (`2>&1`) it is one
 * sink, because two writers of one pipe could cut each other's lines in the middle.
 */
export function openSinks(stdout: LogSinkOptions, stderr: LogSinkOptions): { stdout: LogSink; stderr: LogSink } {
  const out = new LogSink(stdout);
  return { stdout: out, stderr: isSameFile(stdout.fd, stderr.fd) ? out : new LogSink(stderr) };
}

function isSameFile(oneFd: number, otherFd: number): boolean {
  try {
    const one = fstatSync(oneFd);
    const other = fstatSync(otherFd);
    return one.dev === other.dev && one.ino === other.ino;
  } catch {
    return false; // A closed descriptor is nobody's; writing to it will tell.
  }
}
