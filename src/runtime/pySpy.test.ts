import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { type TestContext, test } from "node:test";
import { lives, ProcessScene, until } from "../../test/support/processScene.ts";
import { readStat } from "./procfs.ts";
import { dumpStacks, findPySpy, formatStack, isPython, recordStacks } from "./pySpy.ts";

const LONG_MS = 20_000;

const DUMP = `Process 17: python3 app.py
Python v3.11.7 (/usr/bin/python3.11)

Thread 17 (idle): "MainThread"
    wait (queue.py:7)
    main (app.py:3)
Thread 18 (active): "other"
    spin (app.py:9)
`;

/** Leaves its pid beside itself. */
const RECORDED_SLEEP = 'echo $$ > "$(dirname "$0")/leader"; exec sleep 1000';

/** A scene with a worker, and a stand-in for py-spy that runs `script`. */
function sceneWith(context: TestContext, script: string): { scene: ProcessScene; worker: number; file: string } {
  const scene = new ProcessScene(context, "exec sleep 1000");
  const worker = scene.processes.spawn(0, 0, 1, 1);
  const file = scene.path("py-spy");
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return { scene, worker, file };
}

test("the first py-spy of the path is found; what may not be executed is not one", (context) => {
  const { scene, file } = sceneWith(context, "");
  mkdirSync(scene.path("other"));
  writeFileSync(scene.path("other/py-spy"), "");
  assert.equal(findPySpy(`relative::${scene.path("other")}:${scene.directory}:/usr/bin`), file);
  assert.equal(findPySpy(scene.path("other")), undefined);
  assert.equal(findPySpy(undefined), undefined);
});

test("a process runs Python when its executable or its name says so", async (context) => {
  const scene = new ProcessScene(
    context,
    "if [ -e python3.11 ]; then exec ./python3.11 1000; else exec sleep 1000; fi",
  );
  const other = scene.processes.spawn(0, 0, 1, 1);
  await until(() => readStat(other)?.command === "sleep", "the other worker runs");
  symlinkSync("/bin/sleep", scene.path("python3.11"));
  const python = scene.processes.spawn(0, 1, 1, 1);
  await until(() => readStat(python)?.command === "python3.11", "the worker runs");
  assert.deepEqual([await isPython(python), await isPython(other), await isPython(2 ** 22 + 1)], [true, false, false]);
});

test("the stacks are what py-spy says about the worker, which it is told not to stop", async (context) => {
  const { scene, worker, file } = sceneWith(context, 'echo "$@"; echo "$MONOCEROS_WORKER_PID"; echo more >&2');
  const answer = await dumpStacks(scene.processes, file, worker, LONG_MS);
  assert.deepEqual(answer, { kind: "found", text: `dump --nonblocking --pid ${worker}\n${worker}\nmore` });
});

test("a py-spy that may not look gives the way to let it, and no backtrace of its own [D2]", async (context) => {
  const denied = `echo "Error: Failed
Caused by: 0: Permission denied (os error 13)
Stack backtrace: 0: anyhow" >&2; exit 1`;
  const { scene, worker, file } = sceneWith(context, denied);
  const answer = await dumpStacks(scene.processes, file, worker, LONG_MS);
  assert.equal(answer.kind, "failed");
  assert.match(answer.kind === "failed" ? answer.reason : "", /CAP_SYS_PTRACE.*kernel\.yama\.ptrace_scope=0/u);
  assert.doesNotMatch(JSON.stringify(answer), /backtrace/u);
});

test("any other failure of py-spy is told in its words, in one line", async (context) => {
  const { scene, worker, file } = sceneWith(context, 'echo "Error: no\n  Python here\nStack backtrace: x"; exit 1');
  assert.deepEqual(await dumpStacks(scene.processes, file, worker, LONG_MS), {
    kind: "failed",
    reason: "py-spy failed: Error: no Python here",
  });
  const missing = await dumpStacks(scene.processes, scene.path("nothing"), worker, LONG_MS);
  assert.match(missing.kind === "failed" ? missing.reason : "", /^py-spy cannot be run: .*ENOENT/u);
});

test("a py-spy that hangs is killed at its bound and holds nobody up", async (context) => {
  const { scene, worker, file } = sceneWith(context, RECORDED_SLEEP);
  const answer = await dumpStacks(scene.processes, file, worker, 500);
  assert.deepEqual(answer, { kind: "failed", reason: "py-spy took too long" });
  await until(() => !lives(Number(read(scene.path("leader")))), "py-spy is gone");
  assert.ok(lives(worker), "the worker is none of it");
});

test("a flood of output is read to its end and kept within a bound", async (context) => {
  const { scene, worker, file } = sceneWith(context, "head -c 3000000 /dev/zero | tr '\\0' x");
  const answer = await dumpStacks(scene.processes, file, worker, LONG_MS);
  assert.equal(answer.kind === "found" ? answer.text.length : 0, 1 << 20);
});

test("a record is what py-spy has written, and its directory does not stay", async (context) => {
  const script = `while [ "$1" != --output ]; do shift; done; echo "main (a.py:1) 7" > "$2"; ls -ld "$(dirname "$2")"`;
  const { scene, worker, file } = sceneWith(context, script);
  const before = profileDirectories();
  const request = { pid: worker, seconds: 1, hz: 50, signal: new AbortController().signal };
  const answer = await recordStacks(scene.processes, file, request);
  assert.deepEqual(answer, { kind: "found", text: "main (a.py:1) 7\n" });
  assert.deepEqual(profileDirectories(), before);
});

test("a record that nobody waits for any more ends at once", async (context) => {
  const { scene, worker, file } = sceneWith(context, RECORDED_SLEEP);
  const left = new AbortController();
  const recorded = recordStacks(scene.processes, file, { pid: worker, seconds: 60, hz: 50, signal: left.signal });
  await until(() => /^\d+\n$/u.test(read(scene.path("leader"))), "py-spy runs");
  left.abort();
  assert.equal((await recorded).kind, "failed");
  const tool = Number(read(scene.path("leader")));
  await until(() => !lives(tool), "py-spy is gone");
});

test("a stack in one line has the innermost functions of the main thread", () => {
  assert.equal(formatStack(DUMP), "wait (queue.py:7) ← main (app.py:3)");
  const deep = Array.from({ length: 8 }, (_, index) => `    f${index} (a.py:1)`).join("\n");
  assert.equal(
    formatStack(`Thread 1 (idle): "MainThread"\n${deep}`),
    "f0 (a.py:1) ← f1 (a.py:1) ← f2 (a.py:1) ← f3 (a.py:1) ← f4 (a.py:1) ← 3 more",
  );
  assert.equal(formatStack("nothing"), undefined);
});

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function profileDirectories(): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith("monoceros-profile-"));
}
