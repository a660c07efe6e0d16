/**
 * Profiles a worker or the controller itself on request: chooses the engine, converts its result to pprof, and limits the
 * number of concurrent profiles.
 */
import { promisify } from "node:util";
import type { ProfileAnswer, ProfileSubject } from "../../admin/api.ts";
import type { ControllerHandle } from "../../admin/handle.ts";
import { ControllerError } from "../../base/errors.ts";
import { monotonicMs } from "../../base/monotonic.ts";
import { formatDuration } from "../../base/units.ts";
import type { Slot } from "../../core/identity.ts";
import { parseCollapsed } from "../../profile/collapsed.ts";
import { encodePprof, type Profile, type Stack } from "../../profile/pprof.ts";
import { stacksOfCpuProfile, stacksOfHeapProfile } from "../../profile/v8.ts";
import { readCommand } from "../../runtime/inspect/commandLines.ts";
import type { RecordRequest } from "../../runtime/inspect/pySpy.ts";
import { profileCpu, profileHeap, SELF_PROFILE_PERIODS } from "../../runtime/inspect/selfProfile.ts";
import { sampleThreads } from "../../runtime/inspect/threadSampler.ts";
import { readStat } from "../../runtime/os/procfs.ts";
import type { PythonStacks } from "./pythonStacks.ts";
import { chooseProcess, relationOfSubject, type WorkerSurvey } from "./workerSurvey.ts";

/** Time limit for reading the command line of a process. */
const COMMAND_MS = 100;

/** Maximum concurrent profiles. */
const MAX_PROFILES = 2;

const SAMPLES = { type: "samples", unit: "count" } as const;
const CPU = { type: "cpu", unit: "nanoseconds" } as const;
const WALL = { type: "wall", unit: "nanoseconds" } as const;
const SPACE = { type: "inuse_space", unit: "bytes" } as const;

const NANOS_PER_SECOND = 1e9;

type WorkerRequest = Parameters<ControllerHandle["profileWorker"]>[2];

/** The result of profiling a process; `ended` if the process exited before the requested time. */
interface Recording {
  readonly engine: ProfileAnswer["engine"];
  readonly stacks: readonly Stack[];
  readonly ended: boolean;
  readonly durationMs: number;
  /** Notes for the reader. */
  readonly comments: readonly string[];
}

export class Profiles {
  readonly #survey: WorkerSurvey;
  readonly #stacks: PythonStacks;
  /** What is being profiled: ids of workers, and the controller. */
  readonly #running = new Set<string>();

  constructor(survey: WorkerSurvey, stacks: PythonStacks) {
    this.#survey = survey;
    this.#stacks = stacks;
  }

  /**
   * Profiles the process `pid` of a worker, or the one that explains the most, until the time is over, it exits, or
   * `signal` aborts.
   * @throws ControllerError REQUEST_REFUSED if it has no process, or is being profiled; PROCESS_UNKNOWN
   */
  async profileWorker(pool: number, slot: Slot, request: WorkerRequest): Promise<ProfileAnswer> {
    const worker = this.#survey.workerIn(pool, slot);
    const { id, pid: leader } = worker;
    const noProcess = () => new ControllerError("REQUEST_REFUSED", `Cannot profile worker "${id}": it has no process`);
    if (leader === undefined) throw noProcess();
    using _ = this.#claim(id, `worker "${id}"`);
    const subjects = await this.#survey.processesOf(leader);
    const subject = request.pid === undefined ? subjects[0] : chooseProcess("profile", worker, subjects, request.pid);
    if (subject === undefined) throw noProcess();
    const { pid, command: name, state } = subject.process.stat;
    const commandLine = await readCommand({ pid, name, state }, COMMAND_MS);
    const startedAtMs = Date.now();
    const { engine, stacks, ended, durationMs, comments } = await this.#record({ ...request, pid });
    const which = pid === leader ? "the worker" : `pid ${pid}`;
    const note = ended ? `${which} exited after ${formatDuration(Math.round(durationMs))}` : undefined;
    const valueType = engine === "py-spy" ? CPU : WALL;
    return answerOf(engine, note, pid, {
      origin: id,
      valueTypes: [SAMPLES, valueType],
      shownType: valueType.type,
      stacks,
      periodType: valueType,
      period: Math.round(NANOS_PER_SECOND / request.hz),
      startedAtMs,
      durationMs,
      comments: [
        `engine: ${engine}`,
        `process: pid ${pid} (${commandLine}), ${relationOfSubject(subject)}`,
        ...(note === undefined ? [] : [note]),
        ...comments,
      ],
    });
  }

