import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { countOpenFds, readStat } from "../os/procfs.ts";
import { ProcessReadings } from "./readings.ts";

const UNITS = { ticksPerSecond: 100, pageBytes: 4096 };

/** Above the largest pid_max of Linux, so nobody ever has it. */
const NOBODY = 2 ** 22 + 1;

interface Shell {
  readonly pid: number;
  readonly child: ChildProcessWithoutNullStreams;
  /** The next line that it wrote. */
  readonly line: () => Promise<string>;
}

function shell(context: TestContext, script: string): Shell {
  const child = spawn("/bin/sh", ["-c", script]);
  context.after(() => child.kill("SIGKILL"));
  assert.ok(child.pid !== undefined);
  return { pid: child.pid, child, line: async () => String((await once(child.stdout, "data"))[0]).trim() };
}

test("a live process has all readings", () => {
  const readings = new ProcessReadings(UNITS).read([process.pid]);
  const own = readings.get(process.pid);
  assert.ok(own !== undefined);
  const { user, system } = process.cpuUsage();
  assert.ok(own.cpuSeconds > 0 && own.cpuSeconds <= (user + system) / 1e6 + 0.1);
  assert.ok(own.residentBytes > 1e6 && own.residentBytes < own.virtualBytes);
  assert.ok(Math.abs(own.startTimeSeconds - performance.timeOrigin / 1000) < 10);
  // One more is open while the directory is being listed.
  assert.equal(own.openFds, readdirSync("/proc/self/fd").length - 1);
});

test("a process that does not exist is absent, and the others are read", () => {
  const pids = [...Array.from({ length: 100 }, (_, index) => NOBODY + index), process.pid];
  assert.deepEqual([...new ProcessReadings(UNITS).read(pids).keys()], [process.pid]);
});

test("a zombie is absent", async (context) => {
  // It ends after the exec: the shell itself might still reap it, sleep does not.
  const parent = shell(context, "sleep 0.05 & echo $!; exec sleep 1000");
  const zombie = Number(await parent.line());
  while (readStat(zombie)?.state !== "Z" && !context.signal.aborted) await turn();
  assert.equal(new ProcessReadings(UNITS).read([zombie]).size, 0);
});

test("open descriptors are counted as their directory lists them, also when hardly any is left", async (context) => {
  const { pid } = shell(context, "exec 0<&- 1>&- 2>&-; kill -STOP $$");
  const readings = new ProcessReadings(UNITS);
  while (readStat(pid)?.state !== "T" && !context.signal.aborted) await turn();
  assert.equal(readings.read([pid]).get(pid)?.openFds, countOpenFds(pid));
});

test("limits are soft limits, and a changed limit is read within a minute", async (context) => {
  const script = "ulimit -v 4000000; ulimit -S -n 100; echo; read x; ulimit -S -n 50; echo; read x";
  const { pid, child, line } = shell(context, script);
  let nowMs = 0;
  const readings = new ProcessReadings({ ...UNITS, nowMs: () => nowMs });
  const limits = () => readings.read([pid]).get(pid);
  await line();
  assert.equal(limits()?.maxFds, 100);
  assert.equal(limits()?.virtualMaxBytes, 4_000_000 * 1024);
  child.stdin.write("\n");
  await line();
  nowMs = 59_999;
  assert.equal(limits()?.maxFds, 100);
  nowMs = 60_000;
  assert.equal(limits()?.maxFds, 50);
});

test("an unlimited resource is Infinity", (context) => {
  const { pid } = shell(context, "ulimit -v unlimited; read x");
  assert.equal(new ProcessReadings(UNITS).read([pid]).get(pid)?.virtualMaxBytes, Number.POSITIVE_INFINITY);
});

test("the start time of a process never changes", () => {
  const readings = new ProcessReadings(UNITS);
  const start = () => readings.read([process.pid]).get(process.pid)?.startTimeSeconds;
  assert.equal(start(), start());
});
