/**
 * Reads all worker output: one annotator per slot and stream, one source per incarnation and stream, one outlet per
 * pool and stream. A new incarnation of a slot is read only after the previous one has ended, so no stream is reordered.
 */
import type { LogFileTotals, LogTotals } from "../base/readings.ts";
import { workerId } from "../core/identity.ts";
import { LineAnnotator, type LineOrigin } from "./annotate.ts";
import { LogFiles, type LogFilesListener, type PoolFile, type ReopenedFile } from "./file/logFiles.ts";
import { JsonLineScanner } from "./jsonLine.ts";
import type { RecordLevel } from "./level.ts";
import { Outlet } from "./outlet.ts";
import { ReadTurns } from "./readTurns.ts";
import type { LogSink, LogTap } from "./sink.ts";
import { LogSource } from "./source.ts";

/** A worker and the descriptors of its output; `pool` is an index. */
export interface OutputOfWorker {
  readonly pool: number;
  readonly slot: number;
  readonly stdoutFd: number;
  readonly stderrFd: number;
}

/** How the output of a pool is annotated. */
export interface PoolOutput {
  readonly name: string;
  readonly maxLineBytes: number;
  /** Level of text lines on stderr that state none. */
  readonly stderrLevel: RecordLevel;
  /** undefined: its records go only to the controller's stdout and stderr. */
  readonly file: PoolFile | undefined;
}

type Stream = "stdout" | "stderr";
type Outlets = Readonly<Record<Stream, Outlet>>;

interface Channel {
  readonly pool: number;
  readonly annotator: LineAnnotator;
  readonly poolName: string;
  readonly stream: Stream;
  last: LogSource | undefined;
}

export class WorkerOutput {
  readonly #pools: (PoolOutput | undefined)[] = [];
  readonly #outlets: Outlets[] = [];
  readonly #sinks: Readonly<Record<Stream, LogSink>>;
  readonly #files: LogFiles;
  readonly #turns = new ReadTurns();
  readonly #scanner = new JsonLineScanner();
  readonly #channels = new Map<string, Channel>();
  /** By source, the index of its pool. */
  readonly #openSources = new Map<LogSource, number>();
  /** Pools whose file is closed when their last source ends. */
  readonly #leaving = new Set<number>();
  #onAllEnded: (() => void) | undefined;

  constructor(sinks: Readonly<Record<Stream, LogSink>>, listener: LogFilesListener) {
    this.#sinks = sinks;
    this.#files = new LogFiles(listener);
  }