  /** Profiles this process until the time is over or `signal` aborts. @throws ControllerError REQUEST_REFUSED */
  async profileSelf(subject: ProfileSubject, seconds: number, signal: AbortSignal): Promise<ProfileAnswer> {
    using _ = this.#claim("", "the controller");
    const startedAtMs = Date.now();
    const begunMs = monotonicMs();
    const profile = subject === "cpu" ? await ownCpu(seconds, signal) : await ownHeap(seconds, signal);
    const durationMs = monotonicMs() - begunMs;
    return answerOf("v8", undefined, undefined, { origin: "monoceros", startedAtMs, durationMs, ...profile });
  }

  /** Records the stacks of a Python process with py-spy; of other processes, or if that fails, the states of threads. */
  async #record(request: RecordRequest): Promise<Recording> {
    const { pid } = request;
    const birth = readStat(pid)?.startTicks;
    const begunMs = monotonicMs();
    const recorded = await this.#stacks.record(request);
    if (recorded?.kind !== "found") return recordThreads(request, recorded?.reason);
    return {
      engine: "py-spy",
      stacks: parseCollapsed(recorded.text).map(({ frames, count }) => ({
        frames,
        values: [count, Math.round((count * NANOS_PER_SECOND) / request.hz)],
      })),
      ended: readStat(pid)?.startTicks !== birth,
      durationMs: Math.min(monotonicMs() - begunMs, request.seconds * 1000),
      comments: ["only what used a processor"],
    };
  }

  #claim(key: string, what: string): Disposable {
    if (this.#running.has(key))
      throw new ControllerError("REQUEST_REFUSED", `Cannot profile ${what}: a profile of it is already in progress`);
    if (this.#running.size >= MAX_PROFILES)
      throw new ControllerError(
        "REQUEST_REFUSED",
        `Cannot profile ${what}: ${this.#running.size} other profiles are in progress, try again`,
      );
    this.#running.add(key);
    return { [Symbol.dispose]: () => this.#running.delete(key) };
  }
}

/** `why`, if given, is why py-spy could not record the process. */
async function recordThreads({ pid, seconds, hz, signal }: RecordRequest, why?: string): Promise<Recording> {
  const { stacks, hasEnded, durationMs } = await sampleThreads(pid, { durationMs: seconds * 1000, hz, signal });
  return {
    engine: "proc",
    stacks: stacks.map(({ frames, count, elapsedMs }) => ({
      frames: frames.map((name) => ({ name, file: "", line: 0 })),
      values: [count, Math.round(elapsedMs * 1e6)],
    })),
    ended: hasEnded,
    durationMs,
    comments: [
      ...(why === undefined ? [] : [why]),
      "states of its threads, read from /proc: no functions of the program",
    ],
  };
}

type OwnProfile = Omit<Profile, "origin" | "startedAtMs" | "durationMs">;

async function ownCpu(seconds: number, signal: AbortSignal): Promise<OwnProfile> {
  return {
    valueTypes: [SAMPLES, CPU],
    shownType: CPU.type,
    stacks: stacksOfCpuProfile(await profileCpu(seconds * 1000, signal)),
    periodType: CPU,
    period: SELF_PROFILE_PERIODS.cpuMicros * 1000,
    comments: ["engine: v8", "main thread; waiting for events is left out"],
  };
}

async function ownHeap(seconds: number, signal: AbortSignal): Promise<OwnProfile> {
  return {
    valueTypes: [SPACE],
    shownType: SPACE.type,
    stacks: stacksOfHeapProfile(await profileHeap(seconds * 1000, signal)),
    periodType: { type: "space", unit: "bytes" },
    period: SELF_PROFILE_PERIODS.heapBytes,
    comments: ["engine: v8", "what was allocated in this time and is still in use at its end"],
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
