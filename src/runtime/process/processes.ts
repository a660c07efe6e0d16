/**
 * Manages the processes of workers: session leaders, their remaining processes, and processes that left the session.
 * Starts, signals and reaps them, reaps adopted processes, and notifies the daemon. The session and the marks in its
 * environment identify a process of a worker, so it is found even after it left group and session.
 *
 * A helper is a short command that runs beside a worker, with its user, directory and environment. It never counts as a
 * process of the worker and never outlives the controller. A tool is a helper that runs as the controller's user by
 * default, because inspecting workers often needs rights that they lack. Its output may be read.
 *
 * The controller never uses node:child_process: libuv would compete for exits. So waitpid(-1) is safe here.
 */

import { closeSync, fchownSync, openSync } from "node:fs";
import type { Logger } from "../../base/log.ts";
import { monotonicMs } from "../../base/monotonic.ts";
import { inTurns, TURN_MS } from "../../base/turns.ts";
import type { ExitStatus } from "../../core/exit.ts";
import { type Incarnation, type Slot, workerId } from "../../core/identity.ts";
import { findProgramProblem } from "../inspect/interpreter.ts";
import { readText } from "../os/cgroup.ts";
import {
  FIRST_INHERITED_FD,
  openPipe,
  type Pipe,
  PreparedStrings,
  raiseDescriptor,
  reapOne,
  SystemCallError,
  sendSignal,
} from "../os/linux.ts";
import type { OomKills } from "../os/oomKills.ts";
import { findProcessLimit } from "../os/processLimit.ts";
import { listChildren, listPids, readStat } from "../os/procfs.ts";
import type { InheritedSockets } from "../socket/sockets.ts";
import { Adoptions, HELPER_VARIABLE, type Origin } from "./adoptions.ts";
import type { LaunchPlan } from "./launch.ts";
import { CONTROLLER_MARK, type Lifeline } from "./lifeline.ts";
import { NOTIFY_VARIABLE, NotifyChannel } from "./notifyChannel.ts";
import { beginProcess, type StartedProcess, startProcess } from "./spawn.ts";
import { type Credentials, type LimitSetting, type ProcessSettings, ROOM_FOR_PID } from "./spawnShim.ts";

/** Interval at which groups are checked for remaining processes, besides at every exit. */
const VACANCY_POLL_MS = 20;

/** How long after its leader exits a process without an environment counts as being in execve(2). */
const EXEC_BOUND_MS = 250;

/** How many times children are listed again if they change during the examination. */
const MAX_LISTINGS = 5;

/** Names the worker to libraries that keep a file for each process (docs/decisions/0012-worker-identifier.md). */
const WORKER_ID_VARIABLE = "MULTIPROCESS_WORKER_ID";

const NO_STRINGS = new PreparedStrings([]);

/** How to launch a pool. `argsOf` returns the arguments of a slot, templates expanded. */
export interface PoolLaunch {
  readonly name: string;
  readonly plan: LaunchPlan;
  /** Called before each spawn. If it throws, the spawn fails. */
  readonly prepare?: (slot: Slot) => void;
  readonly argsOf: (slot: Slot) => readonly string[];
  readonly envOf: (slot: Slot) => Readonly<Record<string, string>>;
  /** Whether output passes through the controller. */
  readonly captured: boolean;
  /** undefined for a pool without sockets. */
  readonly sockets?: InheritedSockets | undefined;
  /** Whether workers inherit a descriptor for readiness notification. */
  readonly notifies?: boolean;
  /**
   * Requests the process to stop without a signal; resolves with whether it received the request. If present, the
   * process starts with all terminating signals blocked, so that signals to the whole service do not reach it.
   */
  readonly quit?: () => Promise<boolean>;
}

/** A command to run beside a worker. */
export interface HelperRequest {
  /** Index of the pool. */
  readonly pool: number;
  readonly slot: Slot;
  readonly incarnation: Incarnation;
  /** Of the worker; the helper uses its launch settings. */
  readonly revision: number;
  readonly workerPid: number;
  /** Absolute path. */
  readonly file: string;
  /** The program's name first. */
  readonly argv: readonly string[];
}

