import assert from "node:assert/strict";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  eventRecord,
  FakeController,
  operationEvent,
  sendJson,
  statusOf,
  workerStatus,
} from "../../test/support/fakeController.ts";
import { MemoryTerminal } from "../../test/support/memoryTerminal.ts";
import { cli } from "./cli.ts";
import type { Command } from "./command.ts";
import { COMMANDS } from "./commands.ts";

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function runCli(line: string, env: Record<string, string> = {}, commands = COMMANDS): Promise<Outcome> {
  const terminal = new MemoryTerminal();
  const argv = line.split(" ").filter((word) => word !== "");
  const code = await cli(argv, { commands, env: { PATH: "/usr/bin:/bin", ...env }, terminal });
  return { code, stdout: terminal.stdout, stderr: terminal.stderr };
}

const ACCEPTED = { accepted: true };
const DOWN = workerStatus({
  phase: "down",
  pid: null,
  uptime_s: null,
  last_exit: "143",
  reason: "stopped by an operator",
});

test("nothing asked for gives the short usage and exit code 2", async () => {
  const { code, stdout, stderr } = await runCli("");
  assert.equal(code, 2);
  assert.equal(stdout, "");
  assert.match(stderr, /^usage: monoceros -c FILE \[-d\]/u);
});

test("help names every command and every flag", async () => {
  const all = await runCli("--help");
  assert.equal(all.code, 0);
  for (const { name, flags, examples } of COMMANDS) {
    assert.ok(all.stdout.includes(`\n  ${name}`), name);
    const { code, stdout, stderr } = await runCli(`${name} -h`);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.ok(stdout.includes(`\nusage: monoceros ${name}`));
    for (const flag of [...Object.keys(flags), "json", "help"]) assert.ok(stdout.includes(`--${flag}`), flag);
    for (const { command } of examples) assert.ok(stdout.includes(command));
  }
});

test("the help of a command reads like this", async () => {
  assert.equal(
    (await runCli("start --help")).stdout,
    `Start the workers of a pool, or one, that were stopped or given up.

usage: monoceros start POOL|WORKER [FLAG …]

It shows each step and returns when they are ready.

Arguments:
  POOL|WORKER  Name of a pool, or id of a worker such as web-0

Flags:
  --no-wait          Return at once with the id of the operation
  --socket PATH      Control socket of the controller
  -c, --config FILE  Configuration of the controller, for its admin.socket
  --json             Print JSON, errors too
  -h, --help         Print this help

Examples:
  monoceros start web    Start every worker of the pool that is down
  monoceros start web-0  Start one worker
`,
  );
});

test("a command line that is not understood exits with 2, in words or JSON", async () => {
  assert.deepEqual(await runCli("statsu"), {
    code: 2,
    stdout: "",
    stderr: 'monoceros: unknown command "statsu", did you mean "status"?\n  hint: monoceros --help\n',
  });
  const { code, stderr } = await runCli("status --json --x");
  assert.equal(code, 2);
  assert.deepEqual(JSON.parse(stderr), {
    error: { code: "USAGE", message: "unknown flag --x", hint: "monoceros status --help" },
  });
});

test("a bug exits with 70 and shows where it is", async () => {
  const broken: Command = {
    name: "broken",
    summary: "Break",
    flags: {},
    arguments: [],
    examples: [],
    run: async () => assert.fail("on purpose"),
  };
  const { code, stderr } = await runCli("broken", {}, [broken]);
  assert.equal(code, 70);
  assert.match(stderr, /^monoceros: a bug: .*on purpose[\s\S]*cli\.test\.ts/u);
  assert.equal(
    (await runCli("broken --json", {}, [broken])).stderr,
    '{"error":{"code":"BUG","message":"on purpose"}}\n',
  );
});

test("version tells the product's and the runtime's", async () => {
  const { code, stdout } = await runCli("--version");
  assert.equal(code, 0);
  assert.match(stdout, /^monoceros \S+ \(revision \S+, Node\.js \d+\.\d+\.\d+\)\n$/u);
  assert.deepEqual(Object.keys(JSON.parse((await runCli("version --json")).stdout)), ["version", "revision", "node"]);
});

test("no controller: exit code 69 and where it was looked for", async () => {
  await using fake = await FakeController.start();
  const none = join(fake.directory, "none.sock");
  for (const command of [
    "status",
    "events",
    "logs -f",
    "stop web-0",
    "stop --all",
    "start web-0",
    "restart web",
    "scale web 2",
  ]) {
    const { code, stderr } = await runCli(`${command} --socket ${none}`);
    assert.equal(code, 69, command);
    assert.ok(stderr.includes(`at ${none}: does not exist`), stderr);
    assert.match(stderr, /\n {2}hint: Start one with `monoceros run -c FILE`/u);
  }
});

