/**
 * Short-lived programs of the controller. A helper runs beside a worker, with its user, directory and environment. A
 * tool runs as the controller's user by default, because inspecting workers often needs rights that they lack, and its
 * output may be read. Neither counts as a process of a worker or outlives the controller.
 */
import { openSync } from "node:fs";
import type { ExitStatus } from "../../core/exit.ts";
import type { WorkerRef } from "../../core/identity.ts";
import { PreparedStrings, sendSignal } from "../os/linux.ts";
import { HELPER_VARIABLE } from "./adoptions.ts";
import { CONTROLLER_MARK, type Guardian } from "./guardian.ts";
import type { LaunchOf, WorkerEnvironments } from "./poolLaunch.ts";
import { startProcess } from "./spawn.ts";
import type { Credentials, LimitSetting, ProcessSettings } from "./spawnShim.ts";

/** A program and its arguments. */
interface Command {
  /** Absolute path. */
  readonly file: string;
  /** The program's name first. */
  readonly argv: readonly string[];
}

/** A command to run beside a worker. */
export interface HelperRequest extends Command, WorkerRef {
  /** Of the worker; the helper uses its launch settings. */
  readonly revision: number;
  readonly workerPid: number;
}

/** A running helper or tool. */
export interface Helper {
  readonly pid: number;
  /** Sends SIGKILL to its whole group; its exit is still reported. */
  kill(): void;
}

/** A program that collects information for the controller. */
export interface ToolRequest extends Command {
  /** Of the worker that it concerns; undefined if it concerns none. */
  readonly workerPid: number | undefined;
  /** The user that it runs as; the controller's if absent. */
  readonly credentials?: Credentials | undefined;
  /** Receives stdout and stderr. The caller keeps ownership. */
  readonly outputFd: number;
}

/** Starts helpers for probes. */
export interface HelperControl {
  /** Starts a helper without output; `exited` is called once. @throws SystemCallError */
  spawnHelper(request: HelperRequest, exited: (status: ExitStatus) => void): Helper;
}

/** Starts tools. */
export interface ToolControl {
  /** Starts a tool with the controller's directory and environment; `exited` is called once. @throws SystemCallError */
  spawnTool(request: ToolRequest, exited: (status: ExitStatus) => void): Helper;
}

/** Running helpers and tools. Each leads a process group. */
export class RunningHelpers {
  readonly #guardian: Guardian | undefined;
  /** Exit callbacks by pid. */
  readonly #exited = new Map<number, (status: ExitStatus) => void>();

  constructor(guardian: Guardian | undefined) {
    this.#guardian = guardian;
  }

  pids(): readonly number[] {
    return [...this.#exited.keys()];
  }

  has(pid: number): boolean {
    return this.#exited.has(pid);
  }

  add(pid: number, exited: (status: ExitStatus) => void): Helper {
    this.#exited.set(pid, exited);
    this.#guardian?.add(pid);
    return {
      pid,
      kill: () => {
        if (this.#exited.has(pid)) sendSignal(-pid, "SIGKILL");
      },
    };
  }

  /** Call when `pid` was reaped: kills the processes left in its group, and returns its callback if it was a helper. */
  remove(pid: number): ((status: ExitStatus) => void) | undefined {
    const exited = this.#exited.get(pid);
    if (exited === undefined) return undefined;
    this.#exited.delete(pid);
    sendSignal(-pid, "SIGKILL");
    this.#guardian?.remove(pid);
    return exited;
  }

  killAll(): void {
    for (const pid of this.#exited.keys()) sendSignal(-pid, "SIGKILL");
  }
}

/** The environment of a tool: the controller's, marked with `mark`. */
export function toolEnvironment(mark: string, variables: Readonly<Record<string, string>> = {}): string[] {
  const env = { ...process.env, ...variables, [CONTROLLER_MARK]: mark };
  return Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]));
}

/** Starts helpers and tools. They die with the controller, even if it is killed before the guardian knows them. */
export class Helpers extends RunningHelpers implements HelperControl, ToolControl {
  readonly #launchOf: LaunchOf;
  readonly #environments: WorkerEnvironments;
  readonly #mark: string;
  readonly #settings: ProcessSettings;
  /** /dev/null, for the output of helpers; stays open after its first use. */
  #sinkFd: number | undefined;

  constructor(options: {
    launchOf: LaunchOf;
    environments: WorkerEnvironments;
    guardian: Guardian | undefined;
    mark: string;
    nofile: LimitSetting;
  }) {
    super(options.guardian);
    this.#launchOf = options.launchOf;
    this.#environments = options.environments;
    this.#mark = options.mark;
    this.#settings = { rlimits: new Map([["nofile", options.nofile]]), diesWithController: true };
  }

  spawnHelper(request: HelperRequest, exited: (status: ExitStatus) => void): Helper {
    const { slot, incarnation, workerPid, file, argv } = request;
    const launch = this.#launchOf(request.pool, request.revision);
    const { cwd, credentials, umask, oomScoreAdj } = launch.plan;
    this.#sinkFd ??= openSync("/dev/null", "r+");
    const pid = startProcess({
      file,
      argv,
      sharedEnv: this.#environments.shared(launch),
      env: this.#environments.own(launch, slot, incarnation, { [HELPER_VARIABLE]: String(workerPid) }),
      cwd,
      stdinFd: undefined,
      stdoutFd: this.#sinkFd,
      stderrFd: this.#sinkFd,
      settings: { ...this.#settings, credentials, umask, oomScoreAdj },
    });
    return this.add(pid, exited);
  }

  spawnTool(request: ToolRequest, exited: (status: ExitStatus) => void): Helper {
    const { workerPid, file, argv, credentials, outputFd } = request;
    const pid = startProcess({
      file,
      argv,
      sharedEnv: new PreparedStrings([]),
      env: toolEnvironment(this.#mark, { [HELPER_VARIABLE]: String(workerPid ?? "") }),
      cwd: undefined,
      stdinFd: undefined,
      stdoutFd: outputFd,
      stderrFd: outputFd,
      settings: { ...this.#settings, credentials },
    });
    return this.add(pid, exited);
  }
}
