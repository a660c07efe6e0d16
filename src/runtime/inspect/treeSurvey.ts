/**
 * Orders the processes of a worker by how well they explain its state: first the process that uses the most CPU or, if
 * none uses any, a stuck one. A leader is often a shell, package manager or master that only waits for its children.
 *
 * Reads only /proc, so the processes take no part. Bounded: at most MAX_SURVEYED processes, a few small files for each.
 */
import { setTimeout as wait } from "node:timers/promises";
import { isDead, type ProcessStat, readStat } from "../os/procfs.ts";
import { readWait } from "./diagnosis.ts";

/** How long CPU usage is sampled by default. */
const SURVEY_MS = 100;

/** Maximum number of processes of one worker that are read. */
const MAX_SURVEYED = 512;

/** Minimum clock ticks within SURVEY_MS for a process to count as busy; a single tick may be chance. */
const LEAST_BUSY_TICKS = 2;

/** One process of the tree during the survey. */
export interface SurveyedProcess {
  /** At the end of the survey. */
  readonly stat: ProcessStat;
  /** State at the beginning of the survey. */
  readonly stateBefore: string;
  /** CPU time used during the survey. */
  readonly busyTicks: number;
  readonly hasChildren: boolean;
  /** The system call or kernel function that the main thread sleeps in; undefined if it is not asleep or hidden. */
  readonly sleepsIn: string | undefined;
}

export interface Survey {
  /** The most relevant process first; zombies only if there are no live processes. */
  readonly processes: readonly SurveyedProcess[];
  /** Whether the first process uses a CPU. */
  readonly isBusy: boolean;
}

/** Calls in which a healthy idle process waits for work or for its children. */
const IDLE_CALLS =
  /^(?:wait4|waitid|do_wait|epoll_|ep_poll|do_epoll|poll|ppoll|do_poll|do_sys_poll|poll_|select|pselect|do_select|core_sys_select|accept|inet_csk_accept|pause|rt_sig|sigsuspend|do_sigtimedwait|io_uring_enter)/u;

/** Watches the processes for `sampleMs` and orders them. Never rejects. */
export async function surveyTree(pids: readonly number[], sampleMs: number = SURVEY_MS): Promise<Survey> {
  const before = pids.slice(0, MAX_SURVEYED).flatMap((pid) => readStat(pid) ?? []);
  // A worker with a single process needs no comparison.
  if (before.filter((stat) => !isDead(stat)).length > 1) await wait(sampleMs);
  const after = before.flatMap((earlier) => {
    const stat = readStat(earlier.pid);
    return stat?.startTicks === earlier.startTicks ? [{ earlier, stat }] : [];
  });
  const parents = new Set(after.filter(({ stat }) => !isDead(stat)).map(({ stat }) => stat.ppid));
  const processes = after.map(({ earlier, stat }) => ({
    stat,
    stateBefore: earlier.state,
    busyTicks: Math.max(0, stat.cpuTicks - earlier.cpuTicks),
    hasChildren: parents.has(stat.pid),
    sleepsIn: stat.state === "S" ? readSleep(stat.pid) : undefined,
  }));
  return orderProcesses(processes);
}

/** Orders processes by how well they explain the worker's state; pure. */
export function orderProcesses(processes: readonly SurveyedProcess[]): Survey {
  const live = processes.filter(({ stat }) => !isDead(stat));
  const ordered = (live.length > 0 ? live : processes).toSorted(
    (a, b) =>
      rankOf(a) - rankOf(b) ||
      b.busyTicks - a.busyTicks ||
      // Prefer the process with the most CPU time in total.
      b.stat.cpuTicks - a.stat.cpuTicks,
  );
  const [first] = ordered;
  return { processes: ordered, isBusy: first !== undefined && (isBusy(first) || first.stat.state === "R") };
}

function rankOf(process: SurveyedProcess): number {
  const { stat, stateBefore, hasChildren, sleepsIn } = process;
  if (isBusy(process)) return 0;
  // A process that was twice found in uninterruptible sleep waits for a disk or a network file system.
  if (stat.state === "D" && stateBefore === "D") return 1;
  if (stat.state === "T" || stat.state === "t") return 2;
  // Runnable, but gets little or no CPU time.
  if (stat.state === "R") return 3;
  const isIdle = sleepsIn !== undefined && IDLE_CALLS.test(sleepsIn);
  // A parent mostly waits for its children, whichever call it is in.
  return (hasChildren ? 6 : 4) + (isIdle ? 1 : 0);
}

function isBusy({ busyTicks }: SurveyedProcess): boolean {
  return busyTicks >= LEAST_BUSY_TICKS;
}

function readSleep(pid: number): string | undefined {
  const { syscall, waitsIn } = readWait(`/proc/${pid}`);
  return syscall ?? waitsIn;
}

/** How a process relates to the leader of its worker: `child of the leader`, … */
export function relationOf(stat: ProcessStat, leader: number, members: ReadonlySet<number>): string {
  if (stat.pid === leader) return "the leader";
  if (stat.ppid === leader) return "child of the leader";
  // The parent exited and the process was reparented, usually to the controller.
  return members.has(stat.ppid) ? `child of pid ${stat.ppid}` : "its parent has exited";
}
