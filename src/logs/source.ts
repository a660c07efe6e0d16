/**
 * Reads one stream of one worker from the read end of a pipe and hands the annotated records to a sink.
 *
 * The event loop watches a quiet pipe and delivers a few bytes with each wake-up. A busy pipe is read chunk by chunk,
 * in turns shared with all other sources. While the sink is full, the pipe is not read: it fills up and the worker
 * blocks. A source ends once, at end of file or when `finish` has read the remaining bytes. It then closes its
 * descriptor.
 */

import { readSync } from "node:fs";
import { Socket } from "node:net";
import { monotonicMs } from "../base/monotonic.ts";
import type { LineAnnotator } from "./annotate.ts";
import type { RecordSink } from "./outlet.ts";
import type { ReadTurns } from "./readTurns.ts";

/** Maximum pipe capacity unless root has raised the limit; a dead worker leaves at most this much behind. */
const PIPE_BYTES = 1024 * 1024;

/** Read size of the first turn of a busy pipe; it grows from there. */
const FIRST_READ_BYTES = 16 * 1024;
const MIN_READ_BYTES = 4 * 1024;
/** If a turn outputs more than this (as a flood of empty lines does), the next turn reads less. */
const LONG_TURN_BYTES = 512 * 1024;

export interface LogSourceOptions {
  /** Read end of a pipe; the source makes it non-blocking and closes it at the end. */
  readonly fd: number;
  readonly annotator: LineAnnotator;
  readonly sink: RecordSink;
  /** Shared by all sources. */
  readonly turns: ReadTurns;
  /** Called once, when all records of the stream are accepted by the sink. */
  readonly onEnd: () => void;
  /** Milliseconds since 1970. */
  readonly epochMs?: () => number;
}

export class LogSource {
  readonly annotator: LineAnnotator;
  readonly #options: LogSourceOptions;
  /** Watches the descriptor and owns it; undefined before the start. */
  #socket: Socket | undefined;
  /** queued: waits for its turn, or for the sink. */
  #phase: "new" | "watching" | "queued" | "ended" = "new";
  #isFinishing = false;
  #bytesToFinish = PIPE_BYTES;
  #readBytes = FIRST_READ_BYTES;
  #next: LogSource | undefined;
  #waitingSince = 0;
  #blockedMs = 0;

  constructor(options: LogSourceOptions) {
    this.annotator = options.annotator;
    this.#options = options;
  }

  /** Whether the last record has been accepted by the sink. */
  get isEnded(): boolean {
    return this.#phase === "ended";
  }

  /** Milliseconds in which this source did not read because the sink was full. */
  get blockedMs(): number {
    return this.#blockedMs + (this.#waitingSince > 0 ? monotonicMs() - this.#waitingSince : 0);
  }

  /** Starts reading. */
  start(): void {
    if (this.#phase !== "new") return;
    this.#phase = "watching";
    const socket = new Socket({
      fd: this.#options.fd,
      readable: true,
      writable: false,
      onread: { buffer: this.#options.turns.wakeChunk, callback: this.#onWake },
    });
    // A read error ends the source like an end of file; the close event follows.
    socket.on("error", () => {});
    socket.on("close", () => this.#end());
    this.#socket = socket;
    if (this.#isFinishing) this.#queue();
  }

  /** Starts reading when `previous`, the source of the same stream of the slot's previous process, has ended. */
  startAfter(previous: LogSource | undefined): void {
    if (previous === undefined || previous.isEnded) this.start();
    else if (previous.#next === undefined) previous.#next = this;
    else this.startAfter(previous.#next);
  }

  /** Reads what the pipe holds now and ends, even if another process still holds the write end. */
  finish(): void {
    if (this.#isFinishing || this.#phase === "ended") return;
    this.#isFinishing = true;
    if (this.#phase === "watching") this.#queue();
  }

  /** Reads one chunk; called by the turns. */
  takeTurn(): void {
    if (this.#phase !== "queued") return;
    if (this.#options.sink.isFull) {
      this.#waitingSince = monotonicMs();
      this.#options.sink.whenDrained(this.#onDrained);
      return;
    }
    const { chunk } = this.#options.turns;
    const wantedBytes = this.#readBytes;
    const count = this.#read(chunk, wantedBytes);
    if (count > 0) {
      const outBytes = this.#accept(chunk, count);
      if (outBytes > LONG_TURN_BYTES) this.#readBytes = Math.max(MIN_READ_BYTES, wantedBytes / 2);
      else this.#readBytes = Math.min(chunk.length, wantedBytes * 2);
    }
    if (this.#isFinishing) {
      this.#bytesToFinish -= count;
      if (count <= 0 || this.#bytesToFinish <= 0) this.#end();
      else this.#options.turns.add(this);
    } else if (count === 0) {
      this.#end();
    } else if (count === wantedBytes) {
      this.#options.turns.add(this);
    } else {
      this.#phase = "watching";
      this.#socket?.resume();
    }
  }

  /** Bytes read; 0 at end of file or if the pipe cannot be read any more, -1 if no data is available yet. */
  #read(chunk: Buffer, wantedBytes: number): number {
    // The number of a closed descriptor may already be reused for another file.
    if (this.#socket?.destroyed !== false) return 0;
    try {
      return readSync(this.#options.fd, chunk, 0, wantedBytes, null);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "EAGAIN" ? -1 : 0;
    }
  }

  /** Processes the first `count` bytes of `chunk`; returns the size of their records in bytes. */
  #accept(chunk: Uint8Array, count: number): number {
    const { annotator } = this;
    const bytesBefore = annotator.bytesOut;
    annotator.push(
      count === chunk.length ? chunk : chunk.subarray(0, count),
      (this.#options.epochMs ?? Date.now)(),
      this.#options.sink.buffer,
    );
    this.#options.sink.commit();
    return annotator.bytesOut - bytesBefore;
  }

  /** The event loop has read `count` bytes into the wake chunk; returns whether to keep watching. */
  readonly #onWake = (count: number, chunk: Uint8Array): boolean => {
    if (this.#phase === "ended") return false;
    this.#accept(chunk, count);
    if (count < chunk.length && !this.#options.sink.isFull) return true;
    this.#queue();
    return false;
  };

  readonly #onDrained = (): void => {
    this.#blockedMs += monotonicMs() - this.#waitingSince;
    this.#waitingSince = 0;
    this.#options.turns.add(this);
  };

  #queue(): void {
    this.#phase = "queued";
    this.#socket?.pause();
    this.#options.turns.add(this);
  }

  #end(): void {
    if (this.#phase === "ended") return;
    this.#phase = "ended";
    this.annotator.end((this.#options.epochMs ?? Date.now)(), this.#options.sink.buffer);
    this.#options.sink.commit();
    this.#socket?.destroy();
    this.#options.onEnd();
    this.#next?.start();
    this.#next = undefined;
  }
}