test("the socket is found by flag, then configuration, then environment", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  const named = join(fake.directory, "named.yaml");
  const unnamed = join(fake.directory, "unnamed.yaml");
  const pools = "supervisor: {workers: [{name: web, exec: /no/such/thing}]}\n";
  writeFileSync(named, `admin: {socket: ${fake.socketPath}}\n${pools}`);
  writeFileSync(unnamed, pools);
  const here = { MONOCEROS_SOCKET: fake.socketPath };
  const elsewhere = { MONOCEROS_SOCKET: "/no.sock" };
  assert.equal((await runCli(`status --socket ${fake.socketPath} -c /no.yaml`, elsewhere)).code, 0);
  assert.equal((await runCli(`status -c ${named}`, elsewhere)).code, 0);
  assert.equal((await runCli(`status -c ${unnamed}`, here)).code, 0);
  assert.equal((await runCli("status", here)).code, 0);
  assert.equal((await runCli("status", elsewhere)).code, 69);
  assert.equal((await runCli(`status -c ${unnamed}`, elsewhere)).code, 69);
  assert.equal((await runCli("status -c /no.yaml", here)).code, 78);
});

test("the socket is found in the user's runtime directory", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  mkdirSync(join(fake.directory, "monoceros"));
  symlinkSync(fake.socketPath, join(fake.directory, "monoceros/monoceros.sock"));
  assert.equal((await runCli("status", { XDG_RUNTIME_DIR: fake.directory })).code, 0);
});

test("status shows the table, or the document of the API", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  const { code, stdout, stderr } = await runCli(`status --socket ${fake.socketPath}`);
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^monoceros 0\.1\.0 \(pid 12\) running, healthy, up 3m\n\nweb 1\/1 ready\n/u);
  const json = await runCli(`status --json --socket ${fake.socketPath}`);
  assert.deepEqual(JSON.parse(json.stdout), statusOf(workerStatus()));
});

test("status --watch shows it again until Ctrl-C, in place on a terminal", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()), statusOf(workerStatus({ phase: "unready" })));
  for (const isInteractive of [false, true]) {
    const terminal: MemoryTerminal = new MemoryTerminal(() => {
      if (terminal.stdout.includes("unready")) terminal.interrupt();
    });
    terminal.isInteractive = isInteractive;
    fake.answerStatus(statusOf(workerStatus()), statusOf(workerStatus({ phase: "unready" })));
    const argv = ["status", "-w", "--socket", fake.socketPath];
    assert.equal(await cli(argv, { commands: COMMANDS, env: {}, terminal }), 0);
    assert.equal(terminal.stdout.split("\u001b[H").length, isInteractive ? 3 : 1);
    assert.match(terminal.stdout, / ready [\s\S]* unready /u);
  }
});

test("events prints lines or JSON, and says what was left out", async () => {
  await using fake = await FakeController.start();
  const stream = [eventRecord(8, "one"), eventRecord(9, "two", "warn")].map(
    (each) => `data: ${JSON.stringify(each)}\n\n`,
  );
  fake.answers.set("GET /v1/events", (response) => {
    response.writeHead(200).end(`${stream[0]}event: lost\ndata: {"lost":3}\n\n${stream[1]}`);
  });
  const readable = await runCli(`events --since 7 --socket ${fake.socketPath}`);
  assert.deepEqual(readable, {
    code: 0,
    stdout: "12:34:56.789 INFO  one\n12:34:56.789 WARN  two\n",
    stderr: "monoceros: 3 events were left out, this reader is too slow\n",
  });
  const json = await runCli(`events -f --json --socket ${fake.socketPath}`);
  assert.deepEqual(
    json.stdout.split("\n").map((line) => (line === "" ? undefined : JSON.parse(line).seq)),
    [8, 9, undefined],
  );
  assert.deepEqual(fake.requests, ["GET /v1/events?since=7&follow=0", "GET /v1/events?since=0"]);
  for (const wrong of ["-1", "x", "1.5", "99999999999999999999"]) {
    assert.equal((await runCli(`events --since=${wrong} --socket ${fake.socketPath}`)).code, 2, wrong);
  }
});

