import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { lives, ProcessScene, until } from "../../../test/support/processScene.ts";
import type { AttemptOutcome } from "../../core/policy/probe.ts";
import type { HelperRequest } from "../process/helpers.ts";
import { attemptExec } from "./execProbe.ts";

const LONG_MS = 20_000;

interface Ended {
  readonly outcome: AttemptOutcome;
  readonly elapsedMs: number;
}

function request(workerPid: number, script: string): HelperRequest {
  return { pool: 0, slot: 3, incarnation: 7, revision: 1, workerPid, file: "/bin/sh", argv: ["sh", "-c", script] };
}

/** A scene with the worker that is probed. */
interface Probed {
  readonly scene: ProcessScene;
  readonly worker: number;
}

/** Runs a script as a probe, until it is reaped. */
async function run({ scene, worker }: Probed, script: string, timeoutMs = LONG_MS): Promise<Ended> {
  const startedAt = performance.now();
  const { promise: reaped, resolve: release } = Promise.withResolvers<void>();
  const outcome = await new Promise<AttemptOutcome>((settle) => {
    attemptExec(scene.processes.helpers, request(worker, script), timeoutMs, settle, release);
  });
  const elapsedMs = performance.now() - startedAt;
  await reaped;
  return { outcome, elapsedMs };
}

function probed(context: TestContext): Probed {
  const scene = new ProcessScene(context, "exec sleep 1000");
  return { scene, worker: scene.processes.begin({ pool: 0, slot: 3, incarnation: 7 }, 1)() };
}

/** The process id that a script wrote to a file. */
async function pidIn(path: string): Promise<number> {
  await until(() => existsSync(path) && readFileSync(path, "utf8").endsWith("\n"), `${path} is written`);
  return Number(readFileSync(path, "utf8"));
}

test("exit code 0 is success, and any other ending is a failure with a reason", async (context) => {
  const it = probed(context);
  assert.deepEqual((await run(it, "exit 0")).outcome, { kind: "success" });
  assert.deepEqual((await run(it, "exit 3")).outcome, { kind: "failure", reason: "command exited with code 3" });
  assert.deepEqual((await run(it, "kill -SEGV $$")).outcome, {
    kind: "failure",
    reason: "command killed by SIGSEGV",
  });
});

test("a command has the directory and environment of the worker, its process id, and no output", async (context) => {
  const it = probed(context);
  await run(
    it,
    'echo out; echo err >&2; env > env.txt; pwd > pwd.txt; fds=$(readlink /proc/$$/fd/1 /proc/$$/fd/2); echo "$fds" > fds.txt',
  );
  const env = readFileSync(it.scene.path("env.txt"), "utf8");
  for (const line of ["SHARED=by all", "OWN=of 3", `MONOCEROS_WORKER_PID=${it.worker}`, "MONOCEROS_SLOT=3"])
    assert.ok(env.split("\n").includes(line), line);
  assert.doesNotMatch(env, /LISTEN_FDS|NOTIFY_FD/u);
  assert.equal(readFileSync(it.scene.path("pwd.txt"), "utf8").trim(), it.scene.directory);
  assert.equal(readFileSync(it.scene.path("fds.txt"), "utf8"), "/dev/null\n/dev/null\n");
});

test("a command that hangs fails at its timeout, and its whole group is killed", async (context) => {
  const it = probed(context);
  const ended = run(it, "trap '' TERM; sleep 1000 & echo $! > child; echo $$ > leader; wait", 300);
  const [child, leader] = [await pidIn(it.scene.path("child")), await pidIn(it.scene.path("leader"))];
  const { outcome, elapsedMs } = await ended;
  assert.deepEqual(outcome, { kind: "failure", reason: "no answer within 300ms", how: "timeout" });
  assert.ok(elapsedMs >= 299);
  await until(() => !lives(child) && !lives(leader), "the group is gone");
});

test("processes that a command leaves in its group are killed when it exits", async (context) => {
  const it = probed(context);
  const { outcome } = await run(it, "sleep 1000 & echo $! > child");
  assert.deepEqual(outcome, { kind: "success" });
  const child = await pidIn(it.scene.path("child"));
  await until(() => !lives(child), "the child is gone");
});

test("a command that cannot start does not count as a failure of the worker", (context) => {
  const it = probed(context);
  const outcomes: AttemptOutcome[] = [];
  let released = 0;
  const missing: HelperRequest = { ...request(it.worker, ""), file: "/nonexistent/check" };
  attemptExec(
    it.scene.processes.helpers,
    missing,
    LONG_MS,
    (outcome) => outcomes.push(outcome),
    () => released++,
  );
  assert.equal(outcomes[0]?.kind, "error");
  assert.equal(outcomes.length, 1);
  assert.equal(released, 1);
});

test("the command of an exited worker is killed, and its exit changes nothing", async (context) => {
  const it = probed(context);
  const { promise: reaped, resolve: release } = Promise.withResolvers<void>();
  let settled = 0;
  const attempt = attemptExec(
    it.scene.processes.helpers,
    request(it.worker, "echo $$ > leader; sleep 1000"),
    LONG_MS,
    () => settled++,
    release,
  );
  const leader = await pidIn(it.scene.path("leader"));
  attempt[Symbol.dispose]();
  await reaped;
  assert.equal(lives(leader), false);
  assert.equal(settled, 0);
});
