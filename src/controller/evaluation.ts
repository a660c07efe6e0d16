/**
 * Evaluates a file of a user that is a program itself, by the user's own interpreter in a process of its own. The
 * process is limited in time and output, and nothing that it started is left at the end.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { isExecutable } from "../files/executable.ts";
import { SystemCallError } from "../runtime/os/linux.ts";
import { readEnvironmentVariable } from "../runtime/os/procfs.ts";
import { CONTROLLER_MARK, Guardian } from "../runtime/process/guardian.ts";
import { controllerMark } from "../runtime/process/leftovers.ts";
import { StartTools } from "../runtime/process/startTools.ts";
import { runTool } from "../runtime/process/tool.ts";

/** Configuration files take milliseconds. */
export const EVALUATION_MS = 10_000;

/** What came of an evaluation. */
export type Evaluation =
  | { readonly kind: "done"; readonly json: string }
  /** No such program on PATH. */
  | { readonly kind: "missing" }
  | { readonly kind: "timeout"; readonly boundMs: number }
  /** `output` is what it printed, bounded. */
  | { readonly kind: "failed"; readonly output: string };

export interface EvaluationRequest {
  /** Name of the interpreter on PATH. */
  readonly program: string;
  /** Its options, the code last. The code prints a line with its first argument, a colon and JSON. */
  readonly options: readonly string[];
  /** Absolute path, the second argument of the code. */
  readonly file: string;
  readonly path: string | undefined;
  readonly boundMs?: number;
}

export async function evaluate(request: EvaluationRequest): Promise<Evaluation> {
  const { program, options, file, path = "", boundMs = EVALUATION_MS } = request;
  const found = path
    .split(":")
    .map((directory) => join(directory, program))
    .find((candidate) => candidate.startsWith("/") && isExecutable(candidate));
  if (found === undefined) return { kind: "missing" };
  // Only the code knows the word, so that output of the file is never taken for the result.
  const word = `monoceros-${process.hrtime.bigint().toString(36)}-${Math.random().toString(36).slice(2)}`;
  const mark = controllerMark();
  const guardian = new Guardian(mark);
  try {
    using tools = new StartTools(guardian, mark);
    const argv = [program, ...options, word, file];
    const { status, output } = await runTool(tools, { workerPid: undefined, file: found, argv }, boundMs);
    if (status === undefined) return { kind: "timeout", boundMs };
    const at = output.lastIndexOf(`\n${word}:`);
    const end = output.indexOf("\n", at + 1);
    if (status.kind !== "code" || status.code !== 0 || at < 0 || end < 0) return { kind: "failed", output };
    return { kind: "done", json: output.slice(at + word.length + 2, end) };
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    return { kind: "failed", output: `${found} cannot be started: ${error.message}` };
  } finally {
    killMarked(mark);
    guardian.release();
  }
}

/** Kills processes of the evaluation that left its process group. */
function killMarked(mark: string): void {
  for (let round = 0; round < 5; round += 1) {
    const pids = readdirSync("/proc")
      .filter((name) => /^\d+$/u.test(name) && Number(name) !== process.pid)
      .map(Number)
      .filter((pid) => readEnvironmentVariable(pid, CONTROLLER_MARK) === mark);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has exited.
      }
    }
  }
}
