/** Looking into real workers, and into the controller itself, while they run, hang, are stopped or end. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { gunzipSync } from "node:zlib";
import type { ProcessDump, WorkerDump } from "../../src/admin/api.ts";
import { ControllerUnderTest, eventually, isAlive, poolOf } from "../support/controller.ts";

const HAS_GO = spawnSync("go", ["version"]).status === 0;
const PY_SPY = (process.env["PATH"] ?? "")
  .split(":")
  .map((directory) => join(directory, "py-spy"))
  .find((file) => spawnSync(file, ["--version"]).status === 0);

/** A path on which there is no py-spy. */
const PLAIN_PATH = "/usr/bin:/bin";

const BUSY = poolOf({ name: "busy", exec: "sh", args: ["-c", "while :; do :; done"], startup_wait_time: "0s" });
const ASLEEP = poolOf({ name: "asleep", exec: "sleep", args: ["1000"], startup_wait_time: "0s" });

interface Profiled {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly bytes: Buffer;
}

async function take(controller: ControllerUnderTest, method: string, path: string, body?: object): Promise<Profiled> {
  const asked = request({ socketPath: controller.socket, method, path, agent: false });
  asked.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode ?? 0, headers: response.headers, bytes: Buffer.concat(chunks) };
}

async function dump(controller: ControllerUnderTest, id: string): Promise<WorkerDump> {
  const { status, body } = await controller.call("POST", `/v1/workers/${id}/dump`);
  assert.equal(status, 200, body);
  return JSON.parse(body) as WorkerDump;
}

/** The first process of a dump. */
function first({ processes }: WorkerDump): ProcessDump {
  const [process] = processes;
  assert.ok(process !== undefined);
  return process;
}

/** The names and comments in a profile. */
function textOf({ status, bytes }: Profiled): string {
  assert.equal(status, 200, bytes.toString());
  return gunzipSync(bytes).toString("utf8");
}

function top({ bytes }: Profiled): string {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-pprof-"));
  try {
    writeFileSync(join(directory, "it.pb.gz"), bytes);
    const env = { ...process.env, PPROF_TMPDIR: directory };
    const { stdout, stderr, status } = spawnSync("go", ["tool", "pprof", "-top", join(directory, "it.pb.gz")], {
      encoding: "utf8",
      env,
    });
    assert.equal(status, 0, stderr);
    return stdout;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A directory with a stand-in for py-spy, and a worker that is called like Python. */
function standIn(context: TestContext, script: string): { readonly path: string; readonly python: string } {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-pyspy-"));
  context.after(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, "py-spy"), `#!/bin/sh\n${script}\n`);
  chmodSync(join(directory, "py-spy"), 0o755);
  symlinkSync("/bin/sleep", join(directory, "python3"));
  return { path: `${directory}:${PLAIN_PATH}`, python: join(directory, "python3") };
}

test("a dump of a worker without ptrace or a tool tells what it does; of one that is stopped, that it is [D1]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: `${BUSY}\n${ASLEEP}`,
    env: { PATH: PLAIN_PATH, SECRET: "hunter2" },
  });
  await controller.ready();
  const busy = await eventually(async () => {
    const it = await dump(controller, "busy-0");
    return it.processes[0]?.diagnosis.threads[0]?.state === "R" ? it : undefined;
  }, "it is seen running");
  assert.match(busy.text, /^running.*while/u);
  const pid = await controller.pidOf("asleep-0");
  const asleep = await eventually(async () => {
    const it = await dump(controller, "asleep-0");
    return /^sleeping.*sleep 1000$/u.test(it.text) ? it : undefined;
  }, "it sleeps");
  const { diagnosis, stack, hint, relation } = first(asleep);
  assert.deepEqual(
    [asleep.pid, asleep.process_count, relation, diagnosis.thread_count, stack, hint],
    [pid, 1, "the leader", 1, null, null],
  );
  process.kill(pid, "SIGSTOP");
  await eventually(
    async () => (await dump(controller, "asleep-0")).text.match(/^stopped by a signal/u) ?? undefined,
    "T",
  );
  process.kill(pid, "SIGCONT");
  assert.doesNotMatch(JSON.stringify([busy, asleep]), /hunter2/u);
  assert.ok(controller.events.some((event) => event.message.includes('requested: dump worker "busy-0"')));
});

