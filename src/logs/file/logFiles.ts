/**
 * The log files of all pools, by path. A pool that gets another path, or none, leaves its file when everything that the
 * file has accepted is written. Pools with the same path share the file: one may be removed while the other is added.
 */
import { ControllerError, messageOf } from "../../base/errors.ts";
import { formatJsonRecord } from "../../base/log.ts";
import type { LogFileTotals } from "../../base/readings.ts";
import { LogSink, type LogTap } from "../sink.ts";
import { LogFile, type RotationSettings } from "./logFile.ts";

/** Pause of the compression after each chunk, relative to the chunk: it uses a fifth of one CPU. */
const REST_RATIO = 4;

/** Time limit for the answer to a request to reopen the files; a hung file system may block one indefinitely. */
const REOPEN_MS = 5000;

/** The log file of a pool. */
export interface PoolFile extends RotationSettings {
  /** Absolute. */
  readonly path: string;
  /** Whether the records go only to the file. */
  readonly isOnly: boolean;
  /** Time for which workers wait while the file cannot be written; then records are discarded. May be infinite. */
  readonly patienceMs: number;
}

/** Is notified of what operators must know. `pool` is a name. */
export interface LogFilesListener {
  failed(pool: string, path: string, error: NodeJS.ErrnoException, patienceMs: number): void;
  recovered(pool: string, path: string, discardedBytes: number): void;
  rotationFailed(pool: string, path: string, error: NodeJS.ErrnoException): void;
  compressionFailed(pool: string, path: string, error: unknown): void;
}

/** A file that was opened again. */
export interface ReopenedFile {
  readonly pool: string;
  readonly path: string;
}

interface OpenFile {
  readonly file: LogFile;
  readonly sink: LogSink;
  /** Indices of the pools that write to it. */
  readonly pools: Set<number>;
  /** Name of the last pool that was given the file. */
  pool: string;
  isOnly: boolean;
  /** Bytes discarded before the current period of failures. */
  reportedBytes: number;
}

type Totals = { -readonly [Key in keyof LogFileTotals]: LogFileTotals[Key] };

export class LogFiles implements Disposable {
  readonly #listener: LogFilesListener;
  readonly #open = new Map<string, OpenFile>();
  /** Totals of closed files, by the name of the pool. */
  readonly #closed = new Map<string, Totals>();
  readonly #taps = new Set<LogTap>();
  readonly #toCompress = new Set<OpenFile>();
  readonly #stop = new AbortController();
  #isCompressing = false;

  constructor(listener: LogFilesListener) {
    this.#listener = listener;
  }

  /** The sink of the pool's file from now on; undefined without a file. */
  assign(index: number, pool: string, settings: PoolFile | undefined): LogSink | undefined {
    const entry = settings === undefined ? undefined : this.#entryOf(settings, pool);
    if (entry !== undefined && settings !== undefined) {
      entry.pool = pool;
      entry.isOnly = settings.isOnly;
      entry.file.rotation = settings;
      entry.sink.patienceMs = settings.patienceMs;
      entry.pools.add(index);
      if (settings.isCompressed) this.#compress(entry);
    }
    for (const each of this.#open.values())
      if (each !== entry && each.pools.delete(index) && each.pools.size === 0) void this.#retire(each);
    return entry?.sink;
  }

  /** Opens all files again. Rejects with a ControllerError LOG_FILE_FAILED after all were tried. */
  async reopen(): Promise<readonly ReopenedFile[]> {
    const files = [...this.#open.values()];
    const failures = await Promise.all(files.map((each) => this.#reopen(each)));
    const failed = failures.filter((failure) => failure !== undefined);
    if (failed.length > 0) throw new ControllerError("LOG_FILE_FAILED", `Cannot reopen ${failed.join("; ")}`);
    return files.map(({ pool, file: { path } }) => ({ pool, path }));
  }

  /** Totals by pool, only for those that have or had a file. */
  totals(): readonly LogFileTotals[] {
    const totals = new Map<string, Totals>();
    for (const [pool, closed] of this.#closed) totals.set(pool, { ...closed });
    for (const entry of this.#open.values()) addTo(totals, entry);
    return [...totals.values()];
  }

  /** Passes `listener` a copy of all records that go only to a file, until the returned function is called. */
  tap(listener: LogTap): () => void {
    this.#taps.add(listener);
    const stops = [...this.#open.values()].map((entry) => tapOnly(entry, listener));
    return () => {
      this.#taps.delete(listener);
      for (const stop of stops) stop();
    };
  }

  /** Bytes that the open files lack: not yet taken by the system, or discarded in the current period of failures. */
  get missingBytes(): number {
    return [...this.#open.values()].reduce(
      (sum, { sink, reportedBytes }) => sum + sink.pendingBytes + sink.discardedBytes - reportedBytes,
      0,
    );
  }

  /** Bytes written to the open files. */
  get bytesWritten(): number {
    return [...this.#open.values()].reduce((sum, { sink }) => sum + sink.bytesWritten, 0);
  }

  async flush(): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ sink }) => sink.flush()));
  }

  /** Stops the compression. The next controller compresses the rest. */
  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  #entryOf(settings: PoolFile, pool: string): OpenFile {
    const { path } = settings;
    return this.#open.getOrInsertComputed(path, () => {
      const listener = this.#listener;
      const file = new LogFile(path, settings, {
        onRotated: () => this.#compress(entry),
        onRotationFailed: (error) => listener.rotationFailed(entry.pool, path, error),
      });
      const sink = new LogSink({
        fd: file,
        onError: (error) => listener.failed(entry.pool, path, error, entry.sink.patienceMs),
        onRecovered: () => this.#recovered(entry),
      });
      const entry: OpenFile = { file, sink, pools: new Set(), pool, isOnly: settings.isOnly, reportedBytes: 0 };
      for (const tap of this.#taps) tapOnly(entry, tap);
      // If this fails, the first write fails too, and is reported.
      file.open().catch(() => {});
      return entry;
    });
  }

  #recovered(entry: OpenFile): void {
    const { sink, pool, file } = entry;
    const lostBytes = sink.discardedBytes - entry.reportedBytes;
    entry.reportedBytes = sink.discardedBytes;
    const gap = `${lostBytes} bytes of records are missing near here: the file could not be written`;
    if (lostBytes > 0) sink.write(formatJsonRecord("error", Date.now(), gap, { pool }));
    this.#listener.recovered(pool, file.path, lostBytes);
  }

