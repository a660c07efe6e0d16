/**
 * Creates what must exist before the controller: the runtime's threads, the guardian, and tools that check the
 * configuration. No process outlives a start that is stopped or killed.
 */
import { constants } from "node:os";
import { postponeOptimization } from "../runtime/engineFlags.ts";
import { closeInheritedOnExec, SystemCallError } from "../runtime/os/linux.ts";
import { requireOwnProc } from "../runtime/os/ownProc.ts";
import { processLimitError } from "../runtime/os/processLimit.ts";
import { startThreads } from "../runtime/os/threads.ts";
import { Guardian } from "../runtime/process/guardian.ts";
import { controllerMark } from "../runtime/process/leftovers.ts";
import { StartTools } from "../runtime/process/startTools.ts";

export class Start implements Disposable {
  /** The value of CONTROLLER_MARK in the environment of every process that is started. */
  readonly mark: string;
  /** undefined as PID 1: the kernel kills every process in the container when the controller exits. */
  readonly guardian: Guardian | undefined;
  /** Used until the daemon reaps every child. */
  readonly tools: StartTools;

  private constructor() {
    this.mark = controllerMark();
    this.guardian = process.pid === 1 ? undefined : new Guardian(this.mark);
    this.tools = new StartTools(this.guardian, this.mark);
  }

  /** @throws ControllerError PROC_UNUSABLE, PROCESS_LIMIT */
  static begin(): Start {
    requireOwnProc();
    postponeOptimization();
    startThreads();
    // The guardian must not inherit the descriptors that this process inherited.
    closeInheritedOnExec();
    const start = new Start();
    try {
      start.guardian?.start();
    } catch (error) {
      start[Symbol.dispose]();
      if (!(error instanceof SystemCallError) || error.code !== "EAGAIN") throw error;
      throw processLimitError("Cannot start the controller: its guardian could not be started", error);
    }
    return start;
  }

  /** Kills running tools and notifies the guardian that the controller exits. */
  [Symbol.dispose](): void {
    this.tools[Symbol.dispose]();
    this.guardian?.release();
  }
}

/** The exit code of a controller that was stopped by `signal` before it had started a worker: 128 and the signal's number. */
export function stoppedExitCode(signal: string): number {
  return 128 + constants.signals[signal as NodeJS.Signals];
}
