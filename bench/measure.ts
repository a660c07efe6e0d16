/**
 * Readings of /proc and the clock for the benchmarks. Everything here is synchronous on purpose: the poller must see
 * a process well below a millisecond after it is there, and no event loop stands between it and the kernel.
 */

import { readdirSync, readFileSync } from "node:fs";

const pauseCell = new Int32Array(new SharedArrayBuffer(4));

/** Blocks for `ms` milliseconds (fractions allowed; the kernel adds about 0.06). */
export function pause(ms: number): void {
  Atomics.wait(pauseCell, 0, 0, ms);
}

/** Polls until `isTrue`; the milliseconds from the call to the poll that saw it, undefined at the deadline. */
export function pollUntil(isTrue: () => boolean, deadlineMs: number, pauseMs = 0.1): number | undefined {
  const startedAt = performance.now();
  for (;;) {
    if (isTrue()) return performance.now() - startedAt;
    if (performance.now() - startedAt > deadlineMs) return undefined;
    pause(pauseMs);
  }
}

/** The text of a /proc file, empty where the process is gone. */
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

/** The kernel's name of a live process; undefined when it is gone or a zombie. */
export function nameOf(pid: number): string | undefined {
  const stat = read(`/proc/${pid}/stat`);
  const end = stat.lastIndexOf(")");
  if (end < 0 || stat[end + 2] === "Z" || stat[end + 2] === "X") return undefined;
  return stat.slice(stat.indexOf("(") + 1, end);
}

/** Every process below `pid`, however deep. */
export function descendantsOf(pid: number): number[] {
  return childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)]);
}

/** Private dirty memory of processes together, in MB. Call `sync` before: fresh executables count until flushed. */
export function privateDirtyMb(pids: readonly number[]): number {
  let kib = 0;
  for (const pid of pids) kib += Number(/^Private_Dirty:\s+(\d+)/mu.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0);
  return (kib * 1024) / 1e6;
}

/** CPU time of all threads of processes together, in milliseconds with the scheduler's nanosecond precision. */
export function cpuMs(pids: readonly number[]): number {
  let ns = 0;
  for (const pid of pids) {
    for (const thread of threadsOf(pid)) ns += Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(" ")[0]);
  }
  return ns / 1e6;
}

/** Open descriptors of processes together. */
export function fdCount(pids: readonly number[]): number {
  let count = 0;
  for (const pid of pids) {
    try {
      count += readdirSync(`/proc/${pid}/fd`).length;
    } catch {
      // Gone between listing and reading.
    }
  }
  return count;
}

/** Sees the workers of one controller come: its children with a given name. A pid counts once it has exec'd. */
export class WorkerWatch {
  readonly #controller: number;
  readonly #name: string;
  #running = new Set<number>();

  constructor(controller: number, name: string) {
    this.#controller = controller;
    this.#name = name;
  }

  /** Pids of the workers now. Known ones are not looked at again as long as they are listed. */
  workers(): ReadonlySet<number> {
    const running = new Set<number>();
    for (const pid of childrenOf(this.#controller)) {
      if (this.#running.has(pid) || nameOf(pid) === this.#name) running.add(pid);
    }
    this.#running = running;
    return running;
  }
}

/** The middle value (mean of the two middle ones); undefined for no values. */
export function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle];
  const lower = sorted[sorted.length % 2 === 0 ? middle - 1 : middle];
  return upper === undefined || lower === undefined ? undefined : (upper + lower) / 2;
}
