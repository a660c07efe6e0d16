/**
 * Runs tools before the controller manages processes. Reaps them by pid, because no daemon reaps every child yet. A
 * guardian stops them if this process is killed meanwhile.
 */
import type { ExitStatus } from "../../core/exit.ts";
import { PreparedStrings, reapPid, spawnProcess } from "../os/linux.ts";
import type { Guardian } from "./guardian.ts";
import { type Helper, RunningHelpers, type ToolControl, type ToolRequest, toolEnvironment } from "./helpers.ts";

export class StartTools implements ToolControl, Disposable {
  readonly #guardian: Guardian | undefined;
  readonly #mark: string;
  readonly #running: RunningHelpers;
  readonly #onChildSignal = () => this.#reap();

  /** `mark` is the value of CONTROLLER_MARK in the environment of each tool. */
  constructor(guardian: Guardian | undefined, mark: string) {
    this.#guardian = guardian;
    this.#mark = mark;
    this.#running = new RunningHelpers(guardian);
    process.on("SIGCHLD", this.#onChildSignal);
  }

  spawnTool({ file, argv, outputFd }: ToolRequest, exited: (status: ExitStatus) => void): Helper {
    this.#guardian?.start();
    const pid = spawnProcess({
      file,
      argv,
      sharedEnv: new PreparedStrings([]),
      env: toolEnvironment(this.#mark),
      cwd: undefined,
      stdinFd: undefined,
      stdoutFd: outputFd,
      stderrFd: outputFd,
    });
    return this.#running.add(pid, exited);
  }

  #reap(): void {
    for (const pid of this.#running.pids()) {
      const status = reapPid(pid);
      if (status !== undefined) this.#running.remove(pid)?.(status);
    }
  }

  /** Kills the tools that still run. */
  [Symbol.dispose](): void {
    process.off("SIGCHLD", this.#onChildSignal);
    this.#running.killAll();
  }
}