test("a dump of a worker that has no process is an answer, and so is one of a worker that ends meanwhile", async () => {
  await using controller = await ControllerUnderTest.start({ workers: ASLEEP, env: { PATH: PLAIN_PATH } });
  await controller.ready();
  // Once more where the next process was there before the dump began, or the news of it came late.
  await eventually(async () => {
    const { pid } = await controller.worker("asleep-0");
    const seq = controller.events.at(-1)?.seq ?? 0;
    const dumped = dump(controller, "asleep-0");
    await controller.event(({ kind }) => kind === "audited", seq);
    if (pid !== null && isAlive(pid)) process.kill(pid, "SIGKILL");
    const { id, text } = await dumped;
    assert.equal(id, "asleep-0");
    return /ended meanwhile/u.test(text) ? text : undefined;
  }, "it ends while it is dumped");
  await controller.call("POST", "/v1/workers/asleep-0/stop");
  const down = await eventually(async () => {
    const it = await dump(controller, "asleep-0");
    return it.phase === "down" ? it : undefined;
  }, "it is down");
  assert.deepEqual([down.pid, down.process_count, down.processes], [null, 0, []]);
  assert.match(down.text, /^there is no process: stopped by an operator/u);
  const refused = await take(controller, "POST", "/v1/workers/asleep-0/profile", { seconds: 1 });
  assert.equal(refused.status, 409);
});

test("a py-spy that may not look is told with what has to be changed, and the profile is taken another way [D2]", async (context) => {
  const { path, python } = standIn(context, 'echo "Permission Denied: try sudo" >&2; exit 1');
  const pool = poolOf({ name: "py", exec: python, args: ["1000"], startup_wait_time: "0s" });
  await using controller = await ControllerUnderTest.start({ workers: pool, env: { PATH: path } });
  await controller.ready();
  const { stack, hint } = first(await dump(controller, "py-0"));
  assert.equal(stack, null);
  assert.match(hint ?? "", /ptrace_scope.*CAP_SYS_PTRACE/u);
  const profiled = await take(controller, "POST", "/v1/workers/py-0/profile", { seconds: 1 });
  assert.equal(profiled.headers["x-monoceros-engine"], "proc");
  assert.match(textOf(profiled), /CAP_SYS_PTRACE/u);
});

test("a busy loop shows up in the profile of its worker", { skip: !HAS_GO }, async () => {
  await using controller = await ControllerUnderTest.start({ workers: BUSY, env: { PATH: PLAIN_PATH } });
  await controller.ready();
  const profiled = await take(controller, "POST", "/v1/workers/busy-0/profile", { seconds: 1, hz: 100 });
  assert.equal(profiled.headers["x-monoceros-engine"], "proc");
  assert.equal(profiled.headers["x-monoceros-note"], undefined);
  assert.match(top(profiled), /File: busy-0\n(?:.*\n)*Type: wall\n(?:.*\n)*.*cum%\n.*% {2}running\n/u);
});

test("a worker that ends while it is profiled leaves what was seen until then, and the answer says so [D3]", async () => {
  const short = poolOf({
    name: "short",
    exec: "sh",
    args: ["-c", "end=$(($(date +%s) + 2)); while [ $(date +%s) -lt $end ]; do :; done"],
    startup_wait_time: "0s",
  });
  await using controller = await ControllerUnderTest.start({ workers: short, env: { PATH: PLAIN_PATH } });
  await controller.event((event) => event.kind === "spawned");
  const profiled = await take(controller, "POST", "/v1/workers/short-0/profile", { seconds: 60 });
  assert.match(String(profiled.headers["x-monoceros-note"]), /^the worker exited after [\d.]+m?s$/u);
  assert.match(textOf(profiled), /thread sh/u);
});