test("logs mirrors stdout and stderr, with -f or without", async () => {
  await using fake = await FakeController.start();
  fake.answers.set("GET /v1/logs", (response) => {
    response.write('data: {"stream":"stdout","line":"out"}\n\n');
    response.write('data: {"stream":"stderr","line":"err"}\n\n', () => response.destroy());
  });
  for (const command of ["logs", "logs -f"]) {
    assert.deepEqual(await runCli(`${command} --socket ${fake.socketPath}`), {
      code: 0,
      stdout: "out\n",
      stderr: "err\n",
    });
  }
  const { stdout } = await runCli(`logs --json --socket ${fake.socketPath}`);
  assert.equal(stdout, '{"stream":"stdout","line":"out"}\n{"stream":"stderr","line":"err"}\n');
});

test("restart shows each step of its pool and ends with a summary", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  const worker = { pool: "web", slot: 1, incarnation: 1 };
  fake.operate("POST /v1/pools/web/restart", [
    { kind: "audited", who: "uid 0", what: "restart" },
    operationEvent("started", "restart", 0, 1),
    { kind: "starting", ...worker, delayMs: 0, reason: "successor of web-0" },
    { kind: "spawned", ...worker, pid: 7, revision: 1 },
    { kind: "ready", ...worker, pool: "other", afterMs: 5, evidence: "probe" },
    { kind: "ready", ...worker, afterMs: 5, evidence: "probe" },
    operationEvent("progressed", "restart", 1, 1),
    operationEvent("finished", "restart", 1, 1),
    { kind: "ready", ...worker, afterMs: 6, evidence: "probe" },
  ]);
  assert.deepEqual(await runCli(`restart web --socket ${fake.socketPath}`), {
    code: 0,
    stdout: `12:34:56.789 INFO  restart of pool "web" (op-1) started: asked for
12:34:56.789 INFO  worker "web-1" is ready after 5ms
12:34:56.789 INFO  restart of pool "web" (op-1) is in progress, 1 of 1 done
12:34:56.789 INFO  restart of pool "web" (op-1) finished, 1 of 1 done
restart of pool "web" finished in 0s, 1 of 1 worker
`,
    stderr: "",
  });
  const json = await runCli(`restart web --json --socket ${fake.socketPath}`);
  assert.deepEqual(JSON.parse(json.stdout), {
    id: "op-1",
    pool: "web",
    what: "restart",
    state: "succeeded",
    done: 1,
    total: 1,
    reason: "asked for",
    started_at: "2026-01-02T12:34:56.789Z",
    ended_at: "2026-01-02T12:34:56.789Z",
  });
});

test("an operation that fails exits with 1 and the reason", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  fake.operate("POST /v1/workers/web-0/restart", [
    operationEvent("started", "restart", 0, 2),
    operationEvent("failed", "restart", 1, 2, "successor exited with code 3"),
  ]);
  const { code, stderr } = await runCli(`restart web-0 --socket ${fake.socketPath}`);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^monoceros: Cannot finish restart of worker "web-0" \(op-1, 1 of 2 workers done\): successor exited with code 3\n/u,
  );
  const json = await runCli(`restart web-0 --json --socket ${fake.socketPath}`);
  assert.deepEqual([json.code, JSON.parse(json.stderr).error.code], [1, "OPERATION_FAILED"]);
  assert.deepEqual(
    [JSON.parse(json.stdout).state, JSON.parse(json.stdout).error],
    ["failed", "successor exited with code 3"],
  );
});

test("scale asks for the number and waits until it is there", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  fake.operate("POST /v1/pools/web/scale", [
    operationEvent("queued", "scale"),
    operationEvent("started", "scale"),
    operationEvent("finished", "scale"),
  ]);
  const { code, stdout } = await runCli(`scale web 8 --socket ${fake.socketPath}`);
  assert.equal(code, 0);
  assert.match(stdout, /is queued behind another operation[\s\S]*\nscale of pool "web" to 8 finished in 0s\n$/u);
  assert.ok(fake.bodies.includes('{"replicas":8}'));
  for (const wrong of ["0", "x", "1.5", "10001", "1e3"]) {
    const bad = await runCli(`scale web ${wrong} --socket ${fake.socketPath}`);
    assert.deepEqual([bad.code, bad.stderr.includes(`from 1 to 10000, got "${wrong}"`)], [2, true]);
  }
  const unknown = await runCli(`scale wbe 8 --socket ${fake.socketPath}`);
  assert.deepEqual(
    [unknown.code, unknown.stderr],
    [1, 'monoceros: Cannot scale pool "wbe": there is no such pool, did you mean "web"?\n'],
  );
});