  /** Undefined if the file was reopened, otherwise a clause about why not. */
  async #reopen({ file, pool }: OpenFile): Promise<string | undefined> {
    const what = `log file "${file.path}" of pool "${pool}"`;
    const { promise: late, resolve } = Promise.withResolvers<string>();
    const timer = setTimeout(
      () => resolve(`${what}: a write has not ended within ${REOPEN_MS / 1000}s; the file is reopened after it`),
      REOPEN_MS,
    );
    const reopened = file.reopen().then(
      () => undefined,
      (error: unknown) => `${what}: ${messageOf(error)}; its records still go to the previous file`,
    );
    const failure = await Promise.race([reopened, late]);
    clearTimeout(timer);
    return failure;
  }

  /** Closes a file when all that it has accepted is written, unless a pool uses it again. */
  async #retire(entry: OpenFile): Promise<void> {
    entry.sink.releaseWaiting();
    await entry.sink.flush();
    const isUsed = entry.pools.size > 0 || entry.sink.pendingBytes > 0;
    if (isUsed || this.#open.get(entry.file.path) !== entry) return;
    this.#open.delete(entry.file.path);
    addTo(this.#closed, entry);
    this.#toCompress.delete(entry);
    await entry.file.close().catch((error) => this.#listener.failed(entry.pool, entry.file.path, error, 0));
  }

  #compress(entry: OpenFile): void {
    if (!entry.file.rotation.isCompressed) return;
    this.#toCompress.add(entry);
    if (!this.#isCompressing) void this.#compressAll();
  }

  /** One file at a time. */
  async #compressAll(): Promise<void> {
    this.#isCompressing = true;
    const pace = { restRatio: REST_RATIO, signal: this.#stop.signal };
    for (const entry of this.#toCompress) {
      this.#toCompress.delete(entry);
      try {
        // The loop visits it again.
        if (await entry.file.compressNext(pace)) this.#toCompress.add(entry);
      } catch (error) {
        if (this.#stop.signal.aborted) break;
        this.#listener.compressionFailed(entry.pool, entry.file.path, error);
      }
    }
    this.#isCompressing = false;
  }
}

function tapOnly(entry: OpenFile, listener: LogTap): () => void {
  return entry.sink.tap((records) => {
    if (entry.isOnly) listener(records);
  });
}

function addTo(totals: Map<string, Totals>, { pool, file, sink }: OpenFile): void {
  const sum = totals.getOrInsertComputed(pool, () => ({
    pool,
    writtenBytes: 0,
    discardedBytes: 0,
    blockedSeconds: 0,
    rotations: 0,
    errors: 0,
    isFailing: false,
  }));
  sum.writtenBytes += file.bytesWritten;
  sum.discardedBytes += sink.discardedBytes;
  sum.blockedSeconds += sink.blockedMs / 1000;
  sum.rotations += file.rotations;
  sum.errors += file.errors;
  sum.isFailing ||= sink.isFailing;
}
