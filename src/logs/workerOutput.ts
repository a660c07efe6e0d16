/**
 * Reads all worker output: one annotator per slot and stream, one source per incarnation and stream, one sink per
 * stream. A new incarnation of a slot is read only after the previous one has ended, so no stream is reordered.
 */
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

/** Totals of one pool's stream since the controller started. */
export interface StreamTotals {
  readonly pool: string;
  readonly stream: "stdout" | "stderr";
  readonly bytes: number;
  readonly jsonLines: number;
  readonly textLines: number;
  readonly parts: number;
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
  totals(): StreamTotals[] {
    const totals = new Map<
      string,
      { pool: string; stream: "stdout" | "stderr"; bytes: number; jsonLines: number; textLines: number; parts: number }
    >();
    for (const { annotator, poolName, stream } of this.#channels.values()) {
      const key = `${poolName}/${stream}`;
      const sum = totals.get(key) ?? { pool: poolName, stream, bytes: 0, jsonLines: 0, textLines: 0, parts: 0 };
      sum.bytes += annotator.bytesIn;
      sum.jsonLines += annotator.linesJson;
      sum.textLines += annotator.linesText;
      sum.parts += annotator.partsSplit;
      totals.set(key, sum);
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
    const key = `${poolIndex}/${slot}/${stream}`;
    const pool = this.#pools[poolIndex];
    if (pool === undefined) throw new RangeError(`there is no pool ${poolIndex}`);
    const known = this.#channels.get(key);
    if (known !== undefined) return known;
    const annotator = new LineAnnotator(
      {
        pool: pool.name,
        workerId: `${pool.name}-${slot}`,
        stream,
        ...settingsOf(pool, stream),
      },
      this.#scanner,
    );
    const channel: Channel = { pool: poolIndex, annotator, poolName: pool.name, stream, last: undefined };
    this.#channels.set(key, channel);
    return channel;
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
