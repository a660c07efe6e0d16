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
import type { Command, CommandGroups } from "./command.ts";
import { COMMAND_GROUPS, COMMANDS } from "./commands.ts";

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function runCli(
  line: string,
  env: Record<string, string> = {},
  groups: CommandGroups = COMMAND_GROUPS,
): Promise<Outcome> {
  const terminal = new MemoryTerminal();
  const argv = line.split(" ").filter((word) => word !== "");
  const code = await cli(argv, { groups, env: { PATH: "/usr/bin:/bin", ...env }, terminal });
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

test("no arguments print the short usage and exit with code 2", async () => {
  const { code, stdout, stderr } = await runCli("");
  assert.equal(code, 2);
  assert.equal(stdout, "");
  assert.match(stderr, /^Usage: monoceros COMMAND \[FLAGS\]\n +monoceros -c FILE \[-d\] /u);
});

test("help lists every command and every flag", async () => {
  const all = await runCli("--help");
  assert.equal(all.code, 0);
  for (const { name, flags, examples } of COMMANDS) {
    assert.ok(all.stdout.includes(`\n  ${name}`), name);
    const { code, stdout, stderr } = await runCli(`${name} -h`);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.ok(stdout.includes(`\nUsage: monoceros ${name}`));
    for (const flag of [...Object.keys(flags), "json", "help"]) assert.ok(stdout.includes(`--${flag}`), flag);
    for (const { command } of examples) assert.ok(stdout.includes(command));
  }
});

test("help of a command shows its usage, arguments, flags and examples", async () => {
  assert.equal(
    (await runCli("start --help")).stdout,
    `Start the stopped or failed workers of a pool, or one such worker.

Usage: monoceros start POOL|WORKER [FLAGS]

Prints each step and returns when the workers are ready.

Arguments:
  POOL|WORKER  Pool name, or worker id such as web-0

Flags:
  --no-wait          Return immediately and print the operation id
  --socket PATH      Control socket of the controller
  -c, --config FILE  Configuration file of the controller, to read admin.socket from
  --json             Print JSON, including errors
  -h, --help         Print this help

Examples:
  monoceros start web    Start all workers of pool web that are down
  monoceros start web-0  Start one worker
`,
  );
});

test("an invalid command line exits with code 2 and prints text or JSON", async () => {
  assert.deepEqual(await runCli("statsu"), {
    code: 2,
    stdout: "",
    stderr: 'monoceros: unknown command "statsu", did you mean "status"?\n  hint: Run `monoceros --help`.\n',
  });
  const { code, stderr } = await runCli("status --json --x");
  assert.equal(code, 2);
  assert.deepEqual(JSON.parse(stderr), {
    error: { code: "USAGE", message: "unknown flag --x", hint: "Run `monoceros status --help`." },
  });
});

test("a bug exits with code 70 and prints its stack", async () => {
  const broken: Command = {
    name: "broken",
    summary: "Break",
    flags: {},
    arguments: [],
    examples: [],
    run: async () => assert.fail("on purpose"),
  };
  const { code, stderr } = await runCli("broken", {}, { Commands: [broken] });
  assert.equal(code, 70);
  assert.match(stderr, /^monoceros: bug: .*on purpose[\s\S]*cli\.test\.ts/u);
  assert.equal(
    (await runCli("broken --json", {}, { Commands: [broken] })).stderr,
    '{"error":{"code":"BUG","message":"on purpose"}}\n',
  );
});

test("version prints the versions of Monoceros and Node.js", async () => {
  const { code, stdout } = await runCli("--version");
  assert.equal(code, 0);
  assert.match(stdout, /^monoceros \S+ \(revision \S+, Node\.js \d+\.\d+\.\d+\)\n$/u);
  assert.deepEqual(Object.keys(JSON.parse((await runCli("version --json")).stdout)), ["version", "revision", "node"]);
});

test("without a controller, commands exit with code 69 and name the path that they tried", async () => {
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
    assert.ok(stderr.includes(`at ${none}: no such file`), stderr);
    assert.match(stderr, /\n {2}hint: Start one with `monoceros run -c FILE`/u);
  }
});

test("the control socket comes from the flag, then the configuration, then the environment", async () => {
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

test("the control socket is found in the user's runtime directory", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  mkdirSync(join(fake.directory, "monoceros"));
  symlinkSync(fake.socketPath, join(fake.directory, "monoceros/monoceros.sock"));
  assert.equal((await runCli("status", { XDG_RUNTIME_DIR: fake.directory })).code, 0);
});

test("status prints a table, or with --json the API document", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  const { code, stdout, stderr } = await runCli(`status --socket ${fake.socketPath}`);
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^monoceros 0\.1\.0 \(pid 12\) running, healthy, up 3m\n\nweb 1\/1 ready\n/u);
  const json = await runCli(`status --json --socket ${fake.socketPath}`);
  assert.deepEqual(JSON.parse(json.stdout), statusOf(workerStatus()));
});

