/**
 * Readings of /proc and the clock for the benchmarks. Everything is synchronous on purpose: polling must detect a process
 * well below a millisecond after its start, without the delay of an event loop.
 */

import { readdirSync, readFileSync } from "node:fs";

const pauseCell = new Int32Array(new SharedArrayBuffer(4));

/** Blocks for `ms` milliseconds. Fractions are allowed, and the kernel adds about 0.06. */
export function pause(ms: number): void {
  Atomics.wait(pauseCell, 0, 0, ms);
}

/** Polls until `isTrue` holds. Returns the elapsed milliseconds, or undefined at the deadline. */
export function pollUntil(isTrue: () => boolean, deadlineMs: number, pauseMs = 0.1): number | undefined {
  const startedAt = performance.now();
  for (;;) {
    if (isTrue()) return performance.now() - startedAt;
    if (performance.now() - startedAt > deadlineMs) return undefined;
    pause(pauseMs);
  }
}

/** The text of a /proc file; empty if the process has exited. */
function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** Direct children of a process, zombies included. */
export function childrenOf(pid: number): number[] {
  const pids: number[] = [];
  for (const thread of threadsOf(pid)) {
    for (const child of read(`/proc/${pid}/task/${thread}/children`).split(" ")) if (child !== "") pids.push(+child);
  }
  return pids;
}

/** The kernel's name of a live process; undefined if it has exited or is a zombie. */
export function nameOf(pid: number): string | undefined {
  const stat = read(`/proc/${pid}/stat`);
  const end = stat.lastIndexOf(")");
  if (end < 0 || stat[end + 2] === "Z" || stat[end + 2] === "X") return undefined;
  return stat.slice(stat.indexOf("(") + 1, end);
}

/** All descendants of `pid`. */
export function descendantsOf(pid: number): number[] {
  return childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)]);
}

/** Total private dirty memory of processes in MB. Call `sync` before, because new executables count until flushed. */
export function privateDirtyMb(pids: readonly number[]): number {
  let kib = 0;
  for (const pid of pids) kib += Number(/^Private_Dirty:\s+(\d+)/mu.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0);
  return (kib * 1024) / 1e6;
}

/** Total CPU time of all threads of processes in milliseconds, with the scheduler's nanosecond precision. */
export function cpuMs(pids: readonly number[]): number {
  let ns = 0;
  for (const pid of pids) {
    for (const thread of threadsOf(pid)) ns += Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(" ")[0]);
  }
  return ns / 1e6;
}

/** Total number of open descriptors of processes. */
export function fdCount(pids: readonly number[]): number {
  let count = 0;
  for (const pid of pids) {
    try {
      count += readdirSync(`/proc/${pid}/fd`).length;
    } catch {
      // It has exited since the listing.
    }
  }
  return count;
}

/** Detects the workers of a controller: its children with a given name, which they have after exec. */
export class WorkerWatch {
  readonly #controller: number;
  readonly #name: string;
  #running = new Set<number>();

  constructor(controller: number, name: string) {
    this.#controller = controller;
    this.#name = name;
  }

  /** Pids of the current workers. The names of known pids are not read again. */
  workers(): ReadonlySet<number> {
    const running = new Set<number>();
    for (const pid of childrenOf(this.#controller)) {
      if (this.#running.has(pid) || nameOf(pid) === this.#name) running.add(pid);
    }
    this.#running = running;
    return running;
  }
}

/** The median; undefined if there are no values. */
export function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle];
  const lower = sorted[sorted.length % 2 === 0 ? middle - 1 : middle];
  return upper === undefined || lower === undefined ? undefined : (upper + lower) / 2;
}
