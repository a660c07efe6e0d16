/**
 * Reads all worker output: one annotator per slot and stream, one source per incarnation and stream, one sink per
 * stream. A new incarnation of a slot is read only after the previous one has ended, so no stream is reordered.
 */
import type { LogTotals } from "../base/readings.ts";
import { workerId } from "../core/identity.ts";
import { LineAnnotator, type LineOrigin } from "./annotate.ts";
import { JsonLineScanner } from "./jsonLine.ts";
import type { RecordLevel } from "./level.ts";
import { ReadTurns } from "./readTurns.ts";
import type { LogSink } from "./sink.ts";
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
}

interface Channel {
  readonly pool: number;
  readonly annotator: LineAnnotator;
  readonly poolName: string;
  readonly stream: "stdout" | "stderr";
  last: LogSource | undefined;
}

export class WorkerOutput {
  readonly #pools: PoolOutput[];
  readonly #sinks: { readonly stdout: LogSink; readonly stderr: LogSink };
  readonly #turns = new ReadTurns();
  readonly #scanner = new JsonLineScanner();
  readonly #channels = new Map<string, Channel>();
  readonly #openSources = new Set<LogSource>();
  #onAllEnded: (() => void) | undefined;

  constructor(pools: readonly PoolOutput[], sinks: { readonly stdout: LogSink; readonly stderr: LogSink }) {
    this.#pools = [...pools];
    this.#sinks = sinks;
  }

  /** Sets the options of the pool `index` from now on, also for running workers. */
  setPool(index: number, pool: PoolOutput): void {
    this.#pools[index] = pool;
    for (const channel of this.#channels.values())
      if (channel.pool === index) channel.annotator.configure(settingsOf(pool, channel.stream));
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

  /** Resolves when every source has ended and all output is written. */
  async drained(): Promise<void> {
    if (this.#openSources.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onAllEnded = resolve;
      });
    }
    await Promise.all([this.#sinks.stdout.flush(), this.#sinks.stderr.flush()]);
  }

  #open(worker: OutputOfWorker, stream: "stdout" | "stderr", fd: number): LogSource {
    const channel = this.#channelOf(worker.pool, worker.slot, stream);
    const source: LogSource = new LogSource({
      fd,
      annotator: channel.annotator,
      sink: this.#sinks[stream],
      turns: this.#turns,
      onEnd: () => this.#ended(source),
    });
    this.#openSources.add(source);
    const previous = channel.last;
    channel.last = source;
    // Deferred, so that the last of hundreds of starting workers does not wait for the first's readers. The sources are
    // arguments, because a closure would share its context with onEnd and keep every predecessor alive.
    setImmediate(begin, source, previous);
    return source;
  }

  #ended(source: LogSource): void {
    this.#openSources.delete(source);
    if (this.#openSources.size === 0) this.#onAllEnded?.();
  }

  #channelOf(poolIndex: number, slot: number, stream: "stdout" | "stderr"): Channel {
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
  stream: "stdout" | "stderr",
): Pick<LineOrigin, "maxLineBytes" | "level"> {
  return { maxLineBytes, level: stream === "stderr" ? stderrLevel : "info" };
}

function begin(source: LogSource, previous: LogSource | undefined): void {
  source.startAfter(previous);
}
