/**
 * Writes records to one descriptor of the controller (1 or 2), in the order in which they were accepted. While there is
 * a reader, no record is written twice or lost.
 *
 * Two buffers: records collect in one while libuv's thread pool writes the other, so a stalled reader never blocks the
 * main thread. When too much has collected, the sink is full and sources wait their turn; the workers then block on
 * their full pipes. If the reader is permanently lost, the sink discards records so that workers continue. Each write
 * ends at a record boundary; if the system takes only a part, the rest follows immediately. The sink never closes the
 * descriptor and never changes its flags, which other processes may share.
 *
 * A write that the reader blocks occupies a thread of the pool, and a normal process exit joins those threads. To end
 * the process while `pendingBytes` is not 0, use _exit(2).
 */

import { fstatSync, write } from "node:fs";
import { monotonicMs } from "../base/monotonic.ts";
import { OutputBuffer } from "./outputBuffer.ts";

/** Collected bytes from which on sources wait while a write is in progress. */
export const FULL_BYTES = 256 * 1024;

/** A larger buffer is freed after its write. The first limit applies if more data is pending, the second if not. */
const KEPT_BUSY_BYTES = 1024 * 1024;
const KEPT_IDLE_BYTES = 256 * 1024;
const RETRY_MIN_MS = 1;
const RETRY_MAX_MS = 64;

/** Retries of a file, where a full disk or a missing directory may last. */
const FILE_RETRY_MAX_MS = 250;

/** Transient errors: the reader is slow (another process made the descriptor non-blocking) or the disk is full. */
const PASSING: ReadonlySet<string> = new Set(["EAGAIN", "EINTR", "ENOBUFS", "ENOMEM", "ENOSPC", "EDQUOT"]);
/** Transient errors that are not reported. */
const NORMAL: ReadonlySet<string> = new Set(["EAGAIN", "EINTR"]);

/** Where a sink writes if not to a descriptor. */
export interface LogTarget {
  /** Writes the first bytes of [offset, offset + length), at least one record, and passes their number to `done`. */
  write(
    records: Buffer,
    offset: number,
    length: number,
    done: (error: NodeJS.ErrnoException | null, count: number) => void,
  ): void;
  /** The sink has discarded the records of a failed write. */
  abandon(): void;
}

export interface LogSinkOptions {
  /** The descriptor to write to, which the sink never closes, or a file. Every error of a file is transient. */
  readonly fd: number | LogTarget;
  /** Called once when the reader is lost (`sink.isDead` is then true), and once for each period of failed writes. */
  readonly onError?: (error: NodeJS.ErrnoException) => void;
  /** Called when a write succeeds after `onError`. */
  readonly onRecovered?: () => void;
}

type StandardStream = LogSinkOptions & { readonly fd: number };

/** Receives a copy of whole records, in order, as they are handed to the system. */
export type LogTap = (records: Buffer) => void;

interface Flush {
  readonly untilBytes: number;
  readonly resolve: () => void;
}

export class LogSink {
  /** Bytes that the system has taken. */
  bytesWritten = 0;
  /** Bytes discarded because the reader is lost. */
  discardedBytes = 0;
  /** Whether the reader is permanently lost. */
  isDead = false;
  /** Time for which a failed write is retried. Then its records are discarded, and all until a write succeeds. */
  patienceMs = Number.POSITIVE_INFINITY;

  readonly #options: LogSinkOptions;
  #active = new OutputBuffer();
  #writing = new OutputBuffer();
  /** Bytes of #writing that the system has taken. */
  #offset = 0;
  #isWriting = false;
  #retryMs = 0;
  /** Since when writes fail, if that was reported. */
  #failingSinceMs: number | undefined;

  #waiting: (() => void)[] = [];
  #waitingSince = 0;
  #blockedMs = 0;
  readonly #taps = new Set<LogTap>();
  #flushes: Flush[] = [];

  constructor(options: LogSinkOptions) {
    this.#options = options;
  }

  /** Where sources append whole records before they call `commit`. Read this property again each time. */
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

  /** Whether the latest write failed, apart from a slow reader. */
  get isFailing(): boolean {
    return this.#failingSinceMs !== undefined;
  }

