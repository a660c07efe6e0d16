/**
 * Reads command lines of processes. A command line is in the memory of its process, whose lock may be held for long
 * (proc_pid_cmdline(5)). It is therefore read off the main thread, with a time limit, and never for a process in
 * uninterruptible sleep. If it cannot be read in time, the process name in brackets replaces it.
 */

import { promises as files } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { monotonicMs } from "../../base/monotonic.ts";
import { printable } from "../../base/printable.ts";

const MAX_COMMAND_BYTES = 200;

/** How long a command line is cached; few programs change theirs, and then rarely. */
const FRESH_MS = 10_000;

/** What must be known about a process before its command line may be read. */
export interface NamedProcess {
  readonly pid: number;
  /** R, S, D, T … */
  readonly state: string;
  /** Name of the executable, as in /proc/<pid>/stat. */
  readonly name: string;
}

/** A process's command line, at most MAX_COMMAND_BYTES; `[name]` if not readable within `boundMs`. Never rejects. */
export async function readCommand({ pid, name, state }: NamedProcess, boundMs: number): Promise<string> {
  if (state === "D") return bracketed(name);
  const line = await Promise.race([readCommandLine(pid), wait(boundMs, "")]);
  return line === "" ? bracketed(name) : line;
}

interface KnownLine {
  /** Identifies the process and its program. */
  readonly key: string;
  readonly line: string;
  readonly readAtMs: number;
}

/** Reads the command lines of many processes repeatedly. */
export class CommandLines {
  readonly #boundMs: number;
  readonly #nowMs: () => number;
  #known = new Map<number, KnownLine>();

  /** `boundMs`: how long one call may take. */
  constructor(boundMs: number, nowMs: () => number = () => monotonicMs()) {
    this.#boundMs = boundMs;
    this.#nowMs = nowMs;
  }

  /** By pid, one for each process. Processes that are not requested are forgotten. Never rejects. */
  async read(
    processes: readonly (NamedProcess & { readonly startTicks: number })[],
  ): Promise<ReadonlyMap<number, string>> {
    const nowMs = this.#nowMs();
    const known = new Map<number, KnownLine>();
    const lines = new Map<number, string>();
    const reads: Promise<void>[] = [];
    for (const process of processes) {
      const { pid, name, state, startTicks } = process;
      // An execve(2) changes the name.
      const key = `${startTicks} ${name}`;
      const last = this.#known.get(pid);
      lines.set(pid, last?.key === key ? last.line : bracketed(name));
      if (last?.key === key && nowMs - last.readAtMs < FRESH_MS) known.set(pid, last);
      else if (state !== "D") {
        const read = readCommandLine(pid).then((line) => {
          if (line === "") return;
          lines.set(pid, line);
          known.set(pid, { key, line, readAtMs: nowMs });
        });
        reads.push(read);
      }
    }
    this.#known = known;
    if (reads.length > 0) await Promise.race([Promise.all(reads), wait(this.#boundMs)]);
    return lines;
  }
}

async function readCommandLine(pid: number): Promise<string> {
  try {
    await using file = await files.open(`/proc/${pid}/cmdline`);
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_COMMAND_BYTES), 0, MAX_COMMAND_BYTES, 0);
    return printable(buffer.toString("utf8", 0, bytesRead))
      .trim()
      .slice(0, MAX_COMMAND_BYTES);
  } catch {
    return "";
  }
}

function bracketed(name: string): string {
  return `[${printable(name).trim()}]`;
}