/** A running helper. */
export interface Helper {
  readonly pid: number;
  /** Sends SIGKILL to its whole group; its exit is still reported. */
  kill(): void;
}

/** A program that collects information for the controller. */
export interface ToolRequest {
  /** Of the worker that it concerns; undefined if it concerns none. */
  readonly workerPid: number | undefined;
  /** Absolute path. */
  readonly file: string;
  /** The program's name first. */
  readonly argv: readonly string[];
  /** The user that it runs as; the controller's if absent. */
  readonly credentials?: Credentials | undefined;
  /** Receives stdout and stderr. The caller keeps ownership. */
  readonly outputFd: number;
}

/** Starts tools. */
export interface ToolControl {
  /** Starts a tool with the controller's directory and environment; `exited` is called once. @throws SystemCallError */
  spawnTool(request: ToolRequest, exited: (status: ExitStatus) => void): Helper;
}

/** Starts helpers for probes. */
export interface HelperControl {
  /** Starts a helper without output; `exited` is called once. @throws SystemCallError */
  spawnHelper(request: HelperRequest, exited: (status: ExitStatus) => void): Helper;
}

/** Reads the output of one incarnation; owns both descriptors. */
export interface OutputReader {
  /** Call when the whole group has exited: reads the remaining output and closes. */
  finish(): void;
}

export type AttachOutput = (worker: { pool: number; slot: Slot; stdoutFd: number; stderrFd: number }) => OutputReader;

/** How the workers of a pool (by index) are launched in one of its revisions. */
export type LaunchOf = (pool: number, revision: number) => PoolLaunch;

/** Notified of process exits; `pool` is the index of the pool. */
export interface ProcessListener {
  exited(pool: number, slot: Slot, incarnation: Incarnation, status: ExitStatus, survivors: boolean): void;
  vacated(pool: number, slot: Slot, incarnation: Incarnation): void;
}

interface Resident extends Origin {
  readonly pool: number;
  readonly launch: PoolLaunch;
  readonly slot: Slot;
  readonly incarnation: Incarnation;
  readonly output: OutputReader | undefined;
  readonly notifyChannel: NotifyChannel | undefined;
  leaderAlive: boolean;
  /** By monotonicMs(); 0 while the leader is alive. */
  leaderEndedAtMs: number;
  /** Signal for each process found outside the group; undefined until a stop begins. */
  stopSignal: string | undefined;
  /** Processes that were sent it. */
  readonly signalled: Set<number>;
}

/** All processes the controller is responsible for. */
export class Processes implements HelperControl, ToolControl {
  readonly #launchOf: LaunchOf;
  readonly #attach: AttachOutput;
  readonly #listener: ProcessListener;
  readonly #lifeline: Lifeline | undefined;
  readonly #log: Logger;
  readonly #mark: string;
  readonly #nofile: LimitSetting;
  readonly #byLeader = new Map<number, Resident>();
  /** Workers whose leader has exited but that still have processes. */
  readonly #leftBehind = new Set<Resident>();
  /** Killed in this turn; processes that left their groups are still to be killed. */
  readonly #killed = new Set<Resident>();
  /** Exit callback of each helper, by its pid. */
  readonly #helpers = new Map<number, (status: ExitStatus) => void>();
  readonly #onChildSignal = () => this.reap();
  readonly #adoptions: Adoptions;
  readonly #oomKills: OomKills | undefined;
  readonly #sharedEnvs = new WeakMap<PoolLaunch, PreparedStrings>();
  /** Refused settings of a launch that were already logged. */
  readonly #refusals = new WeakMap<PoolLaunch, Set<string>>();
  #poll: NodeJS.Timeout | undefined;
  /** When to look for survivors again, by monotonicMs(). */
  #nextLookAtMs = 0;
  /** Whether the adopted processes were examined in this turn of the event loop. */
  #isAdoptionKnown = false;
  /** /dev/null, for the output of helpers; stays open after its first use. */
  #sinkFd: number | undefined;
  /** Adopted orphans reaped so far. */
  orphansReaped = 0;

