/**
 * Runs tools before the controller manages processes. Reaps them by pid, because no daemon reaps every child yet. A
 * guardian stops them if this process is killed meanwhile.
 */
import type { ExitStatus } from "../../core/exit.ts";
import { PreparedStrings, reapPid, sendSignal, spawnProcess } from "../os/linux.ts";
import { CONTROLLER_MARK, type Lifeline } from "./lifeline.ts";
import type { Helper, ToolControl, ToolRequest } from "./processes.ts";

export class StartTools implements ToolControl, Disposable {
  readonly #lifeline: Lifeline | undefined;
  readonly #mark: string;
  /** Exit callback of each running tool, by its pid. */
  readonly #running = new Map<number, (status: ExitStatus) => void>();
  readonly #onChildSignal = () => this.#reap();

  /** `mark` is the value of CONTROLLER_MARK in the environment of each tool. */
  constructor(lifeline: Lifeline | undefined, mark: string) {
    this.#lifeline = lifeline;
    this.#mark = mark;
    process.on("SIGCHLD", this.#onChildSignal);
  }

  spawnTool({ file, argv, outputFd }: ToolRequest, exited: (status: ExitStatus) => void): Helper {
    this.#lifeline?.start();
    const env = { ...process.env, [CONTROLLER_MARK]: this.#mark };
    const pid = spawnProcess({
      file,
      argv,
      sharedEnv: new PreparedStrings([]),
      env: Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`])),
      cwd: undefined,
      stdinFd: undefined,
      stdoutFd: outputFd,
      stderrFd: outputFd,
    });
    this.#running.set(pid, exited);
    this.#lifeline?.add(pid);
    return {
      pid,
      kill: () => {
        if (this.#running.has(pid)) sendSignal(-pid, "SIGKILL");
      },
    };
  }

  #reap(): void {
    for (const [pid, exited] of [...this.#running]) {
      const status = reapPid(pid);
      if (status === undefined) continue;
      this.#running.delete(pid);
      // Kills the remaining processes of its group.
      sendSignal(-pid, "SIGKILL");
      this.#lifeline?.remove(pid);
      exited(status);
    }
  }

  /** Kills the tools that still run. */
  [Symbol.dispose](): void {
    process.off("SIGCHLD", this.#onChildSignal);
    for (const pid of this.#running.keys()) sendSignal(-pid, "SIGKILL");
  }
}