test("--no-wait gives the id at once, with --json the operation as it is", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  fake.operate("POST /v1/pools/web/stop", []);
  const operation = { id: "op-1", state: "running" };
  fake.answer("GET /v1/operations/op-1", 200, operation);
  const plain = await runCli(`stop web --no-wait --socket ${fake.socketPath}`);
  assert.deepEqual(plain, { code: 0, stdout: "op-1\n", stderr: "" });
  const json = await runCli(`stop web --no-wait --json --socket ${fake.socketPath}`);
  assert.deepEqual(JSON.parse(json.stdout), operation);
});

test("events that the controller no longer has do not hide the end of the operation", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  fake.operate("POST /v1/pools/web/restart", []);
  fake.answers.set("GET /v1/events", (response) => {
    response.write(`data: ${JSON.stringify(eventRecord(900, "much later"))}\n\n`);
  });
  fake.answer("GET /v1/operations/op-1", 200, { id: "op-1", what: "restart", state: "failed", error: "it broke" });
  const { code, stderr } = await runCli(`restart web --socket ${fake.socketPath}`);
  assert.equal(code, 1);
  assert.match(stderr, /it broke/u);
});

test("a controller that shuts down, or is gone, while somebody waits is told apart", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  const started = operationEvent("started", "restart", 0, 1);
  fake.operate(
    "POST /v1/pools/web/restart",
    [started, { kind: "controller_stopping", reason: "received SIGTERM" }],
    true,
  );
  const stopped = await runCli(`restart web --socket ${fake.socketPath}`);
  assert.equal(stopped.code, 1);
  assert.match(stopped.stderr, /Cannot finish restart of pool "web": the controller shut down \(received SIGTERM\)/u);
  fake.operate("POST /v1/pools/web/restart", [started], true);
  const gone = await runCli(`restart web --socket ${fake.socketPath}`);
  assert.equal(gone.code, 69);
  assert.match(gone.stderr, /Cannot follow restart of pool "web" \(op-1\) to its end: the controller is gone/u);
});

test("Ctrl-C ends the wait, not the operation, and says so", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  fake.operate("POST /v1/pools/web/restart", [operationEvent("started", "restart", 0, 1)]);
  const terminal: MemoryTerminal = new MemoryTerminal((stream) => {
    if (stream === "stdout") terminal.interrupt();
  });
  const argv = ["restart", "web", "--socket", fake.socketPath];
  assert.equal(await cli(argv, { commands: COMMANDS, env: {}, terminal }), 130);
  assert.equal(
    terminal.stderr,
    'monoceros: stopped waiting; restart of pool "web" (op-1) continues in the controller\n',
  );
  assert.equal(terminal.interrupt(), false, "nobody listens any more");
});

test("what finds nothing to do says so; a worker that cannot be started is an error", async () => {
  await using fake = await FakeController.start();
  const nothing = [operationEvent("started", "start"), operationEvent("finished", "start")];
  fake.answerStatus(statusOf(workerStatus()));
  fake.operate("POST /v1/workers/web-0/start", nothing);
  const runs = await runCli(`start web-0 --socket ${fake.socketPath}`);
  assert.deepEqual(
    [runs.code, runs.stdout.split("\n").at(-2)],
    [0, 'nothing to do: worker "web-0" runs already (ready)'],
  );
  fake.answerStatus(statusOf({ ...DOWN, reason: "not started yet" }));
  const free = await runCli(`start web-0 --socket ${fake.socketPath}`);
  assert.equal(free.code, 1);
  assert.match(free.stderr, /^monoceros: Cannot start worker "web-0": it is down \(not started yet\)\n {2}hint: /u);
  fake.operate("POST /v1/pools/web/start", nothing);
  const pool = await runCli(`start web --socket ${fake.socketPath}`);
  assert.match(pool.stdout, /\nnothing to do: no worker of pool "web" is there to start\n$/u);
});

test("an unknown pool or worker names the nearest one", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  for (const verb of ["restart", "stop", "start"]) {
    const { code, stderr } = await runCli(`${verb} web_0 --socket ${fake.socketPath}`);
    assert.equal(code, 1);
    assert.equal(stderr, `monoceros: Cannot ${verb} "web_0": there is no such pool or worker, did you mean "web-0"?\n`);
  }
});

