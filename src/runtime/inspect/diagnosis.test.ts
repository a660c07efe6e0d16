import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { readStat } from "../os/procfs.ts";
import { syscallName } from "../os/syscallNames.ts";
import { type Diagnosis, diagnose, formatDiagnosis } from "./diagnosis.ts";

/** Above the largest pid_max of Linux, so nobody ever has it. */
const NOBODY = 2 ** 22 + 1;

function start(context: TestContext, file: string, args: readonly string[]): ChildProcess & { readonly pid: number } {
  const child = spawn(file, args, {
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, PASSWORD: "hunter2" },
  });
  context.after(() => child.kill("SIGKILL"));
  const { pid } = child;
  assert.ok(pid !== undefined);
  return Object.assign(child, { pid });
}

async function inState(context: TestContext, pid: number, ...states: readonly string[]): Promise<void> {
  while (!states.includes(readStat(pid)?.state ?? "") && !context.signal.aborted) await turn();
}

async function diagnosed(pid: number, sampleMs?: number): Promise<Diagnosis> {
  const diagnosis = await diagnose(pid, sampleMs);
  assert.ok(diagnosis !== undefined);
  return diagnosis;
}

test("a waiting process is reported as sleeping, with its system call and no CPU usage", async (context) => {
  const child = start(context, "/bin/sh", ["-c", "echo; exec sleep 1000"]);
  await once(child.stdout ?? child, "data");
  while (!/sleep/u.test(readStat(child.pid)?.command ?? "") && !context.signal.aborted) await turn();
  await inState(context, child.pid, "S");
  const diagnosis = await diagnosed(child.pid);
  assert.equal(diagnosis.threadCount, 1);
  assert.equal(diagnosis.threads[0]?.state, "S");
  assert.match(diagnosis.threads[0]?.syscall ?? "nanosleep", /nanosleep/u);
  assert.equal(diagnosis.cpuShare, 0);
  assert.equal(diagnosis.command, "sleep 1000");
  assert.ok(diagnosis.residentBytes > 0);
  assert.ok((diagnosis.openFds ?? 3) >= 3);
  assert.match(formatDiagnosis(diagnosis), /^sleeping.*, 0 % of a core during \d+ms,.*: sleep 1000$/u);
  assert.doesNotMatch(JSON.stringify(diagnosis), /hunter2/u);
});

test("a busy process is reported as running, with its CPU usage", async (context) => {
  const child = start(context, "/bin/sh", ["-c", "while :; do :; done"]);
  await inState(context, child.pid, "R");
  const diagnosis = await diagnosed(child.pid, 500);
  assert.ok((diagnosis.cpuShare ?? 0) > 0.1, `${diagnosis.cpuShare}`);
  assert.match(formatDiagnosis(diagnosis), /^running.* [1-9]\d* % of a core during/u);
});

test("a stopped process is reported as stopped", async (context) => {
  const child = start(context, "/bin/sleep", ["1000"]);
  child.kill("SIGSTOP");
  await inState(context, child.pid, "T");
  assert.match(formatDiagnosis(await diagnosed(child.pid)), /^stopped by a signal/u);
});

test("threads are counted, and busy threads are named", async (context) => {
  const script = `
    const { Worker } = require("node:worker_threads");
    for (let n = 0; n < 20; n++) new Worker("setInterval(() => {}, 1e6)", { eval: true });
    const spin = new Worker("require('node:worker_threads').parentPort.postMessage(0); for (;;);", { eval: true });
    spin.on("message", () => console.log("spins"));
  `;
  const child = start(context, process.execPath, ["-e", script]);
  await once(child.stdout ?? child, "data");
  const diagnosis = await diagnosed(child.pid);
  assert.ok(diagnosis.threadCount > 20);
  assert.equal(diagnosis.threads.length, 16);
  assert.equal(diagnosis.threads[0]?.tid, child.pid);
  assert.equal(new Set(diagnosis.threads.map(({ tid }) => tid)).size, 16);
  assert.ok(formatDiagnosis(diagnosis).length < 1000);
});

test("a missing process has no diagnosis, and one that exits meanwhile keeps its first readings", async (context) => {
  assert.equal(await diagnose(NOBODY), undefined);
  const child = start(context, "/bin/sleep", ["1000"]);
  await inState(context, child.pid, "S");
  const ended = once(child, "exit");
  const pending = diagnosed(child.pid, 300);
  child.kill("SIGKILL");
  await ended;
  const diagnosis = await pending;
  assert.equal(diagnosis.cpuShare, undefined);
  assert.match(formatDiagnosis(diagnosis), /exited meanwhile/u);
});

test("a zombie is reported as dead", async (context) => {
  const parent = start(context, "/bin/sh", ["-c", "sleep 0.05 & echo $!; exec sleep 1000"]);
  const zombie = Number(String((await once(parent.stdout ?? parent, "data"))[0]));
  await inState(context, zombie, "Z");
  const diagnosis = await diagnosed(zombie);
  assert.match(formatDiagnosis(diagnosis), /^dead.*: \[sleep\]$/u);
});

test("a long command line is truncated, and control characters are removed", async (context) => {
  const child = start(context, "/bin/sh", ["-c", "kill -STOP $$; :", "\u001b[31m\n", "x".repeat(10_000)]);
  await inState(context, child.pid, "T");
  const { command } = await diagnosed(child.pid);
  assert.ok(command.length <= 200);
  assert.ok(command.startsWith("/bin/sh -c kill -STOP $$; : \\u001b[31m xxx"), command);
});

test("the text names busy threads and the kernel functions they wait in", () => {
  const thread = { tid: 1, name: "main", waitsIn: undefined, syscall: undefined };
  const text = formatDiagnosis({
    pid: 1,
    command: "python3 server.py",
    threadCount: 3,
    threads: [
      { ...thread, state: "S", waitsIn: "futex_wait_queue", syscall: "futex" },
      { ...thread, name: "idle", state: "S" },
      { ...thread, name: "disk", state: "D", syscall: "fsync" },
    ],
    openFds: 12,
    residentBytes: 45.4 * 2 ** 20,
    cpuSeconds: 3.21,
    cpuShare: 0.997,
    sampleMs: 100.4,
  });
  assert.equal(
    text,
    'sleeping in futex (futex_wait_queue), 100 % of a core during 100ms, 3.21s CPU time in all, 3 threads, thread "disk" in uninterruptible sleep in fsync, 12 open descriptors, 45MiB resident: python3 server.py',
  );
  const bare = { threads: [], openFds: undefined, residentBytes: 5000, cpuSeconds: 0, cpuShare: 0, sampleMs: 1 };
  assert.equal(
    formatDiagnosis({ pid: 1, command: "[x]", threadCount: 1, ...bare }),
    "state unknown, 0 % of a core during 1ms, 0s CPU time in all, 1 thread, 5KiB resident: [x]",
  );
});

test("known system calls have names, others have numbers", () => {
  assert.equal(syscallName(process.arch === "arm64" ? 98 : 202), "futex");
  assert.equal(syscallName(426), "io_uring_enter");
  assert.equal(syscallName(9999), "system call 9999");
});
