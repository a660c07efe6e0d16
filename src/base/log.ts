/** The controller's own log records: their shape and format. The sink writes them. */

import { printable, printableLines } from "./printable.ts";

/** Severity, lowest first. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Structured fields of a record; undefined values are left out. */
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** Where the controller's own records go. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** One record as a JSON line (with its newline): `{"level","ts","msg",...fields}`, ts in epoch seconds. */
export function formatJsonRecord(level: LogLevel, epochMs: number, message: string, fields: LogFields = {}): string {
  return `${printableLines(JSON.stringify({ level, ts: epochMs / 1000, msg: message, ...fields }))}\n`;
}

/** One human-readable record: `12:34:56.789 INFO  message key=value …` (UTC), with its newline. */
export function formatReadableRecord(
  level: LogLevel,
  epochMs: number,
  message: string,
  fields: LogFields = {},
): string {
  const time = new Date(epochMs).toISOString().slice(11, 23);
  let line = `${time} ${level.toUpperCase().padEnd(5)} ${message}`;
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    line += ` ${key}=${typeof value === "string" && /[\s"=]/u.test(value) ? JSON.stringify(value) : value}`;
  }
  return `${printable(line)}\n`;
}
