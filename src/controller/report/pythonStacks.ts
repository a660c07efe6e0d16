/** Takes and records stacks of Python processes with py-spy. */
import { monotonicMs } from "../../base/monotonic.ts";
import {
  dumpStacks,
  findPySpy,
  isPython,
  type PySpy,
  type PySpyAnswer,
  type RecordRequest,
  recordStacks,
} from "../../runtime/inspect/pySpy.ts";
import type { ToolControl } from "../../runtime/process/helpers.ts";

/** Maximum concurrent dumps; if hundreds of workers hang, the first dumps are enough. */
const MAX_DUMPS = 2;

export class PythonStacks {
  readonly #tools: ToolControl;
  readonly #searchPath: () => string | undefined;
  #dumps = 0;

  /** `searchPath` returns PATH, which is searched for py-spy each time. */
  constructor(tools: ToolControl, searchPath: () => string | undefined) {
    this.#tools = tools;
    this.#searchPath = searchPath;
  }

  get isAtLimit(): boolean {
    return this.#dumps >= MAX_DUMPS;
  }

  /** The current stacks of a process; undefined if it runs no Python, py-spy is missing, or the limit is reached. */
  async dump(pid: number, boundMs: number): Promise<PySpyAnswer | undefined> {
    if (this.isAtLimit) return undefined;
    const startedAtMs = monotonicMs();
    this.#dumps++;
    try {
      return await this.#run(pid, (tool) =>
        dumpStacks(this.#tools, tool, pid, boundMs - (monotonicMs() - startedAtMs)),
      );
    } finally {
      this.#dumps--;
    }
  }

  /** The stacks of these processes, one after the other, as far as there is time. */
  async dumpAll(pids: readonly number[], boundMs: number): Promise<readonly (PySpyAnswer | undefined)[]> {
    const startedAtMs = monotonicMs();
    const answers: (PySpyAnswer | undefined)[] = [];
    for (const pid of pids) {
      const leftMs = boundMs - (monotonicMs() - startedAtMs);
      answers.push(leftMs > 0 ? await this.dump(pid, leftMs) : undefined);
    }
    return answers;
  }

  /** The stacks that run on a CPU, over time; undefined if the process runs no Python, or py-spy is missing. */
  record(request: RecordRequest): Promise<PySpyAnswer | undefined> {
    return this.#run(request.pid, (tool) => recordStacks(this.#tools, tool, request));
  }

  async #run(pid: number, run: (tool: PySpy) => Promise<PySpyAnswer>): Promise<PySpyAnswer | undefined> {
    const tool = findPySpy(this.#searchPath(), pid);
    if (tool === undefined || !(await isPython(pid))) return undefined;
    return "kind" in tool ? { kind: "failed", reason: tool.reason } : run(tool);
  }
}