  constructor(options: {
    launchOf: LaunchOf;
    attach: AttachOutput;
    listener: ProcessListener;
    lifeline: Lifeline | undefined;
    log: Logger;
    mark: string;
    /** Soft limit of open files the workers start with. */
    nofileSoft: number | "unlimited";
    oomKills?: OomKills;
  }) {
    this.#launchOf = options.launchOf;
    this.#attach = options.attach;
    this.#listener = options.listener;
    this.#lifeline = options.lifeline;
    this.#log = options.log;
    this.#mark = options.mark;
    this.#adoptions = new Adoptions(options.mark);
    this.#nofile = { soft: options.nofileSoft, hard: undefined };
    this.#oomKills = options.oomKills;
    process.on("SIGCHLD", this.#onChildSignal);
  }

  /** Starts the process of a slot and returns its pid. @throws SystemCallError */
  spawn(poolIndex: number, slot: Slot, incarnation: Incarnation, revision: number): number {
    return this.begin(poolIndex, slot, incarnation, revision)();
  }

  /**
   * Starts the process of a slot. Its program is executed while the caller does other work. The caller must then call
   * the returned function, in the same turn, to get the pid. Both throw a SystemCallError.
   */
  begin(poolIndex: number, slot: Slot, incarnation: Incarnation, revision: number): () => number {
    const pool = this.#launchOf(poolIndex, revision);
    const { plan } = pool;
    const pipes: Pipe[] = [];
    let notice: Pipe | undefined;
    const explain = (error: unknown) => {
      for (const { readFd } of pipes) closeSync(readFd);
      if (notice !== undefined) closeSync(notice.readFd);
      return explained(error, plan);
    };
    let started: StartedProcess;
    try {
      pool.prepare?.(slot);
      if (pool.notifies === true) notice = openNoticePipe(pool);
      if (pool.captured) for (let stream = 0; stream < 2; stream++) pipes.push(openPipe());
      for (const pipe of pipes) this.#giveTo(plan, pipe);
      started = beginProcess({
        file: plan.file,
        argv: [plan.file, ...pool.argsOf(slot)],
        sharedEnv: this.#sharedEnv(pool),
        env: this.#ownEnv(pool, slot, incarnation),
        cwd: plan.cwd,
        stdinFd: undefined,
        stdoutFd: pipes[0]?.writeFd,
        stderrFd: pipes[1]?.writeFd,
        inheritedFds: [...(pool.sockets?.fds ?? []), ...(notice === undefined ? [] : [notice.writeFd])],
        settings: { ...plan, rlimits: this.#limitsOf(plan), hasListenPid: pool.sockets !== undefined },
        onRefused: (what, error) => this.#warnOfRefusal(pool, what, error),
        blocksSignals: pool.quit !== undefined,
      });
    } catch (error) {
      throw explain(error);
    } finally {
      for (const { writeFd } of pipes) closeSync(writeFd);
      if (notice !== undefined) closeSync(notice.writeFd);
    }
    const { pid, confirm } = started;
    this.#lifeline?.add(pid);
    return () => {
      try {
        confirm();
      } catch (error) {
        this.#lifeline?.remove(pid);
        throw explain(error);
      }
      const [stdout, stderr] = pipes;
      const output =
        stdout === undefined || stderr === undefined
          ? undefined
          : this.#attach({ pool: poolIndex, slot, stdoutFd: stdout.readFd, stderrFd: stderr.readFd });
      this.#byLeader.set(pid, {
        pool: poolIndex,
        launch: pool,
        slot,
        incarnation,
        pid,
        marks: [pool.name, slot, incarnation].join("\0"),
        output,
        notifyChannel: notice === undefined ? undefined : new NotifyChannel(notice.readFd),
        leaderAlive: true,
        leaderEndedAtMs: 0,
        stopSignal: undefined,
        signalled: new Set(),
      });
      return pid;
    };
  }

