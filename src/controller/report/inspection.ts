/**
 * Inspects workers and the controller itself on demand: dumps and profiles. Of the processes of a worker the one
 * that explains the most comes first (runtime/inspect/treeSurvey.ts). Chooses the engine, converts the results to the form of the
 * API, and limits how many dumps and profiles run at the same time.
 */

import { promisify } from "node:util";
import {
  MAX_DUMPED_PROCESSES,
  type ProcessDump,
  type ProfileAnswer,
  type ProfileSubject,
  type WorkerDump,
} from "../../admin/api.ts";
import { ControllerError } from "../../base/errors.ts";
import { monotonicMs } from "../../base/monotonic.ts";
import { formatDuration } from "../../base/units.ts";
import type { Slot } from "../../core/identity.ts";
import type { ControllerView, WorkerView } from "../../core/view.ts";
import { parseCollapsed } from "../../profile/collapsed.ts";
import { encodePprof, type Profile, type Stack } from "../../profile/pprof.ts";
import { stacksOfCpuProfile, stacksOfHeapProfile } from "../../profile/v8.ts";
import { readCommand } from "../../runtime/inspect/commandLines.ts";
import { type Diagnosis, diagnose, formatDiagnosis, formatState } from "../../runtime/inspect/diagnosis.ts";
import {
  dumpStacks,
  findPySpy,
  formatStack,
  isPython,
  type PySpyAnswer,
  recordStacks,
} from "../../runtime/inspect/pySpy.ts";
import { profileCpu, profileHeap, SELF_PROFILE_PERIODS } from "../../runtime/inspect/selfProfile.ts";
import { sampleThreads } from "../../runtime/inspect/threadSampler.ts";
import { relationOf, type Survey, type SurveyedProcess, surveyTree } from "../../runtime/inspect/treeSurvey.ts";
import { readKernelStack, readStat } from "../../runtime/os/procfs.ts";
import type { ToolControl } from "../../runtime/process/helpers.ts";

/** Time limit for taking a worker's stacks on request. */
const DUMP_MS = 5000;

/** Total time limit for diagnosing a hung worker before it is replaced. */
const LAST_WORDS_MS = 2000;

/** Maximum concurrent stack dumps; if hundreds of workers hang, the first dumps are enough. */
const MAX_DUMPS = 2;

/** Number of processes in a dump, from the first, whose stacks are taken. */
const MAX_STACKS = 4;

/** Time limit for reading the command line of a process. */
const COMMAND_MS = 100;

/** Maximum number of process ids in an error. */
const MAX_NAMED_PIDS = 10;

/** Maximum concurrent profiles. */
const MAX_PROFILES = 2;

const SAMPLES = { type: "samples", unit: "count" } as const;
const CPU = { type: "cpu", unit: "nanoseconds" } as const;
const WALL = { type: "wall", unit: "nanoseconds" } as const;
const SPACE = { type: "inuse_space", unit: "bytes" } as const;

const NANOS_PER_SECOND = 1e9;

/** The result of profiling a worker; `ended` if the process ended before the requested time. */
interface Found {
  readonly engine: ProfileAnswer["engine"];
  readonly stacks: readonly Stack[];
  readonly ended: boolean;
  readonly durationMs: number;
  /** Notes for the reader. */
  readonly comments: readonly string[];
}

/** Which processes belong to a worker. */
interface Trees {
  refresh(): void;
  membersOf(leader: number): readonly number[];
}

/** One process of a worker, and the worker. */
interface Subject {
  readonly leader: number;
  readonly process: SurveyedProcess;
  readonly survey: Survey;
  /** Live processes of the worker. */
  readonly members: ReadonlySet<number>;
}

export class Inspection {
  readonly #view: () => ControllerView;
  readonly #trees: Trees;
  readonly #tools: ToolControl;
  readonly #searchPath: () => string | undefined;
  #dumps = 0;
  /** What is being profiled: ids of workers, and the controller. */
  readonly #profiled = new Set<string>();

  constructor(options: {
    view: () => ControllerView;
    trees: Trees;
    tools: ToolControl;
    /** PATH, which is searched for py-spy each time. */
    searchPath: () => string | undefined;
  }) {
    this.#view = options.view;
    this.#trees = options.trees;
    this.#tools = options.tools;
    this.#searchPath = options.searchPath;
  }

