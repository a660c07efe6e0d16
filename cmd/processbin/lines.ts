/** What processbin writes: log lines of a chosen length, number, pace and form; floods; halves of lines. */

import type { Flags } from "./flags.ts";

const FLOOD_CHUNK_LINES = 1000;

/** Writes one JSON record about processbin itself to stdout. */
export function report(message: string, fields: Readonly<Record<string, unknown>> = {}): void {
  const record = { level: "info", ts: Date.now() / 1000, msg: message, pid: process.pid, ...fields };
  process.stdout.write(`${JSON.stringify(record)}\n`);
}

/** With a fixed text a line is written in each such interval, as the original does. */
const FIXED_INTERVAL_MS = 1000;

/** Starts the writing that the flags ask for. */
export function startWriting(flags: Flags): void {
  if (flags.halfLine) process.stdout.write("an unfinished line");
  const intervalMs = flags.logIntervalMs ?? (flags.logText === undefined ? undefined : FIXED_INTERVAL_MS);
  for (const output of flags.logToStderr ? [process.stdout, process.stderr] : [process.stdout]) {
    if (flags.flood) writeFlood(output, flags);
    if (flags.logText !== undefined && flags.logLines !== 0) output.write(`${makeLine(flags, 0)}\n`);
    if (intervalMs !== undefined) writePaced(output, flags, intervalMs);
    else if (flags.logLines !== undefined) writeCounted(output, flags, flags.logLines);
  }
}

/** Line `index` (from 0): the fixed text, or `logLineBytes` without its newline unless its number and frame need more. */
export function makeLine(flags: Pick<Flags, "logText" | "logLineBytes" | "logStructured">, index: number): string {
  const { logText } = flags;
  if (logText !== undefined) return flags.logStructured ? JSON.stringify({ key: logText }) : logText;
  const frame = (text: string): string =>
    flags.logStructured ? JSON.stringify({ level: "info", line: index, msg: text }) : `line ${index} ${text}`;
  const missing = flags.logLineBytes - frame("").length;
  return frame("x".repeat(Math.max(0, missing)));
}

function writeCounted(output: NodeJS.WriteStream, flags: Flags, count: number): void {
  // In chunks through the event loop: a slow reader must not keep this program from seeing its signals for long.
  let next = 0;
  const writeChunk = (): void => {
    let chunk = "";
    const end = Math.min(count, next + FLOOD_CHUNK_LINES);
    for (; next < end; next++) chunk += `${makeLine(flags, next)}\n`;
    output.write(chunk, () => {
      if (next < count) setImmediate(writeChunk);
    });
  };
  if (count > 0) writeChunk();
}

function writePaced(output: NodeJS.WriteStream, flags: Flags, intervalMs: number): void {
  let next = flags.logText === undefined ? 0 : 1;
  const timer = setInterval(() => {
    if (flags.logLines !== undefined && next >= flags.logLines) {
      clearInterval(timer);
      return;
    }
    output.write(`${makeLine(flags, next++)}\n`);
  }, intervalMs);
}

function writeFlood(output: NodeJS.WriteStream, flags: Flags): void {
  let chunk = "";
  for (let index = 0; index < FLOOD_CHUNK_LINES; index++) chunk += `${makeLine(flags, index)}\n`;
  const bytes = Buffer.from(chunk);
  const writeChunk = (): void => {
    output.write(bytes, () => setImmediate(writeChunk));
  };
  writeChunk();
}
