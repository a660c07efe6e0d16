/**
 * Looks into workers and into the controller itself on demand: dumps and profiles. Chooses the engine, brings what it found
 * into the form of the API, and sees to it that only a few look at the same time.
 */
import { promisify } from "node:util";
import type { ProfileAnswer, ProfileSubject, WorkerDump } from "../admin/api.ts";
import { ControllerError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";
import type { Slot } from "../core/identity.ts";
import type { ControllerView, WorkerView } from "../core/view.ts";
import { parseCollapsed } from "../profile/collapsed.ts";
import { encodePprof, type Profile, type Stack } from "../profile/pprof.ts";
import { stacksOfCpuProfile, stacksOfHeapProfile } from "../profile/v8.ts";
import { type Diagnosis, diagnose, formatDiagnosis } from "../runtime/diagnosis.ts";
import type { ToolControl } from "../runtime/processes.ts";
import { readKernelStack, readStat } from "../runtime/procfs.ts";
import { dumpStacks, findPySpy, formatStack, isPython, type PySpyAnswer, recordStacks } from "../runtime/pySpy.ts";
import { profileCpu, profileHeap, SELF_PROFILE_PERIODS } from "../runtime/selfProfile.ts";
import { sampleThreads } from "../runtime/threadSampler.ts";

/** What a worker's stack may take when it is asked for. */
const DUMP_MS = 5000;

/** What it may take in all before a worker that hangs is replaced. */
const LAST_WORDS_MS = 2000;

/** So many may look for stacks at a time; of hundreds of workers that hang, the first ones tell enough. */
const MAX_DUMPS = 2;

/** So many may be profiled at a time. */
const MAX_PROFILES = 2;

const SAMPLES = { type: "samples", unit: "count" } as const;
const CPU = { type: "cpu", unit: "nanoseconds" } as const;
const WALL = { type: "wall", unit: "nanoseconds" } as const;
const SPACE = { type: "inuse_space", unit: "bytes" } as const;

const NANOS_PER_SECOND = 1e9;

/** What profiles a worker, and what it found; `ended` is why there is less than was asked for. */
interface Found {
  readonly engine: ProfileAnswer["engine"];
  readonly stacks: readonly Stack[];
  readonly ended: boolean;
  readonly durationMs: number;
  /** What a reader should know. */
  readonly comments: readonly string[];
}

export class Inspection {
  readonly #view: () => ControllerView;
  readonly #tools: ToolControl;
  readonly #searchPath: () => string | undefined;
  #dumps = 0;
  /** What is being profiled: ids of workers, and the controller. */
  readonly #profiled = new Set<string>();

  constructor(options: {
    view: () => ControllerView;
    tools: ToolControl;
    /** PATH, in which py-spy is looked for each time. */
    searchPath: () => string | undefined;
  }) {
    this.#view = options.view;
    this.#tools = options.tools;
    this.#searchPath = options.searchPath;
  }

  /** One line on what a process is doing, with a stack where one can be had in time; undefined where it is gone. */
  async describe(pid: number): Promise<string | undefined> {
    const [diagnosis, stacks] = await Promise.all([diagnose(pid), this.#stacksOf(pid, LAST_WORDS_MS)]);
    if (diagnosis === undefined) return undefined;
    const stack = stacks?.kind === "found" ? formatStack(stacks.text) : undefined;
    return stack === undefined ? formatDiagnosis(diagnosis) : `${formatDiagnosis(diagnosis)}; Python is at ${stack}`;
  }

  /** What a worker is doing; one that is gone, or goes meanwhile, is an answer too. @throws ControllerError REQUEST_REFUSED */
  async dump(pool: number, slot: Slot): Promise<WorkerDump> {
    const worker = this.#workerOf(pool, slot);
    const { pid } = worker;
    if (pid === undefined) return dumpOf(worker, undefined, undefined);
    if (this.#dumps >= MAX_DUMPS)
      throw new ControllerError(
        "REQUEST_REFUSED",
        `Cannot dump worker "${worker.id}": ${this.#dumps} others are being dumped, try again`,
      );
    const [diagnosis, stacks] = await Promise.all([diagnose(pid), this.#stacksOf(pid, DUMP_MS)]);
    return dumpOf(worker, diagnosis, stacks);
  }

  /**
   * Profiles a worker until the time is over, it ends, or `signal` comes.
   * @throws ControllerError REQUEST_REFUSED where it has no process, or is being profiled
   */
  async profileWorker(
    pool: number,
    slot: Slot,
    { seconds, hz, signal }: { readonly seconds: number; readonly hz: number; readonly signal: AbortSignal },
  ): Promise<ProfileAnswer> {
    const { id, pid } = this.#workerOf(pool, slot);
    if (pid === undefined)
      throw new ControllerError("REQUEST_REFUSED", `Cannot profile worker "${id}": it has no process`);
    using _ = this.#claim(id, `worker "${id}"`);
    const startedAtMs = Date.now();
    const found = await this.#profilePid(pid, { seconds, hz, signal });
    const { engine, stacks, ended, durationMs } = found;
    const note = ended ? `the worker ended after ${formatDuration(Math.round(durationMs))}` : undefined;
    const valueType = engine === "py-spy" ? CPU : WALL;
    return answerOf(engine, note, {
      origin: id,
      valueTypes: [SAMPLES, valueType],
      shownType: valueType.type,
      stacks,
      periodType: valueType,
      period: Math.round(NANOS_PER_SECOND / hz),
      startedAtMs,
      durationMs,
      comments: [`engine: ${engine}`, ...(note === undefined ? [] : [note]), ...found.comments],
    });
  }

  /** Profiles this process until the time is over or `signal` comes. @throws ControllerError REQUEST_REFUSED */
  async profileSelf(subject: ProfileSubject, seconds: number, signal: AbortSignal): Promise<ProfileAnswer> {
    using _ = this.#claim("", "the controller");
    const startedAtMs = Date.now();
    const begunMs = performance.now();
    const common = { origin: "monoceros", startedAtMs };
    if (subject === "cpu") {
      const stacks = stacksOfCpuProfile(await profileCpu(seconds * 1000, signal));
      return answerOf("v8", undefined, {
        ...common,
        valueTypes: [SAMPLES, CPU],
        shownType: CPU.type,
        stacks,
        periodType: CPU,
        period: SELF_PROFILE_PERIODS.cpuMicros * 1000,
        durationMs: performance.now() - begunMs,
        comments: ["engine: v8", "main thread; waiting for events is left out"],
      });
    }
    const stacks = stacksOfHeapProfile(await profileHeap(seconds * 1000, signal));
    return answerOf("v8", undefined, {
      ...common,
      valueTypes: [SPACE],
      shownType: SPACE.type,
      stacks,
      periodType: { type: "space", unit: "bytes" },
      period: SELF_PROFILE_PERIODS.heapBytes,
      durationMs: performance.now() - begunMs,
      comments: ["engine: v8", "what was allocated in this time and is still in use at its end"],
    });
  }

  async #profilePid(
    pid: number,
    request: { readonly seconds: number; readonly hz: number; readonly signal: AbortSignal },
  ): Promise<Found> {
    const { seconds, hz, signal } = request;
    const tool = findPySpy(this.#searchPath());
    const comments: string[] = [];
    if (tool !== undefined && (await isPython(pid))) {
      const birth = readStat(pid)?.startTicks;
      const begunMs = performance.now();
      const recorded = await recordStacks(this.#tools, tool, { pid, ...request });
      if (recorded.kind === "found") {
        const stacks = parseCollapsed(recorded.text).map(({ frames, count }) => ({
          frames,
          values: [count, Math.round((count * NANOS_PER_SECOND) / hz)],
        }));
        const ended = readStat(pid)?.startTicks !== birth;
        const durationMs = Math.min(performance.now() - begunMs, seconds * 1000);
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

  /** Stacks of a Python process; undefined where it is none, there is no py-spy, or too many are looking already. */
  async #stacksOf(pid: number, boundMs: number): Promise<PySpyAnswer | undefined> {
    const tool = findPySpy(this.#searchPath());
    if (tool === undefined || this.#dumps >= MAX_DUMPS) return undefined;
    this.#dumps++;
    try {
      const begunMs = performance.now();
      if (!(await isPython(pid))) return undefined;
      return await dumpStacks(this.#tools, tool, pid, boundMs - (performance.now() - begunMs));
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

function dumpOf(worker: WorkerView, diagnosis: Diagnosis | undefined, stacks: PySpyAnswer | undefined): WorkerDump {
  const { id, pool, phase, incarnation, pid, reason } = worker;
  const gone = pid === undefined ? `there is no process: ${reason}` : "the process ended meanwhile";
  return {
    id,
    pool,
    phase,
    incarnation,
    pid: pid ?? null,
    text: diagnosis === undefined ? gone : formatDiagnosis(diagnosis),
    diagnosis:
      diagnosis === undefined
        ? null
        : {
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
    kernel_stack: diagnosis === undefined ? null : (readKernelStack(diagnosis.pid) ?? null),
    stack: stacks?.kind === "found" ? { engine: "py-spy", text: stacks.text } : null,
    hint: stacks?.kind === "failed" && diagnosis !== undefined ? stacks.reason : null,
  };
}

async function answerOf(
  engine: ProfileAnswer["engine"],
  note: string | undefined,
  profile: Profile,
): Promise<ProfileAnswer> {
  // A controller that is never asked for a profile does not load it at its start.
  const { gzip } = await import("node:zlib");
  return { engine, note, pprof: await promisify(gzip)(encodePprof(profile)) };
}