  /**
   * One line on what the worker with this leader is doing: about the process that explains the most, with a stack if
   * one can be taken in time, and about the leader. undefined if it has exited. Never rejects.
   */
  async describe(leader: number): Promise<string | undefined> {
    const startedAtMs = monotonicMs();
    const [subject] = await this.#survey(leader);
    if (subject === undefined) return undefined;
    const { pid } = subject.process.stat;
    const boundMs = LAST_WORDS_MS - (monotonicMs() - startedAtMs);
    const [diagnosis, ofLeader, stacks] = await Promise.all([
      diagnose(pid),
      pid === leader ? undefined : diagnose(leader),
      this.#stacksOf(pid, boundMs),
    ]);
    if (diagnosis === undefined) return undefined;
    const stack = stacks?.kind === "found" ? formatStack(stacks.text) : undefined;
    return [
      textOf(subject, diagnosis, true),
      ...(stack === undefined ? [] : [`Python is at ${stack}`]),
      ...(ofLeader === undefined ? [] : [`the leader (${ofLeader.command}) is ${formatState(ofLeader)}`]),
    ].join("; ");
  }

  /**
   * What the processes of a worker are doing, or only `pid` of them. A process that has exited is reported too.
   * @throws ControllerError REQUEST_REFUSED, PROCESS_UNKNOWN
   */
  async dump(pool: number, slot: Slot, pid: number | undefined): Promise<WorkerDump> {
    const worker = this.#workerOf(pool, slot);
    if (worker.pid === undefined && pid === undefined) return dumpOf(worker, 0, []);
    if (this.#dumps >= MAX_DUMPS)
      throw new ControllerError(
        "REQUEST_REFUSED",
        `Cannot dump worker "${worker.id}": ${this.#dumps} others are being dumped, try again`,
      );
    const subjects = worker.pid === undefined ? [] : await this.#survey(worker.pid);
    const chosen = pid === undefined ? subjects : [chooseProcess("dump", worker, subjects, pid)];
    const isAlone = subjects.length <= 1;
    const [diagnoses, stacks] = await Promise.all([
      Promise.all(chosen.slice(0, MAX_DUMPED_PROCESSES).map(({ process }) => diagnose(process.stat.pid))),
      this.#stacksOfAll(chosen.slice(0, MAX_STACKS)),
    ]);
    const processes = diagnoses.flatMap((diagnosis, index) => {
      const subject = chosen[index];
      if (diagnosis === undefined || subject === undefined) return [];
      const text = isAlone ? formatDiagnosis(diagnosis) : textOf(subject, diagnosis, index === 0 && pid === undefined);
      return [processDumpOf(subject, diagnosis, text, stacks[index])];
    });
    return dumpOf(worker, subjects.length, processes);
  }

  /**
   * Profiles the process `pid` of a worker, or the one that explains the most, until the time is over, it ends, or `signal`
   * aborts.
   * @throws ControllerError REQUEST_REFUSED if it has no process, or is being profiled; PROCESS_UNKNOWN
   */
  async profileWorker(
    pool: number,
    slot: Slot,
    request: {
      readonly seconds: number;
      readonly hz: number;
      readonly pid: number | undefined;
      readonly signal: AbortSignal;
    },
  ): Promise<ProfileAnswer> {
    const { seconds, hz, signal } = request;
    const worker = this.#workerOf(pool, slot);
    const { id, pid: leader } = worker;
    const gone = () => new ControllerError("REQUEST_REFUSED", `Cannot profile worker "${id}": it has no process`);
    if (leader === undefined) throw gone();
    using _ = this.#claim(id, `worker "${id}"`);
    const subjects = await this.#survey(leader);
    const subject = request.pid === undefined ? subjects[0] : chooseProcess("profile", worker, subjects, request.pid);
    if (subject === undefined) throw gone();
    const { pid, command: name, state } = subject.process.stat;
    const commandLine = await readCommand({ pid, name, state }, COMMAND_MS);
    const startedAtMs = Date.now();
    const found = await this.#profilePid(pid, { seconds, hz, signal });
    const { engine, stacks, ended, durationMs } = found;
    const which = pid === leader ? "the worker" : `pid ${pid}`;
    const note = ended ? `${which} ended after ${formatDuration(Math.round(durationMs))}` : undefined;
    const valueType = engine === "py-spy" ? CPU : WALL;
    return answerOf(engine, note, pid, {
      origin: id,
      valueTypes: [SAMPLES, valueType],
      shownType: valueType.type,
      stacks,
      periodType: valueType,
      period: Math.round(NANOS_PER_SECOND / hz),
      startedAtMs,
      durationMs,
      comments: [
        `engine: ${engine}`,
        `process: pid ${pid} (${commandLine}), ${relationOfSubject(subject)}`,
        ...(note === undefined ? [] : [note]),
        ...found.comments,
      ],
    });
  }

  /** Profiles this process until the time is over or `signal` aborts. @throws ControllerError REQUEST_REFUSED */
  async profileSelf(subject: ProfileSubject, seconds: number, signal: AbortSignal): Promise<ProfileAnswer> {
    using _ = this.#claim("", "the controller");
    const startedAtMs = Date.now();
    const begunMs = monotonicMs();
    const common = { origin: "monoceros", startedAtMs };
    if (subject === "cpu") {
      const stacks = stacksOfCpuProfile(await profileCpu(seconds * 1000, signal));
      return answerOf("v8", undefined, undefined, {
        ...common,
        valueTypes: [SAMPLES, CPU],
        shownType: CPU.type,
        stacks,
        periodType: CPU,
        period: SELF_PROFILE_PERIODS.cpuMicros * 1000,
        durationMs: monotonicMs() - begunMs,
        comments: ["engine: v8", "main thread; waiting for events is left out"],
      });
    }
    const stacks = stacksOfHeapProfile(await profileHeap(seconds * 1000, signal));
    return answerOf("v8", undefined, undefined, {
      ...common,
      valueTypes: [SPACE],
      shownType: SPACE.type,
      stacks,
      periodType: { type: "space", unit: "bytes" },
      period: SELF_PROFILE_PERIODS.heapBytes,
      durationMs: monotonicMs() - begunMs,
      comments: ["engine: v8", "what was allocated in this time and is still in use at its end"],
    });
  }

  async #profilePid(
    pid: number,
    request: { readonly seconds: number; readonly hz: number; readonly signal: AbortSignal },
  ): Promise<Found> {
    const { seconds, hz, signal } = request;
    const tool = findPySpy(this.#searchPath(), pid);
    const comments: string[] = [];
    if (tool !== undefined && (await isPython(pid))) {
      const birth = readStat(pid)?.startTicks;
      const begunMs = monotonicMs();
      const recorded: PySpyAnswer =
        "kind" in tool
          ? { kind: "failed", reason: tool.reason }
          : await recordStacks(this.#tools, tool, { pid, ...request });
      if (recorded.kind === "found") {
        const stacks = parseCollapsed(recorded.text).map(({ frames, count }) => ({
          frames,
          values: [count, Math.round((count * NANOS_PER_SECOND) / hz)],
        }));
        const ended = readStat(pid)?.startTicks !== birth;
        const durationMs = Math.min(monotonicMs() - begunMs, seconds * 1000);
        return { engine: "py-spy", stacks, ended, durationMs, comments: ["only what used a processor"] };
      }
      comments.push(recorded.reason);
    }
    const sampling = await sampleThreads(pid, { durationMs: seconds * 1000, hz, signal });
    const stacks = sampling.stacks.map(({ frames, count, elapsedMs }) => ({
      frames: frames.map((name) => ({ name, file: "", line: 0 })),
      values: [count, Math.round(elapsedMs * 1e6)],
    }));
    comments.push("states of its threads, read from /proc: no functions of the program");
    return { engine: "proc", stacks, ended: sampling.hasEnded, durationMs: sampling.durationMs, comments };
  }

  /** The live processes of a worker, the one that explains the most first; a zombie only if there is nothing else. */
  async #survey(leader: number): Promise<readonly Subject[]> {
    this.#trees.refresh();
    // A leader that was just spawned, or that no longer belongs to a worker, is its own tree.
    const pids = this.#trees.membersOf(leader);
    const survey = await surveyTree(pids.length === 0 ? [leader] : pids);
    const members = new Set(survey.processes.map(({ stat }) => stat.pid));
    return survey.processes.map((process) => ({ leader, process, survey, members }));
  }

  /** Stacks of the Python processes among these, one after the other, as far as there is time. */
  async #stacksOfAll(subjects: readonly Subject[]): Promise<readonly (PySpyAnswer | undefined)[]> {
    const startedAtMs = monotonicMs();
    const answers: (PySpyAnswer | undefined)[] = [];
    for (const { process } of subjects) {
      const leftMs = DUMP_MS - (monotonicMs() - startedAtMs);
      answers.push(leftMs > 0 ? await this.#stacksOf(process.stat.pid, leftMs) : undefined);
    }
    return answers;
  }

  /** Stacks of a Python process; undefined if it runs no Python, py-spy is missing, or too many dumps are running. */
  async #stacksOf(pid: number, boundMs: number): Promise<PySpyAnswer | undefined> {
    const tool = findPySpy(this.#searchPath(), pid);
    if (tool === undefined || this.#dumps >= MAX_DUMPS) return undefined;
    this.#dumps++;
    try {
      const begunMs = monotonicMs();
      if (!(await isPython(pid))) return undefined;
      if ("kind" in tool) return { kind: "failed", reason: tool.reason };
      return await dumpStacks(this.#tools, tool, pid, boundMs - (monotonicMs() - begunMs));
    } finally {
      this.#dumps--;
    }
  }

  #claim(key: string, what: string): Disposable {
    if (this.#profiled.has(key))
      throw new ControllerError("REQUEST_REFUSED", `Cannot profile ${what}: it is being profiled already`);
    if (this.#profiled.size >= MAX_PROFILES)
      throw new ControllerError(
        "REQUEST_REFUSED",
        `Cannot profile ${what}: ${this.#profiled.size} profiles are being taken, try again`,
      );
    this.#profiled.add(key);
    return { [Symbol.dispose]: () => this.#profiled.delete(key) };
  }

  #workerOf(pool: number, slot: Slot): WorkerView {
    const worker = this.#view()
      .pools.find(({ index }) => index === pool)
      ?.workers.find((each) => each.slot === slot);
    if (worker !== undefined) return worker;
    throw new ControllerError("WORKER_UNKNOWN", "Cannot look into a worker: its slot is gone");
  }
}

/** The process with this id. @throws ControllerError PROCESS_UNKNOWN */
function chooseProcess(
  what: "dump" | "profile",
  { id }: WorkerView,
  subjects: readonly Subject[],
  pid: number,
): Subject {
  const found = subjects.find(({ process }) => process.stat.pid === pid);
  if (found !== undefined) return found;
  const pids = subjects.map(({ process }) => process.stat.pid).sort((a, b) => a - b);
  const named = pids.slice(0, MAX_NAMED_PIDS).join(", ");
  const more = pids.length > MAX_NAMED_PIDS ? ` and ${pids.length - MAX_NAMED_PIDS} more` : "";
  const own = pids.length === 0 ? "it has no process" : `its processes are ${named}${more}`;
  throw new ControllerError("PROCESS_UNKNOWN", `Cannot ${what} pid ${pid} of worker "${id}": ${own}`);
}

function relationOfSubject({ process, leader, members }: Subject): string {
  return relationOf(process.stat, leader, members);
}

/**
 * Describes what a process of a tree does. For the first of several processes (`isFirst`), adds why it is the first:
 * `pid 12 (python app.py), child of the leader, busiest of 3 processes: running, …`.
 */
function textOf(subject: Subject, diagnosis: Diagnosis, isFirst: boolean): string {
  const { members, survey } = subject;
  if (members.size <= 1) return formatDiagnosis(diagnosis);
  const why = survey.isBusy
    ? `busiest of ${members.size} processes`
    : `none of its ${members.size} processes uses a CPU`;
  const name = `pid ${diagnosis.pid} (${diagnosis.command}), ${relationOfSubject(subject)}`;
  return formatDiagnosis(diagnosis, isFirst ? `${name}, ${why}` : name);
}

function dumpOf(worker: WorkerView, processCount: number, processes: readonly ProcessDump[]): WorkerDump {
  const { id, pool, phase, incarnation, pid, reason } = worker;
  const gone = pid === undefined ? `there is no process: ${reason}` : "the process ended meanwhile";
  return {
    id,
    pool,
    phase,
    incarnation,
    pid: pid ?? null,
    text: processes[0]?.text ?? gone,
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

async function answerOf(
  engine: ProfileAnswer["engine"],
  note: string | undefined,
  pid: number | undefined,
  profile: Profile,
): Promise<ProfileAnswer> {
  // Loaded with the first profile, because most controllers never take one.
  const { gzip } = await import("node:zlib");
  return { engine, note, pid, pprof: await promisify(gzip)(encodePprof(profile)) };
}
