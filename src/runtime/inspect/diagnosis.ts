/**
 * Diagnoses what a process is doing now, from /proc (proc(5)). The result goes into the event for a worker that stopped
 * responding, before it is replaced. Works for any language, and for stopped or stuck processes, because the process
 * itself takes no part.
 *
 * Bounded in size and time: reads at most MAX_THREADS threads. For a process in uninterruptible sleep, it skips files
 * that take the process's memory lock, because reading them could block. Environment values are never read.
 */

import { opendirSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { monotonicMs } from "../../base/monotonic.ts";
import { printable } from "../../base/printable.ts";
import { formatDuration, formatSize } from "../../base/units.ts";
import { readSystemUnits } from "../os/linux.ts";
import { readText } from "../os/procFile.ts";
import { countOpenFds, type ProcessStat, readStat } from "../os/procfs.ts";
import { syscallName } from "../os/syscallNames.ts";
import { readCommand } from "./commandLines.ts";

/** How long CPU usage is sampled by default. */
const SAMPLE_MS = 100;

const MAX_THREADS = 16;

/** Maximum threads besides the main thread that the text names. */
const MAX_NAMED_THREADS = 3;

/** One thread. */
export interface ThreadDiagnosis {
  readonly tid: number;
  readonly name: string;
  /** R, S, D, T … */
  readonly state: string;
  /** The kernel function it waits in; undefined if it does not wait or the kernel hides this. */
  readonly waitsIn: string | undefined;
  /** The system call it is in; undefined if it is in none or the kernel hides this. */
  readonly syscall: string | undefined;
}

export interface Diagnosis {
  readonly pid: number;
  /** The beginning of the command line, or the process name if it cannot be read. */
  readonly command: string;
  readonly threadCount: number;
  /** The main thread first, then the others in kernel order, at most MAX_THREADS. */
  readonly threads: readonly ThreadDiagnosis[];
  readonly openFds: number | undefined;
  readonly residentBytes: number;
  /** User and system time since the start. */
  readonly cpuSeconds: number;
  /** Share of one core during the sample, in steps of a clock tick; undefined if the process exited meanwhile. */
  readonly cpuShare: number | undefined;
  readonly sampleMs: number;
}

/** Diagnoses a process over `sampleMs`; undefined if it does not exist. Never rejects. */
export async function diagnose(pid: number, sampleMs: number = SAMPLE_MS): Promise<Diagnosis | undefined> {
  const startedAtMs = monotonicMs();
  const before = readStat(pid);
  if (before === undefined) return undefined;
  const { ticksPerSecond, pageBytes } = readSystemUnits();
  const threads = readThreads(pid, before);
  const openFds = countOpenFds(pid);
  const threadCount = readThreadCount(pid) ?? threads.length;
  const named = { pid, state: before.state, name: before.command };
  const [command] = await Promise.all([readCommand(named, sampleMs), wait(sampleMs)]);
  const later = readStat(pid);
  const elapsedMs = monotonicMs() - startedAtMs;
  const isSame = later?.startTicks === before.startTicks;
  const busyMs = isSame ? ((later.cpuTicks - before.cpuTicks) / ticksPerSecond) * 1000 : undefined;
  return {
    pid,
    command,
    threadCount,
    threads,
    openFds,
    residentBytes: before.rssPages * pageBytes,
    cpuSeconds: before.cpuTicks / ticksPerSecond,
    cpuShare: busyMs === undefined ? undefined : busyMs / elapsedMs,
    sampleMs: elapsedMs,
  };
}

/** Descriptions of thread states. */
export const STATES: Readonly<Record<string, string>> = {
  R: "running",
  S: "sleeping",
  D: "in uninterruptible sleep",
  T: "stopped by a signal",
  t: "stopped by a debugger",
  Z: "dead",
  X: "dead",
  I: "idle",
};

/**
 * One human-readable line: `sleeping in futex (futex_wait_queue), 0 % of a core during 100ms, 4 threads, …: COMMAND`.
 * If `subject`, a name for the process, is given, it comes first and the command is omitted.
 */
export function formatDiagnosis(diagnosis: Diagnosis, subject?: string): string {
  const { threads, threadCount, openFds, cpuShare } = diagnosis;
  const [, ...others] = threads;
  const busy = others.filter(({ state }) => state === "R" || state === "D").slice(0, MAX_NAMED_THREADS);
  const parts = [
    formatState(diagnosis),
    cpuShare === undefined
      ? "exited meanwhile"
      : `${Math.round(cpuShare * 100)} % of a core during ${formatDuration(Math.round(diagnosis.sampleMs))}`,
    `${formatDuration(Math.round(diagnosis.cpuSeconds * 1000))} CPU time in all`,
    `${threadCount} thread${threadCount === 1 ? "" : "s"}`,
    ...busy.map((thread) => `thread "${thread.name}" ${formatThread(thread)}`),
    ...(openFds === undefined ? [] : [`${openFds} open descriptors`]),
    `${formatSize(roundedSize(diagnosis.residentBytes))} resident`,
  ];
  return subject === undefined ? `${parts.join(", ")}: ${diagnosis.command}` : `${subject}: ${parts.join(", ")}`;
}

/** What the main thread does: `sleeping in wait4 (do_wait)`. */
export function formatState({ threads: [main] }: Diagnosis): string {
  return main === undefined ? "state unknown" : formatThread(main);
}

/** Rounds to whole MiB, or to whole KiB below 1 MiB. */
function roundedSize(bytes: number): number {
  const unit = bytes < 2 ** 20 ? 2 ** 10 : 2 ** 20;
  return Math.round(bytes / unit) * unit;
}

function formatThread({ state, syscall, waitsIn }: ThreadDiagnosis): string {
  const call = syscall === undefined ? "" : ` in ${syscall}`;
  return `${STATES[state] ?? `in state ${state}`}${call}${waitsIn === undefined ? "" : ` (${waitsIn})`}`;
}

/** The main thread, whose stat is `main`, and the first of the others, at most MAX_THREADS in all. */
export function readThreads(pid: number, main: ProcessStat): ThreadDiagnosis[] {
  const others = listThreads(pid).flatMap((tid) => {
    const stat = tid === pid ? undefined : readStat(pid, tid);
    return stat === undefined ? [] : [readThread(pid, tid, stat)];
  });
  return [readThread(pid, pid, main), ...others].slice(0, MAX_THREADS);
}

function readThread(pid: number, tid: number, { command, state }: ProcessStat): ThreadDiagnosis {
  return { tid, name: printable(command).trim(), state, ...readWait(`/proc/${pid}/task/${tid}`) };
}

/** What a process or thread with this directory waits in. */
export function readWait(directory: string): Pick<ThreadDiagnosis, "syscall" | "waitsIn"> {
  const call = /^\d+/u.exec(readText(`${directory}/syscall`) ?? "")?.[0];
  const waitsIn = readText(`${directory}/wchan`)?.trim();
  return {
    syscall: call === undefined ? undefined : syscallName(Number(call)),
    // "0" means that the thread does not wait, or that the kernel hides the function.
    waitsIn: waitsIn === "" || waitsIn === "0" ? undefined : waitsIn,
  };
}

/** The first threads of a process; there may be thousands. */
function listThreads(pid: number): number[] {
  const tids: number[] = [];
  try {
    using directory = opendirSync(`/proc/${pid}/task`);
    for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
      tids.push(Number(entry.name));
      if (tids.length > MAX_THREADS) break;
    }
  } catch {
    // The process exited; return the threads read so far.
  }
  return tids;
}

function readThreadCount(pid: number): number | undefined {
  const count = /^Threads:\s*(\d+)$/mu.exec(readText(`/proc/${pid}/status`) ?? "")?.[1];
  return count === undefined ? undefined : Number(count);
}
