/** Reports what the processes of a worker are doing: in full on request, and in one line before a hung worker is replaced. */
import { MAX_DUMPED_PROCESSES, type ProcessDump, type WorkerDump } from "../../admin/api.ts";
import { ControllerError } from "../../base/errors.ts";
import { monotonicMs } from "../../base/monotonic.ts";
import type { Slot } from "../../core/identity.ts";
import type { WorkerView } from "../../core/view.ts";
import { type Diagnosis, diagnose, formatDiagnosis, formatState } from "../../runtime/inspect/diagnosis.ts";
import { formatStack, type PySpyAnswer } from "../../runtime/inspect/pySpy.ts";
import { readKernelStack } from "../../runtime/os/procfs.ts";
import type { PythonStacks } from "./pythonStacks.ts";
import { chooseProcess, describeSubject, relationOfSubject, type Subject, type WorkerSurvey } from "./workerSurvey.ts";

/** Time limit for taking a worker's stacks on request. */
const DUMP_MS = 5000;

/** Total time limit for diagnosing a hung worker before it is replaced. */
const DIAGNOSIS_MS = 2000;

/** Number of processes in a dump, from the first, whose stacks are taken. */
const MAX_STACKS = 4;

export class WorkerDumps {
  readonly #survey: WorkerSurvey;
  readonly #stacks: PythonStacks;

  constructor(survey: WorkerSurvey, stacks: PythonStacks) {
    this.#survey = survey;
    this.#stacks = stacks;
  }

  /**
   * One line on what the worker with this leader is doing: about the process that explains the most, with a stack if
   * one can be taken in time, and about the leader. undefined if it has exited. Never rejects.
   */
  async describe(leader: number): Promise<string | undefined> {
    const startedAtMs = monotonicMs();
    const [subject] = await this.#survey.processesOf(leader);
    if (subject === undefined) return undefined;
    const { pid } = subject.process.stat;
    const boundMs = DIAGNOSIS_MS - (monotonicMs() - startedAtMs);
    const [diagnosis, ofLeader, stacks] = await Promise.all([
      diagnose(pid),
      pid === leader ? undefined : diagnose(leader),
      this.#stacks.dump(pid, boundMs),
    ]);
    if (diagnosis === undefined) return undefined;
    const stack = stacks?.kind === "found" ? formatStack(stacks.text) : undefined;
    return [
      describeSubject(subject, diagnosis, true),
      ...(stack === undefined ? [] : [`Python is at ${stack}`]),
      ...(ofLeader === undefined ? [] : [`the leader (${ofLeader.command}) is ${formatState(ofLeader)}`]),
    ].join("; ");
  }

  /**
   * What the processes of a worker are doing, or only `pid` of them. A process that has exited is reported too.
   * @throws ControllerError REQUEST_REFUSED, PROCESS_UNKNOWN
   */
  async dump(pool: number, slot: Slot, pid: number | undefined): Promise<WorkerDump> {
    const worker = this.#survey.workerIn(pool, slot);
    if (worker.pid === undefined && pid === undefined) return dumpOf(worker, 0, []);
    if (this.#stacks.isAtLimit)
      throw new ControllerError(
        "REQUEST_REFUSED",
        `Cannot dump worker "${worker.id}": too many other dumps are in progress, try again`,
      );
    const subjects = worker.pid === undefined ? [] : await this.#survey.processesOf(worker.pid);
    const chosen = pid === undefined ? subjects : [chooseProcess("dump", worker, subjects, pid)];
    const isAlone = subjects.length <= 1;
    const pids = chosen.map(({ process }) => process.stat.pid);
    const [diagnoses, stacks] = await Promise.all([
      Promise.all(pids.slice(0, MAX_DUMPED_PROCESSES).map((each) => diagnose(each))),
      this.#stacks.dumpAll(pids.slice(0, MAX_STACKS), DUMP_MS),
    ]);
    const processes = diagnoses.flatMap((diagnosis, index) => {
      const subject = chosen[index];
      if (diagnosis === undefined || subject === undefined) return [];
      const isFirst = index === 0 && pid === undefined;
      const text = isAlone ? formatDiagnosis(diagnosis) : describeSubject(subject, diagnosis, isFirst);
      return [processDumpOf(subject, diagnosis, text, stacks[index])];
    });
    return dumpOf(worker, subjects.length, processes);
  }
}

function dumpOf(worker: WorkerView, processCount: number, processes: readonly ProcessDump[]): WorkerDump {
  const { id, pool, phase, incarnation, pid, reason } = worker;
  const missing = pid === undefined ? `there is no process: ${reason}` : "the process ended meanwhile";
  return {
    id,
    pool,
    phase,
    incarnation,
    pid: pid ?? null,
    text: processes[0]?.text ?? missing,
    process_count: processCount,
    processes,
  };
}

function processDumpOf(
  subject: Subject,
  diagnosis: Diagnosis,
  text: string,
  stacks: PySpyAnswer | undefined,
): ProcessDump {
  return {
    pid: diagnosis.pid,
    parent_pid: subject.process.stat.ppid,
    relation: relationOfSubject(subject),
    text,
    diagnosis: {
      command: diagnosis.command,
      thread_count: diagnosis.threadCount,
      threads: diagnosis.threads.map(({ tid, name, state, waitsIn, syscall }) => ({
        tid,
        name,
        state,
        waits_in: waitsIn ?? null,
        syscall: syscall ?? null,
      })),
      open_fds: diagnosis.openFds ?? null,
      rss_bytes: diagnosis.residentBytes,
      cpu_seconds: diagnosis.cpuSeconds,
      cpu_ratio: diagnosis.cpuShare ?? null,
    },
    kernel_stack: readKernelStack(diagnosis.pid) ?? null,
    stack: stacks?.kind === "found" ? { engine: "py-spy", text: stacks.text } : null,
    hint: stacks?.kind === "failed" ? stacks.reason : null,
  };
}