  /** Accepts what was appended to `buffer` and ensures that it is written. */
  commit(): void {
    if (!this.#isWriting && this.#active.length > 0) this.#start();
  }

  /** Accepts `records`, whole lines of the controller itself. Never refuses them, so the caller must limit them. */
  write(records: string): void {
    this.#active.text(records);
    this.commit();
  }

  /**
   * Calls `callback` once there is room. Callers are served in the order of their calls. If the sink fills up again
   * before a caller's turn, that caller keeps its place.
   */
  whenDrained(callback: () => void): void {
    if (!this.isFull && this.#waiting.length === 0) {
      callback();
      return;
    }
    if (this.#waiting.length === 0) this.#waitingSince = monotonicMs();
    this.#waiting.push(callback);
  }

  /** Calls all waiting callbacks now, although there may be no room: they write elsewhere from now on. */
  releaseWaiting(): void {
    if (this.#waiting.length === 0) return;
    const callbacks = this.#waiting;
    this.#blockedMs += monotonicMs() - this.#waitingSince;
    this.#waiting = [];
    for (const callback of callbacks) callback();
  }

  /** Passes `listener` a copy of all records from now on, until the returned function is called. */
  tap(listener: LogTap): () => void {
    this.#taps.add(listener);
    return () => {
      this.#taps.delete(listener);
    };
  }

  /** Resolves when everything accepted so far is written, or discarded because the reader is lost. */
  flush(): Promise<void> {
    if (this.pendingBytes === 0) return Promise.resolve();
    const untilBytes = this.bytesWritten + this.discardedBytes + this.pendingBytes;
    return new Promise((resolve) => {
      this.#flushes.push({ untilBytes, resolve });
    });
  }

  /** Starts writing everything collected so far. */
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
    const { fd } = this.#options;
    const { bytes, length } = this.#writing;
    if (typeof fd === "number") write(fd, bytes, this.#offset, length - this.#offset, null, this.#onWritten);
    else fd.write(bytes, this.#offset, length - this.#offset, this.#onWritten);
  }

  readonly #onWritten = (error: NodeJS.ErrnoException | null, count: number): void => {
    if (error !== null) {
      this.#onFailed(error);
      return;
    }
    this.bytesWritten += count;
    this.#offset += count;
    const isComplete = this.#offset >= this.#writing.length;
    // A disk that is almost full takes a few bytes now and then, which is no recovery.
    if (isComplete && this.#failingSinceMs !== undefined) {
      this.#failingSinceMs = undefined;
      this.#options.onRecovered?.();
    }
    if (this.#failingSinceMs === undefined) this.#retryMs = 0;
    if (isComplete) this.#onTaken();
    else this.#writeRest();
  };

  #onFailed(error: NodeJS.ErrnoException): void {
    const code = error.code ?? "";
    const { fd, onError } = this.#options;
    if (typeof fd === "number" && !PASSING.has(code)) {
      this.isDead = true;
      this.#discardRest();
      onError?.(error);
      return;
    }
    const isFirst = this.#failingSinceMs === undefined && !NORMAL.has(code);
    if (isFirst) this.#failingSinceMs = monotonicMs();
    if (this.#failingSinceMs !== undefined && monotonicMs() - this.#failingSinceMs >= this.patienceMs) {
      if (typeof fd !== "number") fd.abandon();
      this.#discardRest();
    } else {
      const maxMs = typeof fd === "number" ? RETRY_MAX_MS : FILE_RETRY_MAX_MS;
      this.#retryMs = Math.min(maxMs, Math.max(RETRY_MIN_MS, this.#retryMs * 2));
      setTimeout(() => this.#writeRest(), this.#retryMs);
    }
    if (isFirst) onError?.(error);
  }

  #discardRest(): void {
    this.discardedBytes += this.#writing.length - this.#offset;
    this.#onTaken();
  }

  /** The current buffer is written or discarded: starts the next write and serves waiting sources. */
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
    // Unserved callbacks stay ahead of any that a callback has just added.
    if (served < callbacks.length) this.#waiting = [...callbacks.slice(served), ...this.#waiting];
    if (this.#waiting.length > 0) this.#waitingSince = monotonicMs();
  }
}

/**
 * The sinks for standard output and standard error. If both are the same file, pipe or terminal (`2>&1`), they share
 * one sink, because two writers of one pipe could split each other's lines.
 */
export function openSinks(stdout: StandardStream, stderr: StandardStream): { stdout: LogSink; stderr: LogSink } {
  const out = new LogSink(stdout);
  return { stdout: out, stderr: isSameFile(stdout.fd, stderr.fd) ? out : new LogSink(stderr) };
}

function isSameFile(oneFd: number, otherFd: number): boolean {
  try {
    const one = fstatSync(oneFd);
    const other = fstatSync(otherFd);
    return one.dev === other.dev && one.ino === other.ino;
  } catch {
    return false; // A closed descriptor matches no file; writing to it will fail.
  }
}