test("one profile of a worker at a time; when its client leaves, the next one can begin", async () => {
  await using controller = await ControllerUnderTest.start({ workers: BUSY, env: { PATH: PLAIN_PATH } });
  await controller.ready();
  const method = "POST";
  for (const path of [
    "/v1/workers/busy-0/profile",
    "/debug/pprof/profile?seconds=60",
    "/debug/pprof/heap?seconds=60",
  ]) {
    const first = request({ socketPath: controller.socket, method, path, agent: false });
    first.on("error", () => {});
    first.end('{"seconds":60}');
    const other = async () => {
      const asked = request({ socketPath: controller.socket, method, path, agent: false });
      asked.on("error", () => {});
      asked.end('{"seconds":60}');
      const answered = once(asked, "response").then(([response]) => (response as IncomingMessage).statusCode);
      const status = await Promise.race([
        answered,
        new Promise<undefined>((wake) => setTimeout(() => wake(undefined), 300)),
      ]);
      asked.destroy();
      answered.catch(() => {});
      return status;
    };
    await eventually(async () => ((await other()) === 409 ? true : undefined), "a second one is refused");
    first.destroy();
    const next = path.replace("60", "1");
    await eventually(async () => {
      const { status } = await take(controller, method, next, { seconds: 1 });
      return status === 200 ? true : undefined;
    }, "the next one begins");
  }
});

test("profiles of the controller are read by go tool pprof, open no port, and give their memory back", {
  skip: !HAS_GO,
}, async (context) => {
  await using controller = await ControllerUnderTest.start({ workers: ASLEEP, env: { PATH: PLAIN_PATH } });
  await controller.ready();
  const sockets = () => spawnSync("sh", ["-c", `ls -l /proc/${controller.pid}/fd | grep -c socket:`]).stdout.toString();
  const privateKiB = () =>
    Number(/^Private_Dirty:\s+(\d+)/mu.exec(readFileSync(`/proc/${controller.pid}/smaps_rollup`, "utf8"))?.[1]);
  const [before, socketsBefore] = [privateKiB(), sockets()];
  const cpu = take(controller, "POST", "/debug/pprof/profile?seconds=1");
  for (let count = 0; count < 200; count++) await controller.status();
  assert.match(top(await cpu), /File: monoceros\n(?:.*\n)*Type: cpu\n(?:.*\n)*.*serve|.*handle|.*statusOf/u);
  const heap = take(controller, "POST", "/debug/pprof/heap?seconds=1");
  for (let count = 0; count < 200; count++) await controller.status();
  assert.match(top(await heap), /Type: inuse_space/u);
  assert.equal(sockets(), socketsBefore);
  const grownKiB = await eventually(
    () => {
      const grown = privateKiB() - before;
      return grown < 16_384 ? grown : undefined;
    },
    "memory comes back",
    60_000,
  );
  context.diagnostic(`private dirty memory: ${before} KiB before, ${grownKiB} KiB more after two profiles`);
});

test("a Python worker that fails its liveness is told with the place where it hangs", async (context) => {
  const stack = 'Thread 1 (idle): "MainThread"\\n    acquire (lock.py:7)\\n    main (app.py:3)';
  const { path, python } = standIn(context, `printf '${stack}\\n'`);
  const pool = poolOf({
    name: "py",
    exec: python,
    args: ["1000"],
    startup_wait_time: "0s",
    probes: { liveness: { exec: ["false"], period: "200ms", failure_threshold: 1 } },
  });
  await using controller = await ControllerUnderTest.start({ workers: pool, env: { PATH: path } });
  const event = await controller.event(({ message }) => message.includes("acquire"));
  assert.match(event.message, /Python is at acquire \(lock\.py:7\) ← main \(app\.py:3\)/u);
});

test("a real py-spy finds the functions of a real Python worker", {
  skip: PY_SPY === undefined || !HAS_GO,
}, async () => {
  const script = "def inner():\n  while True: sum(range(1000))\ndef outer(): inner()\nouter()";
  const pool = poolOf({ name: "py", exec: "python3", args: ["-c", script], startup_wait_time: "0s" });
  await using controller = await ControllerUnderTest.start({ workers: pool });
  await controller.ready();
  const dumped = await eventually(
    async () => (await dump(controller, "py-0")).processes[0]?.stack ?? undefined,
    "there is a stack",
  );
  assert.match(dumped.text, /inner .*\n.*outer /u);
  const profiled = await take(controller, "POST", "/v1/workers/py-0/profile", { seconds: 1, hz: 100 });
  assert.equal(profiled.headers["x-monoceros-engine"], "py-spy");
  assert.match(top(profiled), /Type: cpu\n(?:.*\n)*.*cum%\n.*% {2}inner\n/u);
});