test("status --watch refreshes until Ctrl-C, in place on a terminal", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()), statusOf(workerStatus({ phase: "unready" })));
  for (const isInteractive of [false, true]) {
    const terminal: MemoryTerminal = new MemoryTerminal(() => {
      if (terminal.stdout.includes("unready")) terminal.interrupt();
    });
    terminal.isInteractive = isInteractive;
    fake.answerStatus(statusOf(workerStatus()), statusOf(workerStatus({ phase: "unready" })));
    const argv = ["status", "-w", "--socket", fake.socketPath];
    assert.equal(await cli(argv, { groups: COMMAND_GROUPS, env: {}, terminal }), 0);
    assert.equal(terminal.stdout.split("\u001b[H").length, isInteractive ? 3 : 1);
    assert.match(terminal.stdout, / ready [\s\S]* unready /u);
  }
});

test("events prints lines or JSON, and reports dropped events", async () => {
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
    stderr: "monoceros: 3 events were dropped: this reader is too slow\n",
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

test("logs prints each line to its stream, with or without -f", async () => {
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

test("restart prints each step of its pool and a summary", async () => {
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

test("a failed operation exits with code 1 and prints the reason", async () => {
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

test("scale requests the number of replicas and waits for the operation", async () => {
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
    [1, 'monoceros: Cannot scale pool "wbe": no such pool, did you mean "web"?\n'],
  );
});

test("--no-wait prints the operation id at once, or with --json the operation", async () => {
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

test("an operation that ended in dropped events is still reported", async () => {
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

test("a command that waits distinguishes a shutdown from a killed controller", async () => {
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
  assert.match(gone.stderr, /Cannot determine the result of restart of pool "web" \(op-1\): the controller exited/u);
});

test("Ctrl-C ends the wait but not the operation", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  fake.operate("POST /v1/pools/web/restart", [operationEvent("started", "restart", 0, 1)]);
  const terminal: MemoryTerminal = new MemoryTerminal((stream) => {
    if (stream === "stdout") terminal.interrupt();
  });
  const argv = ["restart", "web", "--socket", fake.socketPath];
  assert.equal(await cli(argv, { groups: COMMAND_GROUPS, env: {}, terminal }), 130);
  assert.equal(
    terminal.stderr,
    'monoceros: stopped waiting; restart of pool "web" (op-1) continues in the controller\n',
  );
  assert.equal(terminal.interrupt(), false, "the command no longer handles Ctrl-C");
});

test("starting a running worker does nothing; starting an unused worker is an error", async () => {
  await using fake = await FakeController.start();
  const nothing = [operationEvent("started", "start"), operationEvent("finished", "start")];
  fake.answerStatus(statusOf(workerStatus()));
  fake.operate("POST /v1/workers/web-0/start", nothing);
  const runs = await runCli(`start web-0 --socket ${fake.socketPath}`);
  assert.deepEqual(
    [runs.code, runs.stdout.split("\n").at(-2)],
    [0, 'nothing to do: worker "web-0" is already running (ready)'],
  );
  fake.answerStatus(statusOf({ ...DOWN, reason: "not started yet" }));
  const free = await runCli(`start web-0 --socket ${fake.socketPath}`);
  assert.equal(free.code, 1);
  assert.match(free.stderr, /^monoceros: Cannot start worker "web-0": it is down \(not started yet\)\n {2}hint: /u);
  fake.operate("POST /v1/pools/web/start", nothing);
  const pool = await runCli(`start web --socket ${fake.socketPath}`);
  assert.match(pool.stdout, /\nnothing to do: pool "web" has no worker to start\n$/u);
});

test("an unknown pool or worker suggests the nearest name", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  for (const verb of ["restart", "stop", "start"]) {
    const { code, stderr } = await runCli(`${verb} web_0 --socket ${fake.socketPath}`);
    assert.equal(code, 1);
    assert.equal(stderr, `monoceros: Cannot ${verb} "web_0": no such pool or worker, did you mean "web-0"?\n`);
  }
});

test("a refused operation exits with code 1 and the message of the controller", async () => {
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

test("stop requires either a name or --all", async () => {
  const expected = "monoceros: expected the name of a pool or worker, or --all";
  for (const [line, more] of [
    ["stop", ""],
    ["stop --all web-0", ", not both"],
  ]) {
    const { code, stderr } = await runCli(line ?? "");
    assert.equal(code, 2);
    assert.equal(stderr, `${expected}${more}\n  hint: Run \`monoceros stop --help\`.\n`);
  }
});

test("stop --all waits until the controller has exited", async () => {
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
  assert.deepEqual([code, stdout, stderr], [0, "the controller (pid 12) stopped\n", ""]);
});

test("stop --all does not wait for another controller on the same socket", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(), { ...statusOf(), pid: 13 });
  fake.answer("POST /v1/shutdown", 202, ACCEPTED);
  const { code, stdout } = await runCli(`stop --all --json --socket ${fake.socketPath}`);
  assert.deepEqual([code, JSON.parse(stdout)], [0, { pid: 12, stopped: true }]);
});

test("validate prints a summary, or all problems with exit code 78", async () => {
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

test("validate prints warnings to stderr", async () => {
  await using fake = await FakeController.start();
  const file = join(fake.directory, "config.yaml");
  writeFileSync(file, "supervisor: {shutdown_timeout: 5s, workers: [{name: a, exec: sleep, replicas: 1}]}\n");
  const { code, stderr } = await runCli(`validate -c ${file}`);
  assert.equal(code, 0);
  assert.match(stderr, /^warning: .*signal_timeout/u);
});

test("config show masks secrets and config schema prints the schema", async () => {
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

test("run --print-config prints what a command line stands for, and starts nothing", async () => {
  const { code, stdout, stderr } = await runCli("run -n 2 -e KEY=secret --print-config -- gunicorn --bind :81 a:a");
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^# gunicorn: 2 workers in .* mode, .*\nsupervisor:\n {2}workers:\n/u);
  // The file is complete, so it has the values of -e; the explanation, which is logged, has none.
  assert.match(stdout, /^ {6}env:\n {8}KEY: secret$/mu);
  assert.doesNotMatch(stdout.split("\n")[0] ?? "", /secret/u);
  const json = await runCli("run -n 2 --print-config --json -- gunicorn --bind :81 a:a");
  assert.equal(JSON.parse(json.stdout).supervisor.workers[0].replicas, 2);
});

test("run without a file reports wrong flags, without values that may be secret", async () => {
  const refused = async (line: string) => {
    const { code, stdout, stderr } = await runCli(line, { PATH: "/nowhere" });
    assert.equal(stdout, "");
    return `${code} ${stderr.split("\n")[0]}`;
  };
  assert.match(await refused("run -n 0 -- x"), /^2 .*-n: expected a number from 1 to 10000, or auto, got "0"$/u);
  assert.match(await refused("run --port x -- x"), /^2 .*--port: expected a port from 1 to 65535, got "x"$/u);
  assert.match(
    await refused("run --mode tcp -- x"),
    /^2 .*--mode: expected one of proxy, socket, reuseport, got "tcp"$/u,
  );
  assert.match(await refused("run --health x -- x"), /^2 .*--health: expected a path that begins with "\/", got "x"$/u);
  assert.match(
    await refused("run --max-requests 0 -- x"),
    /^2 .*--max-requests: expected a number of at least 1, got "0"$/u,
  );
  assert.match(await refused("run --max-memory 5M -- x"), /^2 .*--max-memory: expected a size .*, got "5M"$/u);
  assert.match(await refused("run --max-age 0s -- x"), /^2 .*--max-age: expected a duration .*, got "0s"$/u);
  assert.match(await refused("run --admin-port -- x"), /^2 .*--admin-port requires a value: PORT$/u);
  assert.match(await refused("run -e secret -- x"), /^2 .*-e: expected NAME=VALUE$/u);
  assert.match(await refused("run -e =secret -- x"), /^2 .*-e: expected NAME=VALUE$/u);
  assert.match(await refused("run -n 2 -c c.yaml"), /^2 .*-n needs a command after --; with -c, the file decides$/u);
  assert.match(await refused("run --print-config -c c.yaml"), /^2 .*--print-config needs a command after --/u);
  assert.match(await refused("run -- granian a:a"), /^78 .*there is no Envoy, and it takes no shared socket$/u);
  assert.match(await refused("run --mode reuseport --name a/b -- ./x"), /^78 .*command line has 1 problem:$/u);
  assert.match(await refused("run -k -- uvicorn a:a"), /^78 .*command line has 1 problem:$/u);
});

test("run -k checks what a command line stands for", async () => {
  const { code, stdout, stderr } = await runCli("run -k -n 2 --mode reuseport -- sh -c exit");
  assert.deepEqual([code, stdout], [0, "command line is valid: 1 pool, 2 workers\n"], stderr);
});
