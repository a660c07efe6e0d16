/** Where the records of one stream of one pool go: a sink of the controller, a log file, or both. */
import type { OutputBuffer } from "./outputBuffer.ts";
import type { LogSink } from "./sink.ts";

/** What a source needs of its destination; see LogSink. */
export type RecordSink = Pick<LogSink, "buffer" | "isFull" | "commit" | "whenDrained">;

export class Outlet implements RecordSink {
  #sink: LogSink;
  /** Receives a copy of all records. */
  #copy: LogSink | undefined;
  /** Length of the buffer before the records that are being appended. */
  #fromBytes = 0;

  constructor(sink: LogSink) {
    this.#sink = sink;
  }

  /** Sets the destinations of all records from now on. */
  connect(sink: LogSink, copy: LogSink | undefined): void {
    this.#sink = sink;
    this.#copy = copy;
  }

  get buffer(): OutputBuffer {
    const { buffer } = this.#sink;
    this.#fromBytes = buffer.length;
    return buffer;
  }

  get isFull(): boolean {
    return this.#sink.isFull || this.#copy?.isFull === true;
  }

  /** Accepts what was appended to `buffer` since it was last read. */
  commit(): void {
    if (this.#copy !== undefined) {
      const from = this.#sink.buffer;
      const to = this.#copy.buffer;
      to.reserve(from.length - this.#fromBytes);
      to.length += from.bytes.copy(to.bytes, to.length, this.#fromBytes, from.length);
      this.#copy.commit();
    }
    this.#sink.commit();
  }

  /** Calls `callback` once the destination that is full has room; the other one may be full by then. */
  whenDrained(callback: () => void): void {
    const isCopyFull = !this.#sink.isFull && this.#copy?.isFull === true;
    (isCopyFull ? (this.#copy ?? this.#sink) : this.#sink).whenDrained(callback);
  }
}
