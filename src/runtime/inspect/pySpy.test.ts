import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { type TestContext, test } from "node:test";
import { lives, ProcessScene, until } from "../../../test/support/processScene.ts";
import { readStat } from "../os/procfs.ts";
import type { Credentials } from "../process/spawnShim.ts";
import { dumpStacks, findPySpy, formatStack, isPython, type PySpy, recordStacks } from "./pySpy.ts";

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
function sceneWith(
  context: TestContext,
  script: string,
  credentials?: Credentials,
): { scene: ProcessScene; worker: number; file: string; pySpy: PySpy } {
  const scene = new ProcessScene(context, "exec sleep 1000", credentials === undefined ? {} : { credentials });
  const worker = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  const file = scene.path("py-spy");
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return { scene, worker, file, pySpy: { file, credentials: undefined } };
}

test("the first executable py-spy on the search path is found", (context) => {
  const { scene, file } = sceneWith(context, "");
  mkdirSync(scene.path("other"));
  writeFileSync(scene.path("other/py-spy"), "");
  assert.deepEqual(findPySpy(`relative::${scene.path("other")}:${scene.directory}:/usr/bin`, process.pid), {
    file,
    credentials: undefined,
  });
  assert.equal(findPySpy(scene.path("other"), process.pid), undefined);
  assert.equal(findPySpy(undefined, process.pid), undefined);
});

test("a process runs Python if its executable or its name says so", async (context) => {
  const scene = new ProcessScene(
    context,
    "if [ -e python3.11 ]; then exec ./python3.11 1000; else exec sleep 1000; fi",
  );
  const other = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  await until(() => readStat(other)?.command === "sleep", "the other worker runs");
  symlinkSync("/bin/sleep", scene.path("python3.11"));
  const python = scene.processes.begin({ pool: 0, slot: 1, incarnation: 1 }, 1)();
  await until(() => readStat(python)?.command === "python3.11", "the worker runs");
  assert.deepEqual([await isPython(python), await isPython(other), await isPython(2 ** 22 + 1)], [true, false, false]);
});

test("the stacks are py-spy's output, and py-spy runs with --nonblocking", async (context) => {
  const { scene, worker, pySpy } = sceneWith(context, 'echo "$@"; echo "$MONOCEROS_WORKER_PID"; echo more >&2');
  const answer = await dumpStacks(scene.processes.helpers, pySpy, worker, LONG_MS);
  assert.deepEqual(answer, { kind: "found", text: `dump --nonblocking --pid ${worker}\n${worker}\nmore` });
});

test("a py-spy without permission is reported with a hint and without its own backtrace [D2]", async (context) => {
  const denied = `echo "Error: Failed
Caused by: 0: Permission denied (os error 13)
Stack backtrace: 0: anyhow" >&2; exit 1`;
  const { scene, worker, pySpy } = sceneWith(context, denied);
  const answer = await dumpStacks(scene.processes.helpers, pySpy, worker, LONG_MS);
  assert.equal(answer.kind, "failed");
  assert.match(answer.kind === "failed" ? answer.reason : "", /kernel\.yama\.ptrace_scope=0.*CAP_SYS_PTRACE/u);
  assert.doesNotMatch(JSON.stringify(answer), /backtrace/u);
});

test("any other failure of py-spy is reported with its own message in one line", async (context) => {
  const { scene, worker, pySpy } = sceneWith(context, 'echo "Error: no\n  Python here\nStack backtrace: x"; exit 1');
  assert.deepEqual(await dumpStacks(scene.processes.helpers, pySpy, worker, LONG_MS), {
    kind: "failed",
    reason: "py-spy failed: Error: no Python here",
  });
  const missing = await dumpStacks(scene.processes.helpers, { ...pySpy, file: scene.path("nothing") }, worker, LONG_MS);
  assert.match(missing.kind === "failed" ? missing.reason : "", /^py-spy cannot be run: .*ENOENT/u);
});

