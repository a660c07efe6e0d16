/**
 * Runs a program to its end and keeps what it said, within a bounded time. It waits on this thread and reaps by pid: only
 * for what is asked before the daemon runs, which reaps every child and must never wait.
 */
import { closeSync, readSync } from "node:fs";
import { openPipe, PreparedStrings, type Reaped, reapPid, sendSignal, setNonBlocking } from "./linux.ts";
import { startProcess } from "./spawn.ts";

/** Time between looks whether the program has ended or said something. */
const LOOK_MS = 2;

/** More than this is read but not kept. */
const MAX_OUTPUT_BYTES = 1024 * 1024;

export interface CommandRequest {
  /** Absolute path. */
  readonly file: string;
  /** Without the name of the program. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly timeoutMs: number;
}

/** How a program ended. */
export interface CommandResult {
  /** timeout: it was killed. */
  readonly status: Reaped["status"] | { readonly kind: "timeout" };
  /** What it wrote to stdout and stderr, in that order in which it came. */
  readonly output: string;
}

/** Runs a program with nothing to read. @throws SystemCallError where it cannot be started */
export function runCommand({ file, args, env, timeoutMs }: CommandRequest): CommandResult {
  const { readFd, writeFd } = openPipe();
  const said = new Output(readFd);
  try {
    setNonBlocking(readFd);
    const pid = start(file, args, env, writeFd);
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      said.read();
      const status = reapPid(pid);
      if (status !== undefined) {
        said.read();
        return { status, output: said.text };
      }
      if (performance.now() > deadline) return { status: end(pid), output: said.text };
      sleep(LOOK_MS);
    }
  } finally {
    closeSync(readFd);
  }
}

function start(file: string, args: readonly string[], env: CommandRequest["env"], writeFd: number): number {
  try {
    return startProcess({
      file,
      argv: [file, ...args],
      sharedEnv: new PreparedStrings([]),
      env: Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`])),
      cwd: undefined,
      stdinFd: undefined,
      stdoutFd: writeFd,
      stderrFd: writeFd,
      settings: { diesWithController: true },
    });
  } finally {
    closeSync(writeFd);
  }
}

/** Kills the program and what it started, which is in its group. */
function end(pid: number): { readonly kind: "timeout" } {
  sendSignal(-pid, "SIGKILL");
  while (reapPid(pid) === undefined) sleep(LOOK_MS);
  return { kind: "timeout" };
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

function sleep(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms);
}

/** What comes out of a pipe that is never waited for. */
class Output {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(65_536);
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }

  read(): void {
    for (let count = this.#readOnce(); count > 0; count = this.#readOnce()) {
      if (this.#bytes < MAX_OUTPUT_BYTES) this.#chunks.push(Buffer.from(this.#buffer.subarray(0, count)));
      this.#bytes += count;
    }
  }

  #readOnce(): number {
    try {
      return readSync(this.#fd, this.#buffer);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "EAGAIN") return 0;
      throw error;
    }
  }
}
