import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { readStat } from "../os/procfs.ts";
import { CommandLines, readCommand } from "./commandLines.ts";

/** Above the largest pid_max of Linux, so no process ever has it. */
const NO_PID = 2 ** 22 + 1;

test("a command line is printable and limited in length; without one the name replaces it", async (context) => {
  const child = spawn("/bin/sh", ["-c", "echo; read -r line", "\u001b[31m\n", "x".repeat(500)]);
  context.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  const { pid = 0 } = child;
  const line = await readCommand({ pid, state: "S", name: "sh" }, 5000);
  assert.match(line, /^\/bin\/sh -c echo; read -r line \\u001b\[31m x+$/u);
  assert.ok(Buffer.byteLength(line) <= 200);
  // A process in uninterruptible sleep may hold the lock of its memory.
  assert.equal(await readCommand({ pid, state: "D", name: "s\nh" }, 5000), "[s h]");
  assert.equal(await readCommand({ pid: NO_PID, state: "S", name: "gone" }, 5000), "[gone]");
});

test("command lines are read again after an exec or after a while", async (context) => {
  const child = spawn("/bin/sh", ["-c", "echo; read -r line; exec sleep 1000"]);
  context.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  const { pid = 0 } = child;
  let nowMs = 0;
  const lines = new CommandLines(5000, () => nowMs);
  const named = (name: string, startTicks = 7) => ({ pid, startTicks, name, state: "S" });
  assert.match((await lines.read([named("sh")])).get(pid) ?? "", /^\/bin\/sh -c/u);
  child.stdin.write("\n");
  while (readStat(pid)?.command !== "sleep") await new Promise(setImmediate);
  assert.match((await lines.read([named("sh")])).get(pid) ?? "", /^\/bin\/sh -c/u, "still known");
  assert.equal((await lines.read([named("sleep")])).get(pid), "sleep 1000");
  assert.equal((await lines.read([{ ...named("sleep", 8), state: "D" }])).get(pid), "[sleep]", "another process");
  nowMs = 10_000;
  assert.equal((await lines.read([named("sleep", 8)])).get(pid), "sleep 1000");
});
