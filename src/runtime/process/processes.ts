/**
 * The processes of the workers: who leads which session, who of it is left, who left it. Starts them, signals them,
 * reaps them and everything that was adopted, and tells the daemon. A process of a worker is recognised by its session
 * and by the marks in its environment, so it is found even after it left group and session.
 *
 * A helper is a short command that runs beside a worker, with its user, directory and environment: never a process of
 * the worker, whatever it does, and never longer than the controller. A tool is a helper too, but runs as the controller
 * does unless another user is given, and its output may be read: what looks into workers often needs rights that they do not have.
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

/** How often the emptiness of a group is looked at besides at every exit. */
const VACANCY_POLL_MS = 20;

/** How long after the end of its leader a process without an environment counts as one in the midst of an execve(2). */
const EXEC_BOUND_MS = 250;

/** How often children are listed anew when they come and go while they are looked at. */
const MAX_LISTINGS = 5;

/** Names the worker to libraries that keep a file for each process (docs/decisions/0012-worker-identifier.md). */
const WORKER_ID_VARIABLE = "MULTIPROCESS_WORKER_ID";

const NO_STRINGS = new PreparedStrings([]);

/** One pool as the processes need it. `argsOf` gives the arguments of a slot, templates expanded. */
export interface PoolLaunch {
  readonly name: string;
  readonly plan: LaunchPlan;
  /** Called before each spawn; may throw, which is a spawn that failed. */
  readonly prepare?: (slot: Slot) => void;
  readonly argsOf: (slot: Slot) => readonly string[];
  readonly envOf: (slot: Slot) => Readonly<Record<string, string>>;
  /** Whether output passes through the controller. */
  readonly captured: boolean;
  /** undefined for a pool without sockets. */
  readonly sockets?: InheritedSockets | undefined;
  /** Whether workers inherit a descriptor on which they tell that they are ready. */
  readonly notifies?: boolean;
  /**
   * Asks the process to end, by another way than a signal; resolves with whether it was heard. Where it is given, the
   * process is started with all signals blocked that could end it: what is sent to the whole service does not reach it.
   */
  readonly quit?: () => Promise<boolean>;
}

/** A command that is to run beside a worker. */
export interface HelperRequest {
  /** Index of the pool. */
  readonly pool: number;
  readonly slot: Slot;
  readonly incarnation: Incarnation;
  /** Of the worker; the helper runs as it does. */
  readonly revision: number;
  readonly workerPid: number;
  /** Absolute path. */
  readonly file: string;
  /** The program's name first. */
  readonly argv: readonly string[];
}

/** A helper that runs. */
export interface Helper {
  readonly pid: number;
  /** SIGKILL to its whole group; its exit is told all the same. */
  kill(): void;
}

/** A program that finds something out for the controller. */
export interface ToolRequest {
  /** Of the worker it is about; undefined where it is about none. */
  readonly workerPid: number | undefined;
  /** Absolute path. */
  readonly file: string;
  /** The program's name first. */
  readonly argv: readonly string[];
  /** The user that it runs as; that of the controller if absent. */
  readonly credentials?: Credentials | undefined;
  /** Where stdout and stderr go; stays the caller's. */
  readonly outputFd: number;
}

/** What tools need of the processes. */
export interface ToolControl {
  /** Starts a tool with directory and environment of the controller; `exited` is called once. @throws SystemCallError */
  spawnTool(request: ToolRequest, exited: (status: ExitStatus) => void): Helper;
}

/** What probes need of the processes. */
export interface HelperControl {
  /** Starts a helper without output; `exited` is called once. @throws SystemCallError */
  spawnHelper(request: HelperRequest, exited: (status: ExitStatus) => void): Helper;
}

/** Reads the output of one incarnation; both descriptors become its property. */
export interface OutputReader {
  /** The whole group is gone: read what is left and end. */
  finish(): void;
}

export type AttachOutput = (worker: { pool: number; slot: Slot; stdoutFd: number; stderrFd: number }) => OutputReader;

/** How the workers of a pool (by index) are launched in one of its revisions. */
export type LaunchOf = (pool: number, revision: number) => PoolLaunch;

