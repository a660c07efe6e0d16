/**
 * Reads what processes use (CPU, memory, descriptors, limits) for hundreds of them at once, cheaply enough for every
 * scrape.
 *
 * Usage is read each time, the limits of a process about once a minute. A process that has exited is absent from the
 * result, even if it has not been reaped. Reads only /proc (proc(5)); it neither signals nor waits.
 */

import { readFileSync } from "node:fs";
import { monotonicMs } from "../../base/monotonic.ts";
import type { ProcessReading } from "../../base/readings.ts";
import { readProcText } from "../os/procFile.ts";
import { countOpenFds, isDead, type ProcessStat, readStat } from "../os/procfs.ts";

/** Limits can be changed from outside (prlimit(2)), which is rare. */
const LIMITS_MS = 60_000;

/** Maximum number of processes whose limits one call rereads, so that they do not all become due in the same call. */
const LIMITS_PER_CALL = 50;

/** A reading, and the stat that its numbers come from. */
interface StatReading extends ProcessReading {
  readonly stat: ProcessStat;
}

/** Cached data of a process; `startTicks` distinguishes it from a later process with the same pid. */
interface Known {
  readonly startTicks: number;
  readonly startTimeSeconds: number;
  readonly maxFds: number | undefined;
  readonly virtualMaxBytes: number | undefined;
  readonly limitsReadMs: number;
}

export interface ProcessReadingsOptions {
  /** Clock ticks in a second: sysconf(_SC_CLK_TCK). */
  readonly ticksPerSecond: number;
  /** Bytes of a page of memory: sysconf(_SC_PAGESIZE). */
  readonly pageBytes: number;
  /** Monotonic milliseconds. */
  readonly nowMs?: () => number;
}

export class ProcessReadings {
  readonly #options: ProcessReadingsOptions;
  #known = new Map<number, Known>();
  /** Read at most once per call, when a process is new. */
  #bootSeconds: number | undefined;
  #limitsLeft = 0;

  constructor(options: ProcessReadingsOptions) {
    this.#options = options;
  }

  /** The readings of `pids`, by pid. Forgets all processes that are not in `pids`. */
  read(pids: Iterable<number>): Map<number, StatReading> {
    const nowMs = (this.#options.nowMs ?? monotonicMs)();
    const readings = new Map<number, StatReading>();
    const known = new Map<number, Known>();
    this.#bootSeconds = undefined;
    this.#limitsLeft = LIMITS_PER_CALL;
    for (const pid of pids) {
      const reading = this.#readOne(pid, nowMs, known);
      if (reading !== undefined) readings.set(pid, reading);
    }
    this.#known = known;
    return readings;
  }

  #readOne(pid: number, nowMs: number, known: Map<number, Known>): StatReading | undefined {
    const stat = readStat(pid);
    if (stat === undefined || isDead(stat)) return undefined;
    const entry = this.#recall(pid, stat.startTicks, nowMs);
    known.set(pid, entry);
    return {
      cpuSeconds: stat.cpuTicks / this.#options.ticksPerSecond,
      openFds: countOpenFds(pid),
      maxFds: entry.maxFds,
      residentBytes: stat.rssPages * this.#options.pageBytes,
      virtualBytes: stat.virtualBytes,
      virtualMaxBytes: entry.virtualMaxBytes,
      startTimeSeconds: entry.startTimeSeconds,
      stat,
    };
  }

  #recall(pid: number, startTicks: number, nowMs: number): Known {
    const last = this.#known.get(pid);
    if (last?.startTicks === startTicks) {
      if (nowMs - last.limitsReadMs < LIMITS_MS || this.#limitsLeft-- <= 0) return last;
      return { ...last, ...this.#readLimits(pid), limitsReadMs: nowMs };
    }
    this.#bootSeconds ??= readBootSeconds();
    const startTimeSeconds = this.#bootSeconds + startTicks / this.#options.ticksPerSecond;
    return { startTicks, startTimeSeconds, ...this.#readLimits(pid), limitsReadMs: nowMs };
  }

  #readLimits(pid: number): Pick<Known, "maxFds" | "virtualMaxBytes"> {
    const text = readProcText(`/proc/${pid}/limits`) ?? "";
    return { maxFds: softLimit(text, "Max open files"), virtualMaxBytes: softLimit(text, "Max address space") };
  }
}

/** The soft limit in a line such as `Max open files            1024                 4096                 files`. */
function softLimit(limits: string, name: string): number | undefined {
  const at = limits.indexOf(`\n${name} `);
  if (at < 0) return undefined;
  const soft = limits.slice(at + name.length + 1, at + name.length + 60).trimStart();
  return soft.startsWith("unlimited") ? Number.POSITIVE_INFINITY : Number.parseInt(soft, 10);
}

/** When the system booted, in seconds since 1970. */
function readBootSeconds(): number {
  const text = readFileSync("/proc/stat", "latin1");
  return Number(/^btime (\d+)$/mu.exec(text)?.[1] ?? Number.NaN);
}