test("a py-spy that hangs is killed at its time limit", async (context) => {
  const { scene, worker, pySpy } = sceneWith(context, RECORDED_SLEEP);
  const answer = await dumpStacks(scene.processes.helpers, pySpy, worker, 500);
  assert.deepEqual(answer, { kind: "failed", reason: "py-spy took too long" });
  await until(() => !lives(Number(read(scene.path("leader")))), "py-spy is gone");
  assert.ok(lives(worker), "the worker is none of it");
});

test("a flood of output is read to its end and limited in size", async (context) => {
  const { scene, worker, pySpy } = sceneWith(context, "head -c 3000000 /dev/zero | tr '\\0' x");
  const answer = await dumpStacks(scene.processes.helpers, pySpy, worker, LONG_MS);
  assert.equal(answer.kind === "found" ? answer.text.length : 0, 1 << 20);
});

test("a recording is py-spy's output file, and its directory is removed", async (context) => {
  const script = `while [ "$1" != --output ]; do shift; done; echo "main (a.py:1) 7" > "$2"; ls -ld "$(dirname "$2")"`;
  const { scene, worker, pySpy } = sceneWith(context, script);
  const before = profileDirectories();
  const request = { pid: worker, seconds: 1, hz: 50, signal: new AbortController().signal };
  const answer = await recordStacks(scene.processes.helpers, pySpy, request);
  assert.deepEqual(answer, { kind: "found", text: "main (a.py:1) 7\n" });
  assert.deepEqual(profileDirectories(), before);
});

/** A user that owns nothing but what a test gives it. */
const USER = { uid: 10_001, gid: 10_001, groups: [10_001] };

test("py-spy runs as the user of the process, and must belong to that user, to root or to the controller's user", {
  skip: process.getuid?.() !== 0,
}, (context) => {
  const { scene, worker, file } = sceneWith(context, "", USER);
  assert.deepEqual(findPySpy(scene.directory, worker), { file, credentials: USER });
  chownSync(file, USER.uid, USER.gid);
  assert.deepEqual(
    findPySpy(scene.directory, worker),
    { file, credentials: USER },
    "in a virtual environment of the user",
  );
  chownSync(file, 10_002, 10_002);
  const found = findPySpy(scene.directory, worker);
  assert.match(
    found !== undefined && "reason" in found ? found.reason : "",
    /py-spy" is not run, because user 10002 owns the file/u,
  );
  chownSync(file, 0, 0);
  chmodSync(scene.directory, 0o777);
  assert.match(JSON.stringify(findPySpy(scene.directory, worker)), /every user may write to the directory/u);
});

test("a recording by another user is read only if that user owns the file", {
  skip: process.getuid?.() !== 0,
}, async (context) => {
  const write = 'while [ "$1" != --output ]; do shift; done; id -u > "$2"; exit 0';
  const { scene, worker, file } = sceneWith(context, write, USER);
  const pySpy = { file, credentials: USER };
  const request = { pid: worker, seconds: 1, hz: 50, signal: new AbortController().signal };
  assert.deepEqual(await recordStacks(scene.processes.helpers, pySpy, request), { kind: "found", text: "10001\n" });
  for (const [trick, reason] of [
    ["ln -s /etc/shadow", /it is a symlink/u],
    ["mkfifo", /it is a FIFO/u],
  ] as const) {
    writeFileSync(file, `#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done; ${trick} "$2"\n`);
    const answer = await recordStacks(scene.processes.helpers, pySpy, request);
    assert.match(answer.kind === "failed" ? answer.reason : "found", reason);
  }
});

test("an aborted recording ends at once", async (context) => {
  const { scene, worker, pySpy } = sceneWith(context, RECORDED_SLEEP);
  const left = new AbortController();
  const recorded = recordStacks(scene.processes.helpers, pySpy, {
    pid: worker,
    seconds: 60,
    hz: 50,
    signal: left.signal,
  });
  await until(() => /^\d+\n$/u.test(read(scene.path("leader"))), "py-spy runs");
  left.abort();
  assert.equal((await recorded).kind, "failed");
  const tool = Number(read(scene.path("leader")));
  await until(() => !lives(tool), "py-spy is gone");
});

test("a one-line stack has the innermost functions of the main thread", () => {
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
