/** Starts the process of a worker with its pipes, descriptors, environment and settings. */
import { closeSync, fchownSync } from "node:fs";
import type { Logger } from "../../base/log.ts";
import type { Incarnation, Slot } from "../../core/identity.ts";
import { openWorkerSockets, type WorkerSockets } from "../channel/workerChannels.ts";
import { findProgramProblem } from "../inspect/interpreter.ts";
import { openPipe, type Pipe, SystemCallError } from "../os/linux.ts";
import { findProcessLimit } from "../os/processLimit.ts";
import { readText } from "../os/procFile.ts";
import type { LaunchPlan } from "./launch.ts";
import { inheritedVariables, notifyFdOf, type PoolLaunch, type WorkerEnvironments } from "./poolLaunch.ts";
import { beginProcess } from "./spawn.ts";
import type { LimitSetting, ProcessSettings } from "./spawnShim.ts";

/** The controller's ends of a worker's pipes. The caller owns them. */
export interface WorkerPipes {
  /** undefined if the output does not pass through the controller. */
  readonly output: { readonly stdoutFd: number; readonly stderrFd: number } | undefined;
  /** undefined if the pool has no readiness notification. */
  readonly notifyFd: number | undefined;
  /** undefined if the worker has none. */
  readonly sockets: WorkerSockets | undefined;
}

/** A process whose program may not have been executed yet. */
export interface BegunWorker {
  readonly pid: number;
  /** Waits for the exec. Call it once, in the same turn of the event loop. @throws Error if it fails */
  confirm(): WorkerPipes;
}

export class WorkerSpawner {
  readonly #environments: WorkerEnvironments;
  readonly #nofile: LimitSetting;
  readonly #log: Logger;
  /** Refused settings of a launch that were already logged. */
  readonly #refusals = new WeakMap<PoolLaunch, Set<string>>();

  /** `nofile` is the limit of open files that workers start with if their pool sets none. */
  constructor(options: { environments: WorkerEnvironments; nofile: LimitSetting; log: Logger }) {
    this.#environments = options.environments;
    this.#nofile = options.nofile;
    this.#log = options.log;
  }

  /** Starts the process of a slot; its program is executed while the caller does other work. @throws Error */
  begin(launch: PoolLaunch, slot: Slot, incarnation: Incarnation): BegunWorker {
    const { plan, sockets } = launch;
    const output: Pipe[] = [];
    let notify: Pipe | undefined;
    let reports: WorkerSockets | undefined;
    const all = () => (notify === undefined ? output : [...output, notify]);
    const explain = (error: unknown) => {
      for (const { readFd } of all()) closeSync(readFd);
      reports?.[Symbol.dispose]();
      return explained(error, plan);
    };
    try {
      launch.prepare?.(slot);
      reports = launch.socketsOf && openWorkerSockets(launch.socketsOf(slot, incarnation));
      if (launch.notifies === true) notify = openPipe(notifyFdOf(launch));
      if (launch.captured) for (let stream = 0; stream < 2; stream++) output.push(openPipe());
      for (const pipe of output) this.#giveTo(plan, pipe);
      const [stdout, stderr] = output;
      const { pid, confirm } = beginProcess({
        file: plan.file,
        argv: [plan.file, ...launch.argsOf(slot)],
        sharedEnv: this.#environments.shared(launch),
        env: this.#environments.own(launch, slot, incarnation, {
          ...inheritedVariables(launch),
          ...reports?.variables,
        }),
        cwd: plan.cwd,
        stdinFd: undefined,
        stdoutFd: stdout?.writeFd,
        stderrFd: stderr?.writeFd,
        inheritedFds: [...(sockets?.fds ?? []), ...(notify === undefined ? [] : [notify.writeFd])],
        settings: { ...plan, rlimits: this.#limitsOf(plan), hasListenPid: sockets !== undefined },
        onRefused: (what, error) => this.#warnOfRefusal(launch, what, error),
        blocksSignals: launch.quit !== undefined,
      });
      return {
        pid,
        confirm: () => {
          try {
            confirm();
          } catch (error) {
            throw explain(error);
          }
          return {
            output: stdout && stderr && { stdoutFd: stdout.readFd, stderrFd: stderr.readFd },
            notifyFd: notify?.readFd,
            sockets: reports,
          };
        },
      };
    } catch (error) {
      throw explain(error);
    } finally {
      for (const { writeFd } of all()) closeSync(writeFd);
    }
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

  /** Resets the limit of open files, which Node.js has raised for itself. */
  #limitsOf({ rlimits }: LaunchPlan): ProcessSettings["rlimits"] {
    return rlimits.has("nofile") ? rlimits : new Map([...rlimits, ["nofile", this.#nofile]]);
  }

  /** Warns once per launch: a pool in a crash loop would repeat the warning. */
  #warnOfRefusal(launch: PoolLaunch, what: string, error: SystemCallError): void {
    const warned = this.#refusals.get(launch) ?? new Set();
    this.#refusals.set(launch, warned);
    if (warned.has(what)) return;
    warned.add(what);
    this.#log.warn(`Cannot set ${what} of the workers of pool "${launch.name}"`, { error: error.message });
  }
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
