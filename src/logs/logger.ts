/** The controller's own records: formats them and hands them to the sink of standard error. */
import { formatJsonRecord, formatReadableRecord, type LogFields, type Logger, type LogLevel } from "../base/log.ts";
import type { LogSink } from "./sink.ts";

export interface SinkLoggerOptions {
  readonly sink: LogSink;
  /** Enables the debug level. */
  readonly isDebug: boolean;
  /** Readable lines instead of JSON; as isDebug if omitted. */
  readonly isReadable?: boolean;
  /** Milliseconds since 1970. */
  readonly epochMs?: () => number;
}

/** A Logger whose records share a sink with worker records and never split one of their lines. */
export class SinkLogger implements Logger {
  readonly #options: SinkLoggerOptions;

  constructor(options: SinkLoggerOptions) {
    this.#options = options;
  }

  debug(message: string, fields?: LogFields): void {
    if (this.#options.isDebug) this.#record("debug", message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#record("info", message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#record("warn", message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#record("error", message, fields);
  }

  #record(level: LogLevel, message: string, fields: LogFields | undefined): void {
    const { sink, isDebug, isReadable = isDebug, epochMs = Date.now } = this.#options;
    const format = isReadable ? formatReadableRecord : formatJsonRecord;
    sink.write(format(level, epochMs(), message, fields));
  }
}