/** What happens to processes; `pool` is the index of the pool. */
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
  /** By monotonicMs(); 0 while it lives. */
  leaderEndedAtMs: number;
  /** What each process that left the group has to get once it is found; undefined until a stop began. */
  stopSignal: string | undefined;
  /** Those that have got it. */
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
  /** Leaders that are gone while something of them is left. */
  readonly #leftBehind = new Set<Resident>();
  /** Killed in this turn; what has left their groups is still to be killed. */
  readonly #killed = new Set<Resident>();
  /** What to call when a helper has ended, by its pid. */
  readonly #helpers = new Map<number, (status: ExitStatus) => void>();
  readonly #onChildSignal = () => this.reap();
  readonly #adoptions: Adoptions;
  readonly #oomKills: OomKills | undefined;
  readonly #sharedEnvs = new WeakMap<PoolLaunch, PreparedStrings>();
  /** Settings of a launch that were refused once. */
  readonly #refusals = new WeakMap<PoolLaunch, Set<string>>();
  #poll: NodeJS.Timeout | undefined;
  /** When survivors are looked for again, by monotonicMs(). */
  #nextLookAtMs = 0;
  /** Whether the adopted processes were examined in this turn of the event loop. */
  #isAdoptionKnown = false;
  /** Where the output of helpers goes; open for good once it was needed. */
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
   * Starts the process of a slot. Its program is executed while the caller does other things; then the caller calls what
   * is returned, in the same turn, for the pid. Both throw a SystemCallError.
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
   * A pipe belongs to who made it, mode 0600: opened anew by its name, as servers that log to /dev/stdout do, it would be
   * refused to a worker of another user. Where the pipe cannot be given away, writing to the descriptor still works.
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

  /** Helpers and tools end with the controller even if it is killed before the guardian knows them. */
  #helperSettings(): ProcessSettings {
    return { rlimits: new Map([["nofile", this.#nofile]]), diesWithController: true };
  }

  /** Node.js has raised its own limit of open files. */
  #limitsOf({ rlimits }: LaunchPlan): ProcessSettings["rlimits"] {
    return rlimits.has("nofile") ? rlimits : new Map([...rlimits, ["nofile", this.#nofile]]);
  }

  /** Once for each launch: a pool that crashes in a loop would repeat it. */
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

  /** Where the worker led by `leader` tells that it is ready; undefined where its pool does not, or it is gone. */
  notifyChannelOf(leader: number): NotifyChannel | undefined {
    return this.#byLeader.get(leader)?.notifyChannel;
  }

  /** Sends a signal to the group of `leader`, or to it alone, and to what is known to have left the group. */
  signal(leader: number, signal: string, scope: "group" | "leader" | "escaped"): void {
    const resident = this.#byLeader.get(leader);
    // Reaped since the signal was decided; another process may have its number.
    if (resident === undefined) return;
    const { quit } = resident.launch;
    if (scope === "leader") sendStopSignal(leader, signal);
    else if (scope === "group" && quit === undefined) sendStopSignal(-leader, signal);
    else if (scope === "group" && quit !== undefined) void this.#quit(leader, quit);
    resident.stopSignal = signal;
    if (!resident.leaderAlive) this.#signalEscaped(resident);
  }

  /** Ends a process that no signal but SIGKILL reaches. */
  async #quit(leader: number, quit: () => Promise<boolean>): Promise<void> {
    if (!(await quit()) && this.isLeader(leader)) sendSignal(-leader, "SIGKILL");
  }

  /**
   * SIGKILL to the group of `leader` now, and soon to each process that carries its marks, wherever it went. Many workers
   * may be killed in one turn: all groups get the signal first, then /proc is read once for all of them.
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
    // Once in a turn of the event loop: it may be called for each of hundreds of workers.
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

  /** Reaps all that has ended, of any kind; where thousands have ended at once, in several turns of the event loop. */
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
    // Only now: what ended together with its leader is reaped and no survivor.
    const surviving = this.#survivingOf(leaders.map(({ resident }) => resident));
    for (const { resident, status } of leaders) this.#leaderExited(resident, status, surviving.has(resident));
    this.#lookForVacancies();
    // After the workers, so that what a helper brings about a worker that has just ended is known to be late.
    for (const tellExit of helpers) tellExit();
  }

  /** Tells a kill by the kernel because memory is missing from any other kill. */
  #withCause(status: ExitStatus, { stopSignal }: Resident): ExitStatus {
    if (status.kind !== "signal" || status.signal !== "SIGKILL" || stopSignal === "SIGKILL") return status;
    if (this.#oomKills?.claim() !== true) return status;
    return { ...status, out_of_memory: { limit_bytes: this.#oomKills.limitBytes ?? null } };
  }

  /** Kills helpers, and what was adopted and belongs to no worker any more. Not as PID 1: there the container ends with us. */
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

  /** What a helper has left in its group ends with it. */
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
    // Members whose parents live are not our children: no signal tells of their end.
    if (this.#leftBehind.size > 0) this.#poll ??= setInterval(() => this.reap(), VACANCY_POLL_MS);
    const startedAtMs = monotonicMs();
    if (this.#leftBehind.size === 0 || startedAtMs < this.#nextLookAtMs) return;
    const surviving = this.#survivingOf([...this.#leftBehind]);
    for (const resident of this.#leftBehind) {
      if (surviving.has(resident)) {
        // What a member of the group had started elsewhere becomes ours, and is known, only when that member ends.
        this.#signalEscaped(resident);
        continue;
      }
      this.#leftBehind.delete(resident);
      this.#forget(resident);
      this.#listener.vacated(resident.pool, resident.slot, resident.incarnation);
    }
    const endedAtMs = monotonicMs();
    // A look at thousands of processes takes a quarter of the time at most.
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
   * The workers of which something is left, or may be left: not every adopted process may have been examined. The groups come
   * first, because what a member of a group leaves behind is our child once the group is empty. A process that ends while
   * the children are examined may have left us a child, so they are listed again.
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

  /** During an execve(2), a matter of moments, nobody can tell whose a process is: it is looked at again. */
  #mayBeInExec(resident: Resident): boolean {
    return monotonicMs() - resident.leaderEndedAtMs < EXEC_BOUND_MS;
  }

  /** The stop signal, once, to each process that left the group, as many as one turn allows; the group got it as a whole. */
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
   * What is different in each worker; `variables` go with what this process inherits or is. A MULTIPROCESS_WORKER_ID that
   * `env` or `env_file` sets wins; the rest must be right for the controller to recognise its processes.
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

  /** What all workers of a pool share, without the variables that `#ownEnv` sets. */
  #sharedEnv(launch: PoolLaunch): PreparedStrings {
    const known = this.#sharedEnvs.get(launch);
    if (known !== undefined) return known;
    const own = new Set(this.#ownEnv(launch, 0, 0).map((entry) => entry.slice(0, entry.indexOf("="))));
    // A controller that is itself run by a probe must not give this on: its workers would be taken for helpers.
    own.add(HELPER_VARIABLE);
    const shared = Object.entries(launch.plan.env).filter(([key]) => !own.has(key));
    const prepared = new PreparedStrings(shared.map(([key, value]) => `${key}=${value}`));
    this.#sharedEnvs.set(launch, prepared);
    return prepared;
  }
}

/** SIGCONT follows, as in systemd: a suspended process could not obey and would be killed at the deadline. */
function sendStopSignal(target: number, signal: string): void {
  sendSignal(target, signal);
  sendSignal(target, "SIGCONT");
}

/** Errors of execve(2) that may be about something else than the file itself. */
const EXEC_ERRORS: ReadonlySet<string> = new Set(["ENOENT", "ENOEXEC", "EACCES", "ELOOP"]);

/**
 * The error of a spawn. It names the limit that was reached, or what the program lacks, if known: its interpreter may have been
 * removed.
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

/** The descriptor of the notice in the worker: the next after the sockets. */
function noticeFdOf(sockets: InheritedSockets | undefined): number {
  return FIRST_INHERITED_FD + (sockets?.fds.length ?? 0);
}

/** @throws SystemCallError */
function openNoticePipe({ sockets }: PoolLaunch): Pipe {
  const { readFd, writeFd } = openPipe();
  try {
    // Not among the descriptors it becomes one of: those before it would overwrite it.
    return { readFd, writeFd: raiseDescriptor(writeFd, noticeFdOf(sockets)) };
  } catch (error) {
    closeSync(readFd);
    throw error;
  }
}