test("an order that the controller refuses exits with 1 and its words", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  fake.answer("POST /v1/workers/web-0/stop", 409, {
    error: { code: "REQUEST_REFUSED", message: "not while stopping" },
  });
  assert.deepEqual(await runCli(`stop web-0 --socket ${fake.socketPath}`), {
    code: 1,
    stdout: "",
    stderr: "monoceros: not while stopping\n",
  });
});

test("bare stop asks which of both is meant", async () => {
  const expected = "monoceros: stop needs a pool or worker (monoceros stop web-0) or --all (monoceros stop --all)";
  for (const [line, more] of [
    ["stop", ""],
    ["stop --all web-0", ", not both"],
  ]) {
    const { code, stderr } = await runCli(line ?? "");
    assert.equal(code, 2);
    assert.equal(stderr, `${expected}${more}\n  hint: monoceros stop --help\n`);
  }
});

test("stop --all waits until the controller is gone", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  fake.answers.set("POST /v1/shutdown", (response) => {
    sendJson(response, 202, ACCEPTED);
    let left = 2;
    fake.answers.set("GET /v1/status", (status) => {
      if (left-- === 0) fake.close();
      else sendJson(status, 200, statusOf(DOWN));
    });
  });
  const { code, stdout, stderr } = await runCli(`stop --all --socket ${fake.socketPath}`);
  assert.deepEqual([code, stdout, stderr], [0, "the controller (pid 12) is stopped\n", ""]);
});

test("stop --all does not wait for another controller that took the socket", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(), { ...statusOf(), pid: 13 });
  fake.answer("POST /v1/shutdown", 202, ACCEPTED);
  const { code, stdout } = await runCli(`stop --all --json --socket ${fake.socketPath}`);
  assert.deepEqual([code, JSON.parse(stdout)], [0, { pid: 12, stopped: true }]);
});

test("validate says what is there, or every problem, with exit code 78", async () => {
  await using fake = await FakeController.start();
  const file = join(fake.directory, "config.yaml");
  writeFileSync(file, "supervisor: {workers: [{name: a, exec: sleep, replicas: 4}]}\n");
  assert.deepEqual(await runCli(`validate -c ${file}`), {
    code: 0,
    stdout: `${file} is valid: 1 pool, 4 workers\n`,
    stderr: "",
  });
  const json = await runCli(`-k --json -c ${file}`);
  assert.deepEqual(JSON.parse(json.stdout), { file, valid: true, pools: 1, workers: 4, warnings: [], problems: [] });

  writeFileSync(file, "supervisor: {workers: [{name: a, exec: sleep, replicas: -1}, {nam: b}]}\n");
  const bad = await runCli(`validate -c ${file}`);
  assert.equal(bad.code, 78);
  assert.equal(bad.stdout, "");
  assert.ok(bad.stderr.includes(`\n${file}:1:`));
  assert.match(bad.stderr, /supervisor\.workers\[0\]\.replicas: [\s\S]*did you mean "name"\?/u);
  const badJson = await runCli(`validate --json -c ${file}`);
  assert.equal(badJson.code, 78);
  const body = JSON.parse(badJson.stdout);
  assert.equal(body.valid, false);
  assert.equal(body.problems[0].code, "CONFIG_INVALID");
  rmSync(file);
  assert.equal(
    (await runCli(`validate -c ${file}`)).stderr,
    `monoceros: Cannot read configuration "${file}": there is no such file\n`,
  );
});

test("validate warns on stderr of what is doubtful", async () => {
  await using fake = await FakeController.start();
  const file = join(fake.directory, "config.yaml");
  writeFileSync(file, "supervisor: {shutdown_timeout: 5s, workers: [{name: a, exec: sleep, replicas: 1}]}\n");
  const { code, stderr } = await runCli(`validate -c ${file}`);
  assert.equal(code, 0);
  assert.match(stderr, /^warning: .*signal_timeout/u);
});

test("config show and config schema print documents", async () => {
  await using fake = await FakeController.start();
  const file = join(fake.directory, "config.yaml");
  writeFileSync(file, "supervisor: {workers: [{name: a, exec: /no/such, env: {KEY: secret}}]}\n");
  const shown = await runCli(`config show -c ${file}`);
  assert.equal(shown.code, 0);
  assert.match(shown.stdout, /\n {6}exec: \/no\/such\n/u);
  assert.ok(!shown.stdout.includes("secret"));
  assert.equal(JSON.parse((await runCli(`config show --json -c ${file}`)).stdout).admin.port, 9000);
  assert.equal(JSON.parse((await runCli("config schema")).stdout).title, "Monoceros configuration");
});