  /**
   * A pipe belongs to its creator, with mode 0600. A worker of another user could not reopen it by its name, as servers
   * that log to /dev/stdout do. If the pipe cannot be given away, writing to the descriptor still works.
   */
  #giveTo({ credentials }: LaunchPlan, { writeFd }: Pipe): void {
    if (credentials === undefined) return;
    try {
      fchownSync(writeFd, credentials.uid, credentials.gid);
    } catch (error) {
      this.#log.debug("the pipes of workers stay the controller's", { error: String(error) });
    }
  }

  spawnHelper(request: HelperRequest, exited: (status: ExitStatus) => void): Helper {
    const { slot, incarnation, workerPid, file, argv } = request;
    const pool = this.#launchOf(request.pool, request.revision);
    const { cwd, credentials, umask, oomScoreAdj } = pool.plan;
    this.#sinkFd ??= openSync("/dev/null", "r+");
    const pid = startProcess({
      file,
      argv,
      sharedEnv: this.#sharedEnv(pool),
      env: this.#ownEnv(pool, slot, incarnation, { [HELPER_VARIABLE]: String(workerPid) }),
      cwd,
      stdinFd: undefined,
      stdoutFd: this.#sinkFd,
      stderrFd: this.#sinkFd,
      settings: { ...this.#helperSettings(), credentials, umask, oomScoreAdj },
    });
    return this.#watchHelper(pid, exited);
  }

  spawnTool(
    { workerPid, file, argv, credentials, outputFd }: ToolRequest,
    exited: (status: ExitStatus) => void,
  ): Helper {
    const env = { ...process.env, [HELPER_VARIABLE]: String(workerPid ?? ""), [CONTROLLER_MARK]: this.#mark };
    const pid = startProcess({
      file,
      argv,
      sharedEnv: NO_STRINGS,
      env: Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`])),
      cwd: undefined,
      stdinFd: undefined,
      stdoutFd: outputFd,
      stderrFd: outputFd,
      settings: { ...this.#helperSettings(), credentials },
    });
    return this.#watchHelper(pid, exited);
  }

  /** Helpers and tools die with the controller, even if it is killed before the guardian knows them. */
  #helperSettings(): ProcessSettings {
    return { rlimits: new Map([["nofile", this.#nofile]]), diesWithController: true };
  }

  /** Resets the limit of open files, which Node.js has raised for itself. */
  #limitsOf({ rlimits }: LaunchPlan): ProcessSettings["rlimits"] {
    return rlimits.has("nofile") ? rlimits : new Map([...rlimits, ["nofile", this.#nofile]]);
  }

  /** Warns once per launch: a pool in a crash loop would repeat the warning. */
  #warnOfRefusal(pool: PoolLaunch, what: string, error: SystemCallError): void {
    const warned = this.#refusals.get(pool) ?? new Set();
    this.#refusals.set(pool, warned);
    if (warned.has(what)) return;
    warned.add(what);
    this.#log.warn(`Cannot set ${what} of the workers of pool "${pool.name}"`, { error: error.message });
  }

  #watchHelper(pid: number, exited: (status: ExitStatus) => void): Helper {
    this.#helpers.set(pid, exited);
    this.#lifeline?.add(pid);
    return {
      pid,
      kill: () => {
        if (this.#helpers.has(pid)) sendSignal(-pid, "SIGKILL");
      },
    };
  }

  /** The notify channel of the worker led by `leader`; undefined if its pool has none or the worker has exited. */
  notifyChannelOf(leader: number): NotifyChannel | undefined {
    return this.#byLeader.get(leader)?.notifyChannel;
  }

  /** Sends a signal to the group of `leader`, or to it alone, and to processes known to have left the group. */
  signal(leader: number, signal: string, scope: "group" | "leader" | "escaped"): void {
    const resident = this.#byLeader.get(leader);
    // It was reaped after the signal was decided; another process may have its pid.
    if (resident === undefined) return;
    const { quit } = resident.launch;
    if (scope === "leader") sendStopSignal(leader, signal);
    else if (scope === "group" && quit === undefined) sendStopSignal(-leader, signal);
    else if (scope === "group" && quit !== undefined) void this.#quit(leader, quit);
    resident.stopSignal = signal;
    if (!resident.leaderAlive) this.#signalEscaped(resident);
  }

  /** Stops a process that blocks all terminating signals except SIGKILL. */
  async #quit(leader: number, quit: () => Promise<boolean>): Promise<void> {
    if (!(await quit()) && this.isLeader(leader)) sendSignal(-leader, "SIGKILL");
  }

  /**
   * Sends SIGKILL to the group of `leader` now, and soon to each process that carries its marks. Many workers may be
   * killed in one turn: all groups get the signal first, then /proc is read once for all of them.
   */
  kill(leader: number): void {
    const resident = this.#byLeader.get(leader);
    if (resident === undefined) return;
    sendSignal(-leader, "SIGKILL");
    resident.stopSignal = "SIGKILL";
    resident.signalled.clear();
    if (this.#killed.size === 0) queueMicrotask(() => this.#killEscaped());
    this.#killed.add(resident);
  }

  #killEscaped(): void {
    const killed = [...this.#killed];
    this.#killed.clear();
    const byLeader = new Map(killed.map((resident) => [resident.pid, resident]));
    const byMarks = new Map(killed.map((resident) => [resident.marks, resident]));
    inTurns(listPids(), (pid) => {
      const stat = readStat(pid);
      if (stat === undefined || pid === process.pid) return;
      if (byLeader.has(stat.session) || byMarks.has(this.#adoptions.readMarks(pid) ?? "")) sendSignal(pid, "SIGKILL");
    });
  }

  /** Processes of the worker led by `leader` that left its tree and were adopted by the controller. */
  adoptedOf(leader: number): readonly number[] {
    const resident = this.#byLeader.get(leader);
    if (resident === undefined) return [];
    // Once per turn of the event loop: there may be a call for each of hundreds of workers.
    if (!this.#isAdoptionKnown) {
      this.#examineAdopted();
      this.#isAdoptionKnown = true;
      setImmediate(() => {
        this.#isAdoptionKnown = false;
      });
    }
    return [...this.#adoptions.membersOf(resident)];
  }

  /** Whether the process with this id leads a worker. */
  isLeader(pid: number): boolean {
    return this.#byLeader.get(pid)?.leaderAlive === true;
  }

  /** Reaps all exited processes of any kind, in several turns of the event loop if thousands exited at once. */
  reap(): void {
    const leaders: { resident: Resident; status: ExitStatus }[] = [];
    const helpers: (() => void)[] = [];
    const deadline = monotonicMs() + TURN_MS;
    for (let reaped = reapOne(); reaped !== undefined; reaped = reapOne()) {
      const { pid, status } = reaped;
      this.#adoptions.forget(pid);
      const resident = this.#byLeader.get(pid);
      const helperExited = this.#helpers.get(pid);
      if (resident?.leaderAlive === true) {
        resident.leaderAlive = false;
        resident.leaderEndedAtMs = monotonicMs();
        leaders.push({ resident, status: this.#withCause(status, resident) });
      } else if (helperExited !== undefined) {
        this.#helperEnded(pid);
        helpers.push(() => helperExited(status));
      } else if (this.#lifeline?.handleExit(pid) === true) {
        this.#log.warn("the guardian ended and was replaced", { pid });
      } else {
        this.orphansReaped++;
        this.#log.debug("an adopted process ended", { pid });
        if (monotonicMs() > deadline) {
          setImmediate(() => this.reap());
          break;
        }
      }
    }
    // After reaping, so that processes that exited with their leader do not count.
    const surviving = this.#survivingOf(leaders.map(({ resident }) => resident));
    for (const { resident, status } of leaders) this.#leaderExited(resident, status, surviving.has(resident));
    this.#lookForVacancies();
    // After the workers, so that a helper's result for a worker that has just exited is recognized as late.
    for (const tellExit of helpers) tellExit();
  }

  /** Marks a SIGKILL that came from the kernel's OOM killer. */
  #withCause(status: ExitStatus, { stopSignal }: Resident): ExitStatus {
    if (status.kind !== "signal" || status.signal !== "SIGKILL" || stopSignal === "SIGKILL") return status;
    if (this.#oomKills?.claim() !== true) return status;
    return { ...status, out_of_memory: { limit_bytes: this.#oomKills.limitBytes ?? null } };
  }

  /** Kills helpers, and adopted processes of no worker. Not as PID 1, because the container ends with it. */
  killStrays(): void {
    if (process.pid === 1) return;
    for (const pid of this.#helpers.keys()) sendSignal(-pid, "SIGKILL");
    for (const pid of listChildren())
      if (pid !== this.#lifeline?.pid && !this.#byLeader.has(pid)) sendSignal(pid, "SIGKILL");
  }

  /** Stops listening to exits. */
  close(): void {
    process.off("SIGCHLD", this.#onChildSignal);
    clearInterval(this.#poll);
  }

  /** Kills the processes that a helper left in its group. */
  #helperEnded(pid: number): void {
    this.#helpers.delete(pid);
    sendSignal(-pid, "SIGKILL");
    this.#lifeline?.remove(pid);
  }

  #leaderExited(resident: Resident, status: ExitStatus, survivors: boolean): void {
    if (survivors) this.#leftBehind.add(resident);
    else this.#forget(resident);
    this.#listener.exited(resident.pool, resident.slot, resident.incarnation, status, survivors);
  }

  #lookForVacancies(): void {
    // Members with live parents are not our children: no SIGCHLD reports their exit.
    if (this.#leftBehind.size > 0) this.#poll ??= setInterval(() => this.reap(), VACANCY_POLL_MS);
    const startedAtMs = monotonicMs();
    if (this.#leftBehind.size === 0 || startedAtMs < this.#nextLookAtMs) return;
    const surviving = this.#survivingOf([...this.#leftBehind]);
    for (const resident of this.#leftBehind) {
      if (surviving.has(resident)) {
        // A process that a group member started elsewhere is adopted, and thus known, only when that member exits.
        this.#signalEscaped(resident);
        continue;
      }
      this.#leftBehind.delete(resident);
      this.#forget(resident);
      this.#listener.vacated(resident.pool, resident.slot, resident.incarnation);
    }
    const endedAtMs = monotonicMs();
    // A search among thousands of processes takes at most a quarter of the time.
    if (endedAtMs - startedAtMs > 2) this.#nextLookAtMs = endedAtMs + 3 * (endedAtMs - startedAtMs);
    if (this.#leftBehind.size > 0) return;
    clearInterval(this.#poll);
    this.#poll = undefined;
  }

  #forget(resident: Resident): void {
    this.#byLeader.delete(resident.pid);
    this.#lifeline?.remove(resident.pid);
    resident.output?.finish();
    resident.notifyChannel?.[Symbol.dispose]();
  }

  /**
   * The workers that have, or may have, remaining processes: some adopted processes may not have been examined. Groups
   * come first, because the children of a group's members become our children once the group is empty. A process that
   * exits while the children are examined may have left us a child, so they are listed again.
   */
  #survivingOf(residents: readonly Resident[]): ReadonlySet<Resident> {
    const surviving = new Set<Resident>();
    const hasGroup = (resident: Resident) => sendSignal(-resident.pid, 0);
    for (let listing = 0; ; listing++) {
      for (const resident of residents) if (hasGroup(resident)) surviving.add(resident);
      if (surviving.size === residents.length) return surviving;
      if (listing === MAX_LISTINGS) return new Set(residents);
      const children = listChildren();
      const known = this.#examineAdopted(children);
      for (const resident of residents) {
        const mayBeInExec = known === "exec" && this.#mayBeInExec(resident);
        if (known === "partly" || mayBeInExec || this.#adoptions.hasMembersOf(resident)) surviving.add(resident);
      }
      if (known === "all" || children.join() === listChildren().join()) return surviving;
    }
  }

  #examineAdopted(children = listChildren()): ReturnType<Adoptions["examine"]> {
    return this.#adoptions.examine(
      children,
      (pid) => pid === this.#lifeline?.pid || this.#helpers.has(pid) || this.#byLeader.get(pid)?.leaderAlive === true,
    );
  }

  /** During execve(2), which is brief, the owner of a process is unknown: the process is examined again. */
  #mayBeInExec(resident: Resident): boolean {
    return monotonicMs() - resident.leaderEndedAtMs < EXEC_BOUND_MS;
  }

  /** Sends the stop signal once to each process outside the group, within one turn; the whole group already got it. */
  #signalEscaped(resident: Resident): void {
    const { pid: leader, stopSignal, signalled } = resident;
    if (stopSignal === undefined) return;
    const deadline = monotonicMs() + TURN_MS;
    for (const pid of this.#adoptions.membersOf(resident)) {
      if (signalled.has(pid)) continue;
      if (monotonicMs() > deadline) return;
      if (readStat(pid)?.processGroup === leader) continue;
      signalled.add(pid);
      sendStopSignal(pid, stopSignal);
    }
  }

  /**
   * The environment specific to one worker; `variables` describe what the process inherits or is. A
   * MULTIPROCESS_WORKER_ID in `env` or `env_file` takes precedence; the rest must be correct to identify our processes.
   */
  #ownEnv(
    pool: PoolLaunch,
    slot: Slot,
    incarnation: Incarnation,
    variables: Readonly<Record<string, string>> = inheritedVariables(pool),
  ): string[] {
    const own: Readonly<Record<string, string>> = {
      ...(pool.plan.configured.has(WORKER_ID_VARIABLE) ? {} : { [WORKER_ID_VARIABLE]: workerId(pool.name, slot) }),
      ...pool.envOf(slot),
      ...variables,
      MONOCEROS_POOL: pool.name,
      MONOCEROS_SLOT: String(slot),
      MONOCEROS_INCARNATION: String(incarnation),
      [CONTROLLER_MARK]: this.#mark,
    };
    return Object.entries(own).map(([key, value]) => `${key}=${value}`);
  }

  /** The environment that all workers of a pool share, without the variables that `#ownEnv` sets. */
  #sharedEnv(launch: PoolLaunch): PreparedStrings {
    const known = this.#sharedEnvs.get(launch);
    if (known !== undefined) return known;
    const own = new Set(this.#ownEnv(launch, 0, 0).map((entry) => entry.slice(0, entry.indexOf("="))));
    // A controller that a probe runs must not pass this on: its workers would count as helpers.
    own.add(HELPER_VARIABLE);
    const shared = Object.entries(launch.plan.env).filter(([key]) => !own.has(key));
    const prepared = new PreparedStrings(shared.map(([key, value]) => `${key}=${value}`));
    this.#sharedEnvs.set(launch, prepared);
    return prepared;
  }
}

/** Sends SIGCONT too, like systemd: a suspended process could not react and would be killed at the deadline. */
function sendStopSignal(target: number, signal: string): void {
  sendSignal(target, signal);
  sendSignal(target, "SIGCONT");
}

/** Errors of execve(2) that may have a cause other than the file itself. */
const EXEC_ERRORS: ReadonlySet<string> = new Set(["ENOENT", "ENOEXEC", "EACCES", "ELOOP"]);

/**
 * Explains the error of a spawn: names the limit that was reached, or what the program lacks, if known. For example,
 * its interpreter may have been removed.
 */
function explained(error: unknown, { file, cwd, env, credentials }: LaunchPlan): unknown {
  if (!(error instanceof SystemCallError)) return error;
  if (error.code === "EAGAIN")
    return new Error(`${error.message}: ${findProcessLimit(readText, credentials?.uid).text}`, { cause: error });
  if (!EXEC_ERRORS.has(error.code)) return error;
  const problem = findProgramProblem(file, { cwd: cwd ?? process.cwd(), path: env["PATH"] });
  return problem === undefined ? error : new Error(`${error.message}: it ${problem.text}`, { cause: error });
}

/** Variables about the descriptors that a worker of this pool inherits. */
function inheritedVariables({ sockets, notifies }: PoolLaunch): Readonly<Record<string, string>> {
  return {
    ...(sockets === undefined
      ? {}
      : { LISTEN_FDS: String(sockets.fds.length), LISTEN_FDNAMES: sockets.names.join(":"), LISTEN_PID: ROOM_FOR_PID }),
    ...(notifies === true ? { [NOTIFY_VARIABLE]: String(noticeFdOf(sockets)) } : {}),
  };
}

/** The notify descriptor in the worker: the next after the sockets. */
function noticeFdOf(sockets: InheritedSockets | undefined): number {
  return FIRST_INHERITED_FD + (sockets?.fds.length ?? 0);
}

/** @throws SystemCallError */
function openNoticePipe({ sockets }: PoolLaunch): Pipe {
  const { readFd, writeFd } = openPipe();
  try {
    // Not below its number in the worker, where an inherited descriptor would overwrite it.
    return { readFd, writeFd: raiseDescriptor(writeFd, noticeFdOf(sockets)) };
  } catch (error) {
    closeSync(readFd);
    throw error;
  }
}