  /** Sets the options of the pool `index` from now on, also for running workers. */
  setPool(index: number, pool: PoolOutput): void {
    this.#leaving.delete(index);
    this.#pools[index] = pool;
    this.#connect(index, pool);
    for (const channel of this.#channels.values())
      if (channel.pool === index) channel.annotator.configure(settingsOf(pool, channel.stream));
  }

  /** The pool is removed: its file is closed after the last line of its workers. */
  removePool(index: number): void {
    this.#leaving.add(index);
    this.#releaseFile(index);
  }

  /** Opens all log files again. Rejects with a ControllerError LOG_FILE_FAILED. */
  reopenFiles(): Promise<readonly ReopenedFile[]> {
    return this.#files.reopen();
  }

  /** Reads the output of a new incarnation; takes ownership of the descriptors. */
  attach(worker: OutputOfWorker): { finish(): void } {
    const stdout = this.#open(worker, "stdout", worker.stdoutFd);
    const stderr = this.#open(worker, "stderr", worker.stderrFd);
    return {
      finish: () => {
        stdout.finish();
        stderr.finish();
      },
    };
  }

  /** Totals by pool and stream, only for those that had a worker. */
  totals(): LogTotals[] {
    const totals = new Map<string, LogTotals>();
    for (const { annotator, poolName: pool, stream } of this.#channels.values()) {
      const sum = totals.get(`${pool}/${stream}`);
      totals.set(`${pool}/${stream}`, {
        pool,
        stream,
        bytes: (sum?.bytes ?? 0) + annotator.bytesIn,
        jsonLines: (sum?.jsonLines ?? 0) + annotator.linesJson,
        textLines: (sum?.textLines ?? 0) + annotator.linesText,
        parts: (sum?.parts ?? 0) + annotator.partsSplit,
      });
    }
    return [...totals.values()];
  }

  /** Totals of the log files. */
  fileTotals(): readonly LogFileTotals[] {
    return this.#files.totals();
  }

  /** Passes `listener` a copy of all records that go only to a log file, until the returned function is called. */
  tapFiles(listener: LogTap): () => void {
    return this.#files.tap(listener);
  }

  /** Bytes written to the log files that are open. */
  get fileBytesWritten(): number {
    return this.#files.bytesWritten;
  }

  /** Bytes that the log files lack, because they are not written yet or cannot be written. */
  get fileBytesMissing(): number {
    return this.#files.missingBytes;
  }

  /** Resolves when every source has ended and all output is written. */
  async drained(): Promise<void> {
    if (this.#openSources.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onAllEnded = resolve;
      });
    }
    this.#files[Symbol.dispose]();
    await Promise.all([this.#sinks.stdout.flush(), this.#sinks.stderr.flush(), this.#files.flush()]);
  }

  #connect(index: number, { name, file }: Pick<PoolOutput, "name" | "file">): void {
    const { stdout, stderr } = this.#sinks;
    const sink = this.#files.assign(index, name, file);
    const outlets = this.#outlets[index];
    if (outlets === undefined) {
      this.#outlets[index] = { stdout: new Outlet(stdout), stderr: new Outlet(stderr) };
      if (sink === undefined) return;
    }
    for (const stream of ["stdout", "stderr"] as const) {
      const outlet = this.#outlets[index]?.[stream];
      if (sink !== undefined && file?.isOnly === true) outlet?.connect(sink, undefined);
      else outlet?.connect(this.#sinks[stream], sink);
      // A source that waits for a destination which the pool no longer has would wait in vain.
      this.#sinks[stream].releaseWaiting();
    }
  }

  #releaseFile(index: number): void {
    const pool = this.#pools[index];
    if (pool === undefined || !this.#leaving.has(index)) return;
    for (const each of this.#openSources.values()) if (each === index) return;
    this.#leaving.delete(index);
    this.#connect(index, { name: pool.name, file: undefined });
  }

  #open(worker: OutputOfWorker, stream: Stream, fd: number): LogSource {
    const channel = this.#channelOf(worker.pool, worker.slot, stream);
    const source: LogSource = new LogSource({
      fd,
      annotator: channel.annotator,
      sink: this.#outletOf(worker.pool, stream),
      turns: this.#turns,
      onEnd: () => this.#ended(source),
    });
    this.#openSources.set(source, worker.pool);
    const previous = channel.last;
    channel.last = source;
    // Deferred, so that the last of hundreds of starting workers does not wait for the first's readers. The sources are
    // arguments, because a closure would share its context with onEnd and keep every predecessor alive.
    setImmediate(begin, source, previous);
    return source;
  }

  #ended(source: LogSource): void {
    const pool = this.#openSources.get(source);
    this.#openSources.delete(source);
    if (pool !== undefined) this.#releaseFile(pool);
    if (this.#openSources.size === 0) this.#onAllEnded?.();
  }

  #outletOf(pool: number, stream: Stream): Outlet {
    const outlet = this.#outlets[pool]?.[stream];
    if (outlet === undefined) throw new RangeError(`there is no pool ${pool}`);
    return outlet;
  }

  #channelOf(poolIndex: number, slot: number, stream: Stream): Channel {
    const pool = this.#pools[poolIndex];
    if (pool === undefined) throw new RangeError(`there is no pool ${poolIndex}`);
    const { name } = pool;
    return this.#channels.getOrInsertComputed(`${poolIndex}/${slot}/${stream}`, () => {
      const origin = { pool: name, workerId: workerId(name, slot), stream, ...settingsOf(pool, stream) };
      const annotator = new LineAnnotator(origin, this.#scanner);
      return { pool: poolIndex, annotator, poolName: name, stream, last: undefined };
    });
  }
}

/** The options of a pool for the lines of one stream. */
function settingsOf(
  { maxLineBytes, stderrLevel }: PoolOutput,
  stream: Stream,
): Pick<LineOrigin, "maxLineBytes" | "level"> {
  return { maxLineBytes, level: stream === "stderr" ? stderrLevel : "info" };
}

function begin(source: LogSource, previous: LogSource | undefined): void {
  source.startAfter(previous);
}
