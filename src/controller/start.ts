/**
 * What exists before the controller does: the threads of the runtime, the guardian, and tools that check the configuration.
 * From the first process on, nothing outlives a start that is stopped or killed.
 */
import { constants } from "node:os";
import { postponeOptimization } from "../runtime/engineFlags.ts";
import { closeInheritedOnExec, SystemCallError } from "../runtime/os/linux.ts";
import { requireOwnProc } from "../runtime/os/ownProc.ts";
import { processLimitError } from "../runtime/os/processLimit.ts";
import { startThreads } from "../runtime/os/threads.ts";
import { controllerMark } from "../runtime/process/leftovers.ts";
import { Lifeline } from "../runtime/process/lifeline.ts";
import { StartTools } from "../runtime/process/startTools.ts";

export class Start implements Disposable {
  /** The value of CONTROLLER_MARK in the environment of every process that is started. */
  readonly mark: string;
  /** Undefined as PID 1: the kernel ends everything in the container together with us. */
  readonly lifeline: Lifeline | undefined;
  /** For as long as no daemon reaps every child. */
  readonly tools: StartTools;

  private constructor() {
    this.mark = controllerMark();
    this.lifeline = process.pid === 1 ? undefined : new Lifeline(this.mark);
    this.tools = new StartTools(this.lifeline, this.mark);
  }

  /** @throws ControllerError PROC_UNUSABLE, PROCESS_LIMIT */
  static begin(): Start {
    requireOwnProc();
    postponeOptimization();
    startThreads();
    // The guardian must not inherit what this process was born with.
    closeInheritedOnExec();
    const start = new Start();
    try {
      start.lifeline?.start();
    } catch (error) {
      start[Symbol.dispose]();
      if (!(error instanceof SystemCallError) || error.code !== "EAGAIN") throw error;
      throw processLimitError("Cannot start the controller: its guardian could not be started", error);
    }
    return start;
  }

  /** Kills tools that still run and tells the guardian that the controller leaves. */
  [Symbol.dispose](): void {
    this.tools[Symbol.dispose]();
    this.lifeline?.release();
  }
}

/** The exit code of a controller that was stopped by `signal` before it had started a worker: 128 and the signal's number. */
export function stoppedExitCode(signal: string): number {
  return 128 + constants.signals[signal as NodeJS.Signals];
}
