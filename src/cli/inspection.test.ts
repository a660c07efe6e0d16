import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FakeController, processDump, sendJson, workerDump } from "../../test/support/fakeController.ts";
import { MemoryTerminal } from "../../test/support/memoryTerminal.ts";
import type { WorkerDump } from "../admin/api.ts";
import { cli } from "./cli.ts";
import { COMMAND_GROUPS } from "./commands.ts";

const BYTES = Buffer.from(Array.from({ length: 256 }, (_, index) => index));

async function run(...argv: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const terminal = new MemoryTerminal();
  const code = await cli([...argv], { groups: COMMAND_GROUPS, env: { PATH: "/usr/bin:/bin" }, terminal });
  return { code, stdout: terminal.stdout, stderr: terminal.stderr };
}

async function withDump(dump: WorkerDump, ...flags: readonly string[]): Promise<string> {
  await using controller = await FakeController.start();
  controller.answers.set("POST /v1/workers/web-0/dump", (response) => sendJson(response, 200, dump));
  const { code, stdout, stderr } = await run("dump", "web-0", "--socket", controller.socketPath, ...flags);
  assert.deepEqual([code, stderr], [0, ""]);
  return stdout;
}

test("dump prints the state, threads and stacks of a worker", async () => {
  assert.equal(
    await withDump(workerDump()),
    `web-0: ready, incarnation 1, pid 4711
sleeping in futex, 0 % of a core during 100ms: python3 app.py

Threads
  4711 S python3: futex, futex_wait

Kernel stack
  futex_wait+0x1/0x2

Stack (py-spy)
Thread 4711 (idle): "MainThread"
    wait (queue.py:7)
`,
  );
});

test("dump reports a missing process and a missing stack", async () => {
  const gone = workerDump({
    phase: "backoff",
    pid: null,
    text: "there is no process",
    process_count: 0,
    processes: [],
  });
  assert.equal(await withDump(gone), "web-0: backoff, incarnation 1\nthere is no process\n");
  const denied = workerDump({ processes: [processDump({ stack: null, hint: "give it CAP_SYS_PTRACE" })] });
  assert.match(await withDump(denied), /\nNo stack: give it CAP_SYS_PTRACE\n$/u);
  assert.deepEqual(JSON.parse(await withDump(denied, "--json")), denied);
});

test("dump prints each process and the number of omitted ones", async () => {
  const bare = { kernel_stack: null, stack: null };
  const text = await withDump(
    workerDump({
      process_count: 20,
      processes: [
        processDump({ ...bare, pid: 12, text: "pid 12 (python app.py), child of the leader: running" }),
        processDump({ ...bare, text: "pid 4711 (sh -c app), the leader: sleeping in wait4" }),
      ],
    }),
  );
  assert.equal(
    text,
    `web-0: ready, incarnation 1, pid 4711
pid 12 (python app.py), child of the leader: running

Threads
  4711 S python3: futex, futex_wait

pid 4711 (sh -c app), the leader: sleeping in wait4

Threads
  4711 S python3: futex, futex_wait

18 more processes not shown
`,
  );
});

test("--pid selects the process of a dump or profile, and rejects other values", async () => {
  await using controller = await FakeController.start();
  controller.answers.set("POST /v1/workers/web-0/dump", (response) => sendJson(response, 200, workerDump()));
  controller.answers.set("POST /v1/workers/web-0/profile", (response) =>
    response.writeHead(200, { "x-monoceros-engine": "proc", "x-monoceros-pid": "12" }).end(BYTES),
  );
  const file = join(controller.directory, "it.pb.gz");
  const rest = ["--pid", "12", "--socket", controller.socketPath];
  assert.equal((await run("dump", "web-0", ...rest)).code, 0);
  const { stdout } = await run("profile", "web-0", "-o", file, ...rest);
  assert.match(stdout, /^wrote .*it\.pb\.gz, profiled with proc from pid 12\n/u);
  assert.deepEqual(controller.bodies, ['{"pid":12}', '{"seconds":10,"hz":50,"pid":12}']);
  for (const argv of [
    ["dump", "web-0", "--pid", "x"],
    ["dump", "web-0", "--pid", "0"],
    ["profile", "web-0", "--pid", "1.5"],
    ["profile", "controller", "--pid", "12"],
  ]) {
    const { code, stderr } = await run(...argv, "--socket", "/nonexistent");
    assert.equal(code, 2, stderr);
  }
});

test("profile writes the received bytes and prints how to read them", async () => {
  await using controller = await FakeController.start();
  controller.answers.set("POST /v1/workers/web-0/profile", (response) =>
    response
      .writeHead(200, { "x-monoceros-engine": "proc", "x-monoceros-note": "the worker exited after 1s" })
      .end(BYTES),
  );
  const file = join(controller.directory, "it.pb.gz");
  const argv = ["profile", "web-0", "--socket", controller.socketPath, "-o", file];
  const { code, stdout, stderr } = await run(...argv, "-s", "3", "--hz", "20");
  assert.deepEqual([code, stderr], [0, ""]);
  assert.equal(
    stdout,
    `wrote ${file}, profiled with proc: the worker exited after 1s\nRead it with: go tool pprof -top ${file}\n`,
  );
  assert.deepEqual(readFileSync(file), BYTES);
  assert.equal(controller.bodies.at(-1), '{"seconds":3,"hz":20}');
  const json = JSON.parse((await run(...argv, "--json")).stdout) as unknown;
  assert.deepEqual(json, { file, engine: "proc", pid: null, note: "the worker exited after 1s", bytes: 256 });
});

test("profile controller records CPU time, or with --heap memory", async () => {
  await using controller = await FakeController.start();
  for (const subject of ["profile", "heap"])
    controller.answers.set(`POST /debug/pprof/${subject}`, (response) =>
      response.writeHead(200, { "x-monoceros-engine": "v8" }).end(BYTES),
    );
  const rest = ["--socket", controller.socketPath, "-o", join(controller.directory, "it.pb.gz")];
  assert.equal((await run("profile", "controller", ...rest)).code, 0);
  assert.equal((await run("profile", "controller", "--heap", "--seconds", "60", ...rest)).code, 0);
  assert.deepEqual(controller.requests, ["POST /debug/pprof/profile?seconds=10", "POST /debug/pprof/heap?seconds=60"]);
});

test("profile rejects invalid flags before it connects, and reports an unwritable file", async () => {
  for (const argv of [
    ["web-0", "--seconds", "61"],
    ["web-0", "--seconds", "ten"],
    ["web-0", "--hz", "0"],
    ["web-0", "--heap"],
  ]) {
    const { code, stderr } = await run("profile", ...argv, "--socket", "/nonexistent");
    assert.equal(code, 2, stderr);
  }
  await using controller = await FakeController.start();
  controller.answers.set("POST /debug/pprof/profile", (response) => response.writeHead(200).end(BYTES));
  const { code, stderr } = await run(
    "profile",
    "controller",
    "--socket",
    controller.socketPath,
    "-o",
    "/nonexistent/x",
  );
  assert.equal(code, 1);
  assert.match(stderr, /Cannot write the profile "\/nonexistent\/x": ENOENT/u);
  const json = await run("profile", "controller", "--socket", controller.socketPath, "-o", "/nonexistent/x", "--json");
  assert.match(json.stderr, /"FILE_UNWRITABLE"/u);
});
