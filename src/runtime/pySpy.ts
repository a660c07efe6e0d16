/**
 * Stacks of Python workers, asked of py-spy where it is installed. The worker is read from outside and never stopped for it
 * (--nonblocking): a py-spy that is killed in the midst could otherwise leave it stopped. The price is that a stack which
 * changes while it is read may be missing.
 */
import { accessSync, constants, promises as files, mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { ToolControl } from "./processes.ts";
import { readStat } from "./procfs.ts";
import { runTool, type ToolAnswer } from "./tool.ts";

/** How long the maps of a process may take; its memory may be locked. */
const MAPS_MS = 200;

/** How much longer than asked for a record may take. */
const RECORD_SLACK_MS = 5000;

/** Frames of a stack in one line. */
const MAX_FRAMES_IN_LINE = 5;

const MAX_REASON_LENGTH = 300;

const PYTHON = /^(?:python|pypy)[\d.]*/u;

/** What an operator has to change so that py-spy may read workers. */
const PERMISSION_HINT =
  "py-spy may not read the worker: give the controller the capability CAP_SYS_PTRACE (in Kubernetes securityContext.capabilities.add: [SYS_PTRACE], in Docker --cap-add SYS_PTRACE), or run it as the worker's user with the sysctl kernel.yama.ptrace_scope=0";

/** What py-spy found, or why it did not. */
export type PySpyAnswer =
  | { readonly kind: "found"; readonly text: string }
  | { readonly kind: "failed"; readonly reason: string };

/** py-spy by the search path `path`; undefined where it is not there. */
export function findPySpy(path: string | undefined): string | undefined {
  for (const directory of (path ?? "").split(":")) {
    const file = join(directory, "py-spy");
    if (!directory.startsWith("/")) continue;
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Perhaps in the next one.
    }
  }
  return undefined;
}

/** Whether a process runs Python: by its executable, its command line, or as a library of it. */
export async function isPython(pid: number): Promise<boolean> {
  const stat = readStat(pid);
  // Of a process in uninterruptible sleep nothing is read that could make us wait with it.
  if (stat === undefined || stat.state === "D" || stat.state === "Z") return false;
  if (PYTHON.test(stat.command) || PYTHON.test(executableOf(pid))) return true;
  const read = async (name: string) => files.readFile(`/proc/${pid}/${name}`, "latin1").catch(() => "");
  const texts = Promise.all([read("cmdline"), read("maps")]);
  const [command, maps] = await Promise.race([texts, wait(MAPS_MS, ["", ""] as const)]);
  return PYTHON.test(basename(command.split("\0")[0] ?? "")) || /\/libpython\d[^/]*\.so/u.test(maps);
}

/** The stacks of all threads at this moment, as py-spy prints them. Never rejects. */
export async function dumpStacks(tools: ToolControl, file: string, pid: number, boundMs: number): Promise<PySpyAnswer> {
  const argv = ["py-spy", "dump", "--nonblocking", "--pid", String(pid)];
  const answer = await runQuietly(tools, { workerPid: pid, file, argv }, boundMs);
  return answer.kind === "failed" ? answer : { kind: "found", text: answer.text.trim() };
}

/** The main thread's stack of a dump in one line: `wait (queue.py:7) ← main (app.py:3)`; undefined where there is none. */
export function formatStack(dump: string): string | undefined {
  const [, first = ""] = dump.split(/^Thread .*$/mu);
  const frames = first
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  if (frames.length === 0) return undefined;
  const more = frames.length > MAX_FRAMES_IN_LINE ? [`${frames.length - MAX_FRAMES_IN_LINE} more`] : [];
  return [...frames.slice(0, MAX_FRAMES_IN_LINE), ...more].join(" ← ");
}

/** What is asked of a record. */
export interface RecordRequest {
  readonly pid: number;
  /** Whole seconds. */
  readonly seconds: number;
  /** Samples a second. */
  readonly hz: number;
  readonly signal: AbortSignal;
}

/**
 * Collapsed stacks of what used a processor for a time; less where the worker ends meanwhile, nothing where the signal
 * comes. Never rejects.
 */
export async function recordStacks(tools: ToolControl, file: string, request: RecordRequest): Promise<PySpyAnswer> {
  const { pid, seconds, hz, signal } = request;
  let directory: string | undefined;
  try {
    // mkdtemp(3) makes it for us alone.
    directory = mkdtempSync(join(tmpdir(), "monoceros-profile-"));
    const output = join(directory, "stacks");
    const argv = `py-spy record --nonblocking --format raw --duration ${seconds} --rate ${hz} --output`.split(" ");
    const tool = { workerPid: pid, file, argv: [...argv, output, "--pid", String(pid)] };
    const answer = await runQuietly(tools, tool, seconds * 1000 + RECORD_SLACK_MS, signal);
    return answer.kind === "failed" ? answer : { kind: "found", text: readFileSync(output, "utf8") };
  } catch (error) {
    return { kind: "failed", reason: error instanceof Error ? error.message : String(error) };
  } finally {
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  }
}

async function runQuietly(...[tools, request, boundMs, signal]: Parameters<typeof runTool>): Promise<PySpyAnswer> {
  try {
    return judge(await runTool(tools, request, boundMs, signal));
  } catch (error) {
    return {
      kind: "failed",
      reason: `py-spy cannot be run: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
}

function judge({ output, status }: ToolAnswer): PySpyAnswer {
  if (status === undefined) return { kind: "failed", reason: "py-spy took too long" };
  if (status.kind === "code" && status.code === 0) return { kind: "found", text: output };
  if (/permission denied|operation not permitted|EPERM|EACCES/iu.test(output))
    return { kind: "failed", reason: PERMISSION_HINT };
  // A backtrace of py-spy itself helps nobody.
  const said = (output.split("Stack backtrace:")[0] ?? "").replaceAll(/\s+/gu, " ").trim();
  return { kind: "failed", reason: `py-spy failed: ${said.slice(0, MAX_REASON_LENGTH)}` };
}

function executableOf(pid: number): string {
  try {
    return basename(readlinkSync(`/proc/${pid}/exe`));
  } catch {
    return "";
  }
}
