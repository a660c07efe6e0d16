/** Dumps and profiles of real workers and of the controller while they run, hang, are suspended or exit. */
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

/** A PATH without py-spy. */
const PLAIN_PATH = "/usr/bin:/bin";

const BUSY = poolOf({ name: "busy", exec: "sh", args: ["-c", "while :; do :; done"], startup_wait_time: "0s" });
const ASLEEP = poolOf({ name: "asleep", exec: "sleep", args: ["1000"], startup_wait_time: "0s" });

interface Profiled {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly bytes: Buffer;
}

async function take(controller: ControllerUnderTest, method: string, path: string, body?: object): Promise<Profiled> {
  const message = request({ socketPath: controller.socket, method, path, agent: false });
  message.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = (await once(message, "response")) as [IncomingMessage];
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

/** The uncompressed profile as text, which contains names and comments. */
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

/** A PATH with a fake py-spy, and a program named python3. */
function fakePySpy(context: TestContext, script: string): { readonly path: string; readonly python: string } {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-pyspy-"));
  context.after(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, "py-spy"), `#!/bin/sh\n${script}\n`);
  chmodSync(join(directory, "py-spy"), 0o755);
  symlinkSync("/bin/sleep", join(directory, "python3"));
  return { path: `${directory}:${PLAIN_PATH}`, python: join(directory, "python3") };
}

test("a dump without ptrace and py-spy shows whether a worker runs, sleeps or is suspended [D1]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: `${BUSY}\n${ASLEEP}`,
    env: { PATH: PLAIN_PATH, SECRET: "hunter2" },
  });
  await controller.ready();
  const busy = await eventually(async () => {
    const dumped = await dump(controller, "busy-0");
    return dumped.processes[0]?.diagnosis.threads[0]?.state === "R" ? dumped : undefined;
  }, "the busy worker is shown as running");
  assert.match(busy.text, /^running.*while/u);
  const pid = await controller.pidOf("asleep-0");
  const asleep = await eventually(async () => {
    const dumped = await dump(controller, "asleep-0");
    return /^sleeping.*sleep 1000$/u.test(dumped.text) ? dumped : undefined;
  }, "the other worker is shown as sleeping");
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

test("a dump of a worker without a process, or of one that exits meanwhile, says so", async () => {
  await using controller = await ControllerUnderTest.start({ workers: ASLEEP, env: { PATH: PLAIN_PATH } });
  await controller.ready();
  // Repeat if the process was killed too early or too late for the dump.
  await eventually(async () => {
    const { pid } = await controller.worker("asleep-0");
    const seq = controller.events.at(-1)?.seq ?? 0;
    const dumped = dump(controller, "asleep-0");
    await controller.event(({ kind }) => kind === "audited", seq);
    if (pid !== null && isAlive(pid)) process.kill(pid, "SIGKILL");
    const { id, text } = await dumped;
    assert.equal(id, "asleep-0");
    return /(?:ended|exited) meanwhile/u.test(text) ? text : undefined;
  }, "the worker exits during the dump");
  await controller.call("POST", "/v1/workers/asleep-0/stop");
  const down = await eventually(async () => {
    const dumped = await dump(controller, "asleep-0");
    return dumped.phase === "down" ? dumped : undefined;
  }, "the worker is down");
  assert.deepEqual([down.pid, down.process_count, down.processes], [null, 0, []]);
  assert.match(down.text, /^there is no process: stopped by an operator/u);
  const rejected = await take(controller, "POST", "/v1/workers/asleep-0/profile", { seconds: 1 });
  assert.equal(rejected.status, 409);
});

test("if py-spy lacks permission the dump says what to change, and the profile uses /proc instead [D2]", async (context) => {
  const { path, python } = fakePySpy(context, 'echo "Permission Denied: try sudo" >&2; exit 1');
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

test("the profile of a worker shows a busy loop", { skip: !HAS_GO }, async () => {
  await using controller = await ControllerUnderTest.start({ workers: BUSY, env: { PATH: PLAIN_PATH } });
  await controller.ready();
  const profiled = await take(controller, "POST", "/v1/workers/busy-0/profile", { seconds: 1, hz: 100 });
  assert.equal(profiled.headers["x-monoceros-engine"], "proc");
  assert.equal(profiled.headers["x-monoceros-note"], undefined);
  assert.match(top(profiled), /File: busy-0\n(?:.*\n)*Type: wall\n(?:.*\n)*.*cum%\n.*% {2}running\n/u);
});

test("the profile of a worker that exits meanwhile contains the samples until then, with a note [D3]", async () => {
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

test("a second profile of the same target is rejected with 409 until the first one's client disconnects", async () => {
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
      const message = request({ socketPath: controller.socket, method, path, agent: false });
      message.on("error", () => {});
      message.end('{"seconds":60}');
      const answered = once(message, "response").then(([response]) => (response as IncomingMessage).statusCode);
      const status = await Promise.race([
        answered,
        new Promise<undefined>((wake) => setTimeout(() => wake(undefined), 300)),
      ]);
      message.destroy();
      answered.catch(() => {});
      return status;
    };
    await eventually(async () => ((await other()) === 409 ? true : undefined), "a second profile is rejected");
    first.destroy();
    const next = path.replace("60", "1");
    await eventually(async () => {
      const { status } = await take(controller, method, next, { seconds: 1 });
      return status === 200 ? true : undefined;
    }, "the next profile starts");
  }
});

test("go tool pprof reads profiles of the controller, which open no port and release their memory", {
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
    "the memory is released",
    60_000,
  );
  context.diagnostic(`private dirty memory: ${before} KiB before, ${grownKiB} KiB more after two profiles`);
});

test("the event of a Python worker that fails its liveness probe contains its Python stack", async (context) => {
  const stack = 'Thread 1 (idle): "MainThread"\\n    acquire (lock.py:7)\\n    main (app.py:3)';
  const { path, python } = fakePySpy(context, `printf '${stack}\\n'`);
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

test("py-spy shows the functions of a Python worker in dump and profile", {
  skip: PY_SPY === undefined || !HAS_GO,
}, async () => {
  const script = "def inner():\n  while True: sum(range(1000))\ndef outer(): inner()\nouter()";
  const pool = poolOf({ name: "py", exec: "python3", args: ["-c", script], startup_wait_time: "0s" });
  await using controller = await ControllerUnderTest.start({ workers: pool });
  await controller.ready();
  const dumped = await eventually(
    async () => (await dump(controller, "py-0")).processes[0]?.stack ?? undefined,
    "the dump contains a stack",
  );
  assert.match(dumped.text, /inner .*\n.*outer /u);
  const profiled = await take(controller, "POST", "/v1/workers/py-0/profile", { seconds: 1, hz: 100 });
  assert.equal(profiled.headers["x-monoceros-engine"], "py-spy");
  assert.match(top(profiled), /Type: cpu\n(?:.*\n)*.*cum%\n.*% {2}inner\n/u);
});
