/** Signals workers: their groups, their leaders alone, and processes that left the group. */
import { monotonicMs } from "../../base/monotonic.ts";
import { inTurns, TURN_MS } from "../../base/turns.ts";
import { sendSignal } from "../os/linux.ts";
import { listPids, readStat } from "../os/procfs.ts";
import type { Adoptions } from "./adoptions.ts";
import type { WorkerProcess } from "./workerProcess.ts";

export class WorkerSignals {
  readonly #adoptions: Adoptions;
  /** Killed in this turn; processes that left their groups are still to be killed. */
  readonly #killed = new Set<WorkerProcess>();

  constructor(adoptions: Adoptions) {
    this.#adoptions = adoptions;
  }

  /** Sends a signal to the group of the worker, or to its leader alone, and to processes known to have left the group. */
  send(worker: WorkerProcess, signal: string, scope: "group" | "leader" | "escaped"): void {
    const { quit } = worker.launch;
    if (scope === "leader") sendStopSignal(worker.pid, signal);
    else if (scope === "group" && quit === undefined) sendStopSignal(-worker.pid, signal);
    else if (scope === "group" && quit !== undefined) void quitOrKill(worker, quit);
    worker.stopSignal = signal;
    if (worker.leaderExitedAtMs !== undefined) this.signalEscaped(worker);
  }

  /**
   * Sends SIGKILL to the group of the worker now, and soon to each process that carries its marks. Many workers may be
   * killed in one turn: all groups get the signal first, then /proc is read once for all of them.
   */
  kill(worker: WorkerProcess): void {
    sendSignal(-worker.pid, "SIGKILL");
    worker.stopSignal = "SIGKILL";
    worker.signaled.clear();
    if (this.#killed.size === 0) queueMicrotask(() => this.#killEscaped());
    this.#killed.add(worker);
  }

  #killEscaped(): void {
    const sessions = new Set([...this.#killed].map(({ pid }) => pid));
    const marks = new Set([...this.#killed].map((worker) => worker.marks));
    this.#killed.clear();
    inTurns(listPids(), (pid) => {
      const stat = readStat(pid);
      if (stat === undefined || pid === process.pid) return;
      if (sessions.has(stat.session) || marks.has(this.#adoptions.readMarks(pid) ?? "")) sendSignal(pid, "SIGKILL");
    });
  }

  /** Sends the stop signal once to each process outside the group, within one turn; the whole group already got it. */
  signalEscaped(worker: WorkerProcess): void {
    const { pid: leader, stopSignal, signaled } = worker;
    if (stopSignal === undefined) return;
    const deadline = monotonicMs() + TURN_MS;
    for (const pid of this.#adoptions.membersOf(worker)) {
      if (signaled.has(pid)) continue;
      if (monotonicMs() > deadline) return;
      if (readStat(pid)?.processGroup === leader) continue;
      signaled.add(pid);
      sendStopSignal(pid, stopSignal);
    }
  }
}

/** Stops a process that blocks all terminating signals except SIGKILL. */
async function quitOrKill(worker: WorkerProcess, quit: () => Promise<boolean>): Promise<void> {
  if (!(await quit()) && worker.leaderExitedAtMs === undefined) sendSignal(-worker.pid, "SIGKILL");
}

/** Sends SIGCONT too, like systemd: a suspended process could not react and would be killed at the deadline. */
function sendStopSignal(target: number, signal: string): void {
  sendSignal(target, signal);
  sendSignal(target, "SIGCONT");
}
