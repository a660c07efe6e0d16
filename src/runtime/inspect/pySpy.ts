/**
 * Reads the stacks of Python workers with py-spy, if it is installed. py-spy reads the worker from outside and never
 * stops it (--nonblocking): a py-spy killed midway could otherwise leave the worker stopped. The cost: a stack that
 * changes while it is read may be missing.
 */

import {
  chmodSync,
  chownSync,
  promises as files,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  rmdirSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { messageOf } from "../../base/errors.ts";
import { isExecutable } from "../../files/executable.ts";
import { distrustOf } from "../../files/inspectPath.ts";
import { readWholeFile } from "../../files/readFile.ts";
import { readText } from "../os/procFile.ts";
import { readStat } from "../os/procfs.ts";
import type { ToolControl } from "../process/helpers.ts";
import type { Credentials } from "../process/spawnShim.ts";
import { runTool, type ToolAnswer } from "../process/tool.ts";

/** Time limit for reading a process's maps; its memory may be locked. */
const MAPS_MS = 200;

/** How much longer than requested a recording may take. */
const RECORD_SLACK_MS = 5000;

/** Maximum frames in a one-line stack. */
const MAX_FRAMES_IN_LINE = 5;

const MAX_REASON_LENGTH = 300;

/** Maximum size of a recording; collapsed stacks of several minutes are far smaller. */
const MAX_RECORD_BYTES = 64 << 20;

const PYTHON = /^(?:python|pypy)[\d.]*/u;

/** What an operator has to change so that py-spy may read workers. */
const PERMISSION_HINT =
  "py-spy, which runs as the worker's user, may not read the worker: set the sysctl kernel.yama.ptrace_scope=0; for a worker of the controller's own user the capability CAP_SYS_PTRACE is another way (in Kubernetes securityContext.capabilities.add: [SYS_PTRACE], in Docker --cap-add SYS_PTRACE)";

/** What py-spy found, or why it failed. */
export type PySpyAnswer =
  | { readonly kind: "found"; readonly text: string }
  | { readonly kind: "failed"; readonly reason: string };

/** py-spy, ready to look into one process. */
export interface PySpy {
  readonly file: string;
  /** The user that py-spy runs as; undefined for the controller's user. */
  readonly credentials: Credentials | undefined;
}

/** The result of a search for py-spy: undefined if it is not installed, the reason if it must not be run. */
export type FoundPySpy = PySpy | { readonly kind: "untrusted"; readonly reason: string } | undefined;

/**
 * Finds py-spy on the search path `path`, for the process `pid`. py-spy reads data that the process controls, so it
 * runs as the process's user, without the controller's privileges. Its file must belong to root, to the controller's
 * user or to the process's user, because other users may be able to write to directories on the search path.
 */
export function findPySpy(path: string | undefined, pid: number): FoundPySpy {
  let untrusted: FoundPySpy;
  for (const directory of (path ?? "").split(":")) {
    const file = join(directory, "py-spy");
    if (!directory.startsWith("/") || !isExecutable(file)) continue;
    const credentials = credentialsFor(pid);
    const distrust = distrustOf(file, { owner: credentials?.uid });
    if (distrust === undefined) return { file, credentials };
    untrusted ??= { kind: "untrusted", reason: `"${file}" is not run, because ${distrust.reason} (${distrust.hint})` };
  }
  return untrusted;
}

/** The credentials of a process of another user, if the controller may assume them. */
function credentialsFor(pid: number): Credentials | undefined {
  const status = readText(`/proc/${pid}/status`) ?? "";
  const idsOf = (field: string) => (new RegExp(`^${field}:\\s*(.*)$`, "mu").exec(status)?.[1] ?? "").split(/\s+/u);
  const [uid, gid] = [Number(idsOf("Uid")[0]), Number(idsOf("Gid")[0])];
  if (process.getuid?.() !== 0 || !Number.isInteger(uid) || !Number.isInteger(gid) || uid === 0) return undefined;
  return { uid, gid, groups: idsOf("Groups").filter(Boolean).map(Number) };
}

/** Whether a process runs Python, judged by its executable, its command line or a loaded libpython. */
export async function isPython(pid: number): Promise<boolean> {
  const stat = readStat(pid);
  // Reading files of a process in uninterruptible sleep could block this process as well.
  if (stat === undefined || stat.state === "D" || stat.state === "Z") return false;
  if (PYTHON.test(stat.command) || PYTHON.test(executableOf(pid))) return true;
  const read = async (name: string) => files.readFile(`/proc/${pid}/${name}`, "latin1").catch(() => "");
  const texts = Promise.all([read("cmdline"), read("maps")]);
  const [command, maps] = await Promise.race([texts, wait(MAPS_MS, ["", ""] as const)]);
  return PYTHON.test(basename(command.split("\0")[0] ?? "")) || /\/libpython\d[^/]*\.so/u.test(maps);
}

/** The stacks of all threads at this moment, as py-spy prints them. Never rejects. */
export async function dumpStacks(tools: ToolControl, pySpy: PySpy, pid: number, boundMs: number): Promise<PySpyAnswer> {
  const argv = ["py-spy", "dump", "--nonblocking", "--pid", String(pid)];
  const answer = await runQuietly(tools, { workerPid: pid, ...pySpy, argv }, boundMs);
  return answer.kind === "failed" ? answer : { kind: "found", text: answer.text.trim() };
}

/** The main thread's stack of a dump in one line: `wait (queue.py:7) ← main (app.py:3)`; undefined if there is none. */
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

/** Parameters of a recording. */
export interface RecordRequest {
  readonly pid: number;
  /** Whole seconds. */
  readonly seconds: number;
  /** Samples per second. */
  readonly hz: number;
  readonly signal: AbortSignal;
}

/**
 * Records collapsed stacks of code running on a CPU. The recording is shorter if the worker exits, and there is none if
 * `signal` aborts. Never rejects.
 */
export async function recordStacks(tools: ToolControl, pySpy: PySpy, request: RecordRequest): Promise<PySpyAnswer> {
  const { pid, seconds, hz, signal } = request;
  let place: RecordPlace | undefined;
  try {
    place = makePlace(pySpy);
    const argv = `py-spy record --nonblocking --format raw --duration ${seconds} --rate ${hz} --output`.split(" ");
    const tool = { workerPid: pid, ...pySpy, argv: [...argv, place.output, "--pid", String(pid)] };
    const answer = await runQuietly(tools, tool, seconds * 1000 + RECORD_SLACK_MS, signal);
    if (answer.kind === "failed") return answer;
    // The worker's user may have replaced the file.
    const { bytes, stats } = await readWholeFile(place.output, { isDirect: true, maxBytes: MAX_RECORD_BYTES });
    if (stats.uid !== (pySpy.credentials?.uid ?? process.getuid?.()))
      return { kind: "failed", reason: `py-spy's output belongs to user ${stats.uid}` };
    return { kind: "found", text: bytes.toString("utf8") };
  } catch (error) {
    return { kind: "failed", reason: messageOf(error) };
  } finally {
    if (place !== undefined) removePlace(place);
  }
}

/** Where a recording is written: a directory of py-spy's user, inside a directory that this user cannot replace. */
interface RecordPlace {
  readonly outer: string;
  readonly inner: string;
  readonly output: string;
}

function makePlace({ credentials }: PySpy): RecordPlace {
  const outer = mkdtempSync(join(tmpdir(), "monoceros-profile-"));
  const inner = join(outer, "record");
  mkdirSync(inner, { mode: 0o700 });
  if (credentials !== undefined) {
    chownSync(inner, credentials.uid, credentials.gid);
    chmodSync(outer, 0o711);
  }
  return { outer, inner, output: join(inner, "stacks") };
}

/** Does not recurse: the owner of the inner directory could redirect a recursive removal. */
function removePlace({ outer, inner, output }: RecordPlace): void {
  try {
    rmSync(output, { force: true });
    rmdirSync(inner);
    rmdirSync(outer);
  } catch {
    // The directory has unexpected content; keep it.
  }
}

async function runQuietly(...[tools, request, boundMs, signal]: Parameters<typeof runTool>): Promise<PySpyAnswer> {
  try {
    return judge(await runTool(tools, request, boundMs, signal));
  } catch (error) {
    return { kind: "failed", reason: `py-spy cannot be run: ${messageOf(error)}` };
  }
}

function judge({ output, status }: ToolAnswer): PySpyAnswer {
  if (status === undefined) return { kind: "failed", reason: "py-spy took too long" };
  if (status.kind === "code" && status.code === 0) return { kind: "found", text: output };
  if (/permission denied|operation not permitted|EPERM|EACCES/iu.test(output))
    return { kind: "failed", reason: PERMISSION_HINT };
  // Omit py-spy's own backtrace.
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
