/** The command line of the real executable, against a controller that really runs. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import type { EventRecord, Operation, Status } from "../../src/admin/api.ts";
import { ControllerUnderTest, isAlive, MONOCEROS, poolOf } from "../support/controller.ts";

const SLEEPERS = poolOf({ name: "web", replicas: 2, exec: "sleep", args: ["100000"], startup_wait_time: "0s" });

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The environment without variables that select a controller. */
function bareEnv(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const { MONOCEROS_SOCKET: _, XDG_RUNTIME_DIR: __, ...env } = process.env;
  return { ...env, ...more };
}

function begin(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(MONOCEROS, args, { stdio: ["ignore", "pipe", "pipe"], env: bareEnv(env) });
}

/** Runs the command line to its end. */
async function monoceros(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const child = begin(args, env);
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (chunk: string) => {
      text[name] += chunk;
    });
  }
  const [code] = await once(child, "close");
  return { code, ...text };
}

/** Runs a shell line in which $M is the executable. */
async function shellLine(line: string, env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const child = spawn("/bin/sh", ["-c", line], {
    stdio: ["ignore", "pipe", "pipe"],
    env: bareEnv({ ...env, M: MONOCEROS }),
  });
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (chunk: string) => {
      text[name] += chunk;
    });
  }
  const [code] = await once(child, "close");
  return { code, ...text };
}

/** A command that runs until it is killed; its lines are awaited one by one. */
class Following implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly closed: Promise<unknown>;
  readonly child: ChildProcess;
  #wake: () => void = () => {};

  constructor(args: readonly string[]) {
    this.child = begin(args);
    this.closed = once(this.child, "close");
    assert.ok(this.child.stdout !== null);
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      this.lines.push(line);
      this.#wake();
    });
  }

  async until(matches: (line: string) => boolean): Promise<void> {
    while (!this.lines.some(matches)) {
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.closed;
  }
}

/** Process ids of all running workers. */
async function pidsOf(controller: ControllerUnderTest): Promise<number[]> {
  const { pools } = await controller.status();
  return pools.flatMap(({ workers }) => workers.flatMap(({ pid }) => (pid === null ? [] : [pid])));
}

describe("command line without a controller", () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "monoceros-cli-"));
  });
  after(() => rmSync(directory, { recursive: true }));

  function file(name: string, text: string): string {
    const path = join(directory, name);
    writeFileSync(path, text);
    return path;
  }

  const good = () => file("good.yaml", `admin: {port: 0, address: 127.0.0.1}\nsupervisor:\n  workers:\n${SLEEPERS}\n`);

  test("version and --version print the same line", async () => {
    const [command, flag] = await Promise.all([monoceros(["version"]), monoceros(["--version"])]);
    assert.deepEqual(command, flag);
    assert.equal(command.code, 0);
    assert.match(command.stdout, /^monoceros \d+\.\d+\.\d+ .*\n$/u);
    const json = JSON.parse((await monoceros(["version", "--json"])).stdout);
    assert.match(json.version, /^\d+\.\d+\.\d+/u);
  });

  test("validate and -k accept a valid configuration and start nothing", async () => {
    const marker = join(directory, "started");
    const config = file(
      "marker.yaml",
      `supervisor:\n  workers:\n${poolOf({ name: "web", replicas: 3, exec: "touch", args: [marker] })}\n`,
    );
    for (const args of [
      ["validate", "-c", config],
      ["-c", config, "-k"],
      ["run", "-k", "-c", config],
    ]) {
      const { code, stdout, stderr } = await monoceros(args);
      assert.deepEqual([code, stdout, stderr], [0, `${config} is valid: 1 pool, 3 workers\n`, ""]);
    }
    const json = JSON.parse((await monoceros(["validate", "-c", config, "--json"])).stdout);
    assert.deepEqual([json.valid, json.pools, json.workers, json.problems], [true, 1, 3, []]);
    assert.ok(!existsSync(marker));
  });

  test("an invalid configuration exits with code 78 and lists all problems with line and column", async () => {
    const config = file(
      "bad.yaml",
      `admin:
  port: 99999
supervisor:
  workers:
    - name: web
      replicas: -1
      exec: no-such-program-anywhere
      replicaz: 3
    - name: web
      exec: sleep
      signal_timeout: soon
`,
    );
    const { code, stdout, stderr } = await monoceros(["validate", "-c", config]);
    assert.deepEqual([code, stdout], [78, ""]);
    for (const place of ["2:", "6:", "8:", "9:", "11:"])
      assert.ok(stderr.includes(`${config}:${place}`), `${place}\n${stderr}`);
    assert.match(stderr, /replicas.*got -1/u);
    assert.match(stderr, /replicaz.*replicas/u);
    const json = await monoceros(["validate", "-c", config, "--json"]);
    assert.equal(json.code, 78);
    const body = JSON.parse(json.stdout);
    assert.equal(body.valid, false);
    assert.ok(body.problems.length >= 5);
    for (const problem of body.problems) assert.ok(problem.line > 0 && problem.column > 0 && problem.path !== "");
    // The same file is not run either.
    assert.equal((await monoceros(["-c", config])).code, 78);
  });

  test("a missing file, a directory and an unreadable file have distinct errors with exit code 78", async () => {
    const none = await monoceros(["-c", join(directory, "none.yaml")]);
    assert.deepEqual([none.code, none.stdout], [78, ""]);
    assert.match(none.stderr, /there is no such file/u);
    const dir = await monoceros(["validate", "-c", directory]);
    assert.equal(dir.code, 78);
    assert.match(dir.stderr, /is a directory/u);
    if (process.getuid?.() !== 0) {
      const secret = file("secret.yaml", "a: 1");
      chmodSync(secret, 0);
      assert.match((await monoceros(["validate", "-c", secret])).stderr, /may not read it/u);
    }
  });

  test("an inaccessible directory in PATH is skipped", async () => {
    const config = good();
    const hidden = join(directory, "hidden");
    mkdirSync(hidden);
    chmodSync(hidden, 0);
    chmodSync(directory, 0o755);
    const asNobody = process.getuid?.() === 0 ? "setpriv --reuid 65534 --regid 65534 --clear-groups" : "";
    const { code, stdout, stderr } = await shellLine(`${asNobody} "$M" validate -c '${config}'`, {
      PATH: `${hidden}:${process.env["PATH"]}`,
    });
    chmodSync(hidden, 0o700);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /is valid/u);
  });

  test("an invalid command line exits with code 2 and suggests the nearest name", async () => {
    const cases: readonly (readonly [args: readonly string[], words: RegExp])[] = [
      [[], /Usage/u],
      [["statsu"], /unknown command "statsu".*"?status"?/u],
      [["status", "--jsn"], /--json/u],
      [["run"], /missing -c FILE, or -- and a command/u],
      [["-d"], /missing -c FILE, or -- and a command/u],
      [["-c"], /requires a value/u],
      [["stop"], /--all/u],
      [["stop", "web-0", "--all"], /not both/u],
      [["start"], /missing argument POOL\|WORKER/u],
      [["config"], /show/u],
      [["status", "extra"], /unexpected argument/u],
      [["events", "--since", "x"], /number of an event/u],
    ];
    for (const [args, words] of cases) {
      const { code, stdout, stderr } = await monoceros(args);
      assert.deepEqual([code, stdout], [2, ""], args.join(" "));
      assert.match(stderr, words);
    }
  });

  test("--help prints to stdout and exits with code 0", async () => {
    for (const args of [["--help"], ["-h"], ["help"], ["run", "--help"], ["help", "stop"], ["config", "--help"]]) {
      const { code, stdout, stderr } = await monoceros(args);
      assert.deepEqual([code, stderr], [0, ""], args.join(" "));
      assert.match(stdout, /Usage: monoceros/u);
    }
  });

  test("without a controller, commands exit with code 69 and name the socket", async () => {
    const socket = join(directory, "none.sock");
    for (const args of [
      ["status"],
      ["events"],
      ["logs", "-f"],
      ["stop", "web-0"],
      ["stop", "--all"],
      ["start", "web-0"],
      ["restart", "web"],
      ["scale", "web", "2"],
    ]) {
      const { code, stdout, stderr } = await monoceros([...args, "--socket", socket]);
      assert.deepEqual([code, stdout], [69, ""], args.join(" "));
      assert.ok(stderr.includes(socket), stderr);
    }
    const json = await monoceros(["status", "--json", "--socket", socket]);
    assert.equal(JSON.parse(json.stderr).error.code, "NO_CONTROLLER");
  });

  test("config schema prints a JSON Schema", async () => {
    const { code, stdout } = await monoceros(["config", "schema"]);
    assert.equal(code, 0);
    const schema = JSON.parse(stdout);
    assert.match(schema.$schema, /json-schema\.org/u);
    assert.ok("supervisor" in schema.properties);
  });

  test("config show prints the effective configuration and masks the values of env", async () => {
    const pool = poolOf({ name: "web", exec: "sleep", env: { PASSWORD: "hunter2", TOKEN: "s3cret" } });
    const config = file("show.yaml", `admin:\n  port: ${"$"}{SHOWN_PORT:-9123}\nsupervisor:\n  workers:\n${pool}\n`);
    for (const format of [[], ["--json"]]) {
      const { code, stdout } = await monoceros(["config", "show", "-c", config, ...format]);
      assert.equal(code, 0);
      assert.ok(!/hunter2|s3cret/u.test(stdout));
      assert.match(stdout, /PASSWORD/u);
      assert.match(stdout, /9123/u);
      assert.match(stdout, /signal_timeout/u);
    }
  });

  test("-c without a command runs the controller, with a readable log if -d is given", async () => {
    const config = good();
    for (const args of [
      ["-c", config],
      ["-c", config, "-d"],
      ["run", "-c", config, "-d"],
    ]) {
      const child = begin(args, { MONOCEROS_SOCKET: join(directory, "bare.sock") });
      assert.ok(child.stderr !== null);
      const lines: string[] = [];
      const closed = once(child, "close");
      const stderr = createInterface({ input: child.stderr });
      await new Promise<void>((ready, fail) => {
        child.once("exit", () => fail(new Error(lines.join("\n"))));
        stderr.on("line", (line) => {
          lines.push(line);
          if (line.includes("controller is ready")) ready();
        });
      });
      child.kill("SIGTERM");
      const [code] = await closed;
      assert.equal(code, 0);
      if (args.includes("-d")) assert.ok(lines.every((line) => /^\d\d:\d\d:\d\d\.\d{3} [A-Z]+ /u.test(line)));
      else for (const line of lines) assert.ok("msg" in JSON.parse(line));
    }
  });
});

describe("command line with a controller", () => {
  test("status prints a table or JSON, and tolerates a reader that closes the pipe", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const { socket } = controller;
    const table = await monoceros(["status", "--socket", socket]);
    assert.deepEqual([table.code, table.stderr], [0, ""]);
    assert.match(table.stdout, new RegExp(`^monoceros \\S+ \\(pid ${controller.pid}\\) running, healthy`, "u"));
    assert.match(table.stdout, /web 2\/2 ready/u);
    assert.match(table.stdout, /^ {2}web-1 +ready +\d+ /mu);
    assert.ok(!table.stdout.includes("\u001b"), "no colours into a pipe");
    const status = JSON.parse((await monoceros(["status", "--json", "--socket", socket])).stdout) as Status;
    assert.deepEqual([status.pid, status.pools[0]?.workers.length], [controller.pid, 2]);

    const head = await shellLine('"$M" status | head -n 1', { MONOCEROS_SOCKET: socket });
    assert.deepEqual([head.code, head.stderr], [0, ""]);
    assert.match(head.stdout, /^monoceros .*\n$/u);
    const none = await shellLine('"$M" events | true; "$M" status --json | head -c 1', { MONOCEROS_SOCKET: socket });
    assert.deepEqual([none.code, none.stdout, none.stderr], [0, "{", ""]);
  });

  test("a controller is found by --socket, -c, MONOCEROS_SOCKET and XDG_RUNTIME_DIR", async () => {
    const runtime = mkdtempSync(join(tmpdir(), "monoceros-xdg-"));
    try {
      const socket = join(runtime, "monoceros", "monoceros.sock");
      await using controller = await ControllerUnderTest.start({ workers: SLEEPERS, socket });
      const ways: readonly (readonly [args: readonly string[], env: NodeJS.ProcessEnv])[] = [
        [["--socket", socket], {}],
        [["-c", join(controller.directory, "config.yaml")], {}],
        [[], { MONOCEROS_SOCKET: socket }],
        [[], { XDG_RUNTIME_DIR: runtime }],
      ];
      for (const [args, env] of ways) {
        const { code, stdout, stderr } = await monoceros(["status", "--json", ...args], env);
        assert.deepEqual([code, stderr], [0, ""]);
        assert.equal((JSON.parse(stdout) as Status).pid, controller.pid);
      }
    } finally {
      rmSync(runtime, { recursive: true });
    }
  });

  test("output has colours on a terminal, but not with NO_COLOR, TERM=dumb or in a pipe", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const env = { MONOCEROS_SOCKET: controller.socket, TERM: "xterm", NO_COLOR: "" };
    for (const command of ["status", "events"]) {
      // script(1) gives the program a terminal.
      const onTerminal = `script -qec '"$M" ${command}' /dev/null`;
      const isColoured = async (line: string, more: NodeJS.ProcessEnv = {}) => {
        const { code, stdout } = await shellLine(line, { ...env, ...more });
        assert.equal(code, 0);
        return stdout.includes("\u001b[");
      };
      assert.equal(await isColoured(onTerminal), true, command);
      assert.equal(await isColoured(onTerminal, { NO_COLOR: "1" }), false);
      assert.equal(await isColoured(onTerminal, { TERM: "dumb" }), false);
      assert.equal(await isColoured(`"$M" ${command}`), false);
    }
  });

  test("status --watch shows changes until Ctrl-C", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    await using watching = new Following(["status", "--watch", "--socket", controller.socket]);
    await watching.until((line) => line.includes("web 2/2 ready"));
    await controller.call("POST", "/v1/workers/web-0/stop");
    await watching.until((line) => line.includes("web 1/2 ready, degraded"));
    watching.child.kill("SIGINT");
    assert.deepEqual(await watching.closed, [0, null]);
    await using toTheEnd = new Following(["status", "--watch", "--socket", controller.socket]);
    await toTheEnd.until((line) => line.includes("web 1/2 ready"));
    await controller.stop();
    assert.deepEqual(await toTheEnd.closed, [0, null]);
  });

  test("bash completes commands, and pools and workers of a running controller", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const offers = async (line: string) => {
      const words = line.split(" ");
      const script = `monoceros() { "$M" "$@"; }
        source <(monoceros completion bash)
        COMP_WORDS=(${words.map((word) => `"${word}"`).join(" ")}) COMP_CWORD=${words.length - 1}; _monoceros
        echo "\${COMPREPLY[@]}"`;
      const { stdout, stderr } = await shellLine(`exec bash -c '${script}'`, { MONOCEROS_SOCKET: controller.socket });
      assert.equal(stderr, "");
      return stdout.trimEnd();
    };
    assert.equal(await offers("monoceros re"), "reload restart");
    assert.equal(await offers("monoceros restart we"), "web web-0 web-1");
    assert.equal(await offers("monoceros config s"), "show schema");
  });

  test("stop and start of a worker wait for the operation and print its result", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const at = ["--socket", controller.socket];
    const pid = await controller.pidOf("web-0");
    const stopped = await monoceros(["stop", "web-0", ...at]);
    assert.equal(stopped.code, 0);
    assert.match(
      stopped.stdout,
      /worker "web-0" was sent SIGTERM[\s\S]*\nstop of worker "web-0" finished in \S+, 1 of 1 worker\n$/u,
    );
    assert.ok(!isAlive(pid));
    const started = await monoceros(["start", "web-0", ...at]);
    assert.equal(started.code, 0);
    assert.match(
      started.stdout,
      /worker "web-0" is ready[\s\S]*\nstart of worker "web-0" finished in \S+, 1 of 1 worker\n$/u,
    );
    assert.deepEqual((await controller.worker("web-0")).incarnation, 2);
    const again = await monoceros(["start", "web-0", ...at]);
    assert.deepEqual([again.code, /\nnothing to do: .*is already running \(ready\)\n$/u.test(again.stdout)], [0, true]);
    const json = JSON.parse((await monoceros(["start", "web-0", "--json", ...at])).stdout) as Operation;
    assert.deepEqual([json.what, json.state, json.total], ["start", "succeeded", 0]);

    const unknown = await monoceros(["stop", "wbe-0", ...at]);
    assert.deepEqual([unknown.code, unknown.stdout], [1, ""]);
    assert.match(unknown.stderr, /no such pool or worker.*web-0/u);
  });

  test("restart replaces every worker of a pool and prints each step and a summary", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const before = await pidsOf(controller);
    const { code, stdout, stderr } = await monoceros(["restart", "web", "--socket", controller.socket]);
    assert.deepEqual([code, stderr], [0, ""]);
    const lines = stdout.trimEnd().split("\n");
    assert.match(lines[0] ?? "", /restart of pool "web" \(op-1\) started: restarted by an operator/u);
    assert.equal(lines.filter((line) => /replaced a worker/u.test(line)).length, 2);
    assert.match(lines.at(-1) ?? "", /^restart of pool "web" finished in \S+, 2 of 2 workers$/u);
    const after = await pidsOf(controller);
    assert.equal(after.length, 2);
    assert.deepEqual(
      after.filter((pid) => before.includes(pid)),
      [],
    );
    assert.deepEqual(before.filter(isAlive), []);
    const table = (await monoceros(["status", "--socket", controller.socket])).stdout;
    assert.equal(table.split("\n").filter((line) => line.startsWith("  web-")).length, 2, table);
  });

  test("a restart whose successor fails exits with code 1 and keeps the old workers", async () => {
    const directory = mkdtempSync(join(tmpdir(), "monoceros-broken-"));
    try {
      const marker = join(directory, "broken");
      const script = `test ! -e ${marker} || exit 3; exec sleep 100000`;
      await using controller = await ControllerUnderTest.start({
        workers: poolOf({
          name: "web",
          replicas: 2,
          exec: "sh",
          args: ["-c", script],
          rolling: { min_ready: "500ms" },
        }),
      });
      await controller.ready();
      const before = await pidsOf(controller);
      writeFileSync(marker, "");
      const at = ["--socket", controller.socket];
      const { code, stdout, stderr } = await monoceros(["restart", "web", ...at]);
      assert.equal(code, 1);
      assert.match(stdout, /abandoned a replacement/u);
      assert.match(
        stderr,
        /^monoceros: Cannot finish restart of pool "web" \(op-1, 0 of 2 workers done\): .*successor/u,
      );
      assert.deepEqual(await pidsOf(controller), before);
      const json = await monoceros(["restart", "web", "--json", ...at]);
      assert.equal(json.code, 1);
      assert.equal((JSON.parse(json.stdout) as Operation).state, "failed");
      assert.equal(JSON.parse(json.stderr).error.code, "OPERATION_FAILED");
      rmSync(marker);
      assert.equal((await monoceros(["restart", "web", ...at])).code, 0);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("scale adds and removes workers", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const at = ["--socket", controller.socket];
    for (const replicas of [5, 1, 3]) {
      const { code, stdout } = await monoceros(["scale", "web", String(replicas), ...at]);
      assert.equal(code, 0);
      assert.match(stdout, new RegExp(`\nscale of pool "web" to ${replicas} finished in \\S+\n$`, "u"));
      const [pool] = (await controller.status()).pools;
      assert.deepEqual(
        [pool?.replicas, pool?.ready, (await pidsOf(controller)).length],
        [replicas, replicas, replicas],
      );
    }
    assert.equal((await monoceros(["scale", "web", "0", ...at])).code, 2);
    assert.equal((await monoceros(["scale", "web", ...at])).code, 2);
    assert.equal((await monoceros(["scale", "job", "2", ...at])).code, 1);
  });

  test("stop and start of a pool affect all its workers", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const at = ["--socket", controller.socket];
    const stopped = await monoceros(["stop", "web", ...at]);
    assert.equal(stopped.code, 0);
    assert.match(stopped.stdout, /\nstop of pool "web" finished in \S+, 2 of 2 workers\n$/u);
    assert.deepEqual(await pidsOf(controller), []);
    const started = await monoceros(["start", "web", ...at]);
    assert.match(started.stdout, /\nstart of pool "web" finished in \S+, 2 of 2 workers\n$/u);
    assert.equal((await pidsOf(controller)).length, 2);
  });

  test("operations on a pool are queued, and a shutdown fails them", async () => {
    const slow = "trap '' TERM; sleep 100000 & wait";
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({ name: "web", replicas: 2, exec: "sh", args: ["-c", slow], signal_timeout: "300s" }),
      supervisor: "  shutdown_timeout: 1s",
    });
    await controller.ready();
    const at = ["--socket", controller.socket];
    const first = await monoceros(["restart", "web", "--no-wait", ...at]);
    assert.deepEqual([first.code, first.stdout], [0, "op-1\n"]);
    const second = monoceros(["scale", "web", "4", ...at]);
    await controller.event((event) => event.kind === "operation_queued");
    assert.match((await monoceros(["status", ...at])).stdout, /web .*restart op-1 running .*, scale op-2 queued\n/u);
    await using third = new Following(["restart", "web", ...at]);
    await third.until((line) => /op-3.*is queued behind another operation/u.test(line));
    third.child.kill("SIGINT");
    assert.deepEqual(await third.closed, [130, null]);
    await controller.stop();
    const { code, stderr } = await second;
    assert.equal(code, 1);
    assert.match(stderr, /Cannot finish scale of pool "web" to 4 \(op-2\): the controller shuts down/u);
  });

  test("a command exits with code 69 if the controller is killed while it waits", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({ name: "web", replicas: 1, exec: "sh", args: ["-c", "trap '' TERM; sleep 100000 & wait"] }),
    });
    await controller.ready();
    await using waiting = new Following(["stop", "web", "--socket", controller.socket]);
    let stderr = "";
    waiting.child.stderr?.on("data", (chunk) => {
      stderr += chunk;
    });
    await waiting.until((line) => /was sent SIGTERM/u.test(line));
    controller.child.kill("SIGKILL");
    assert.deepEqual(await waiting.closed, [69, null]);
    assert.match(stderr, /Cannot determine the result of stop of pool "web" \(op-1\): the controller exited/u);
  });

  test("stop --all returns when the controller has exited", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const pid = await controller.pidOf("web-0");
    const { code, stdout } = await monoceros(["stop", "--all", "--socket", controller.socket]);
    assert.deepEqual([code, stdout], [0, `the controller (pid ${controller.pid}) stopped\n`]);
    assert.ok(!isAlive(pid));
    assert.equal((await controller.ended).code, 0);
    assert.equal((await monoceros(["status", "--socket", controller.socket])).code, 69);
  });

  test("events prints past events, and with -f new ones until the controller exits", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const at = ["--socket", controller.socket];
    const past = await monoceros(["events", ...at]);
    assert.equal(past.code, 0);
    assert.match(past.stdout, /controller is starting: 1 pool, 2 workers/u);
    const json = (await monoceros(["events", "--json", ...at])).stdout.trimEnd().split("\n");
    const records = json.map((line) => JSON.parse(line) as EventRecord);
    const last = records.at(-1)?.seq ?? 0;
    assert.equal((await monoceros(["events", "--since", String(last), ...at])).stdout, "");

    await using following = new Following(["events", "-f", "--json", "--since", String(last), ...at]);
    await controller.call("POST", "/v1/workers/web-0/stop");
    await following.until((line) => (JSON.parse(line) as EventRecord).kind === "stopped");
    assert.equal((JSON.parse(following.lines[0] ?? "") as EventRecord).seq, last + 1);
    assert.equal((await controller.stop()).code, 0);
    const [code] = (await following.closed) as [number];
    assert.equal(code, 0);
    assert.ok(following.lines.some((line) => (JSON.parse(line) as EventRecord).kind === "controller_stopping"));
  });

  test("logs -f prints new lines of workers to their original stream", async () => {
    const script = "while :; do echo out; echo err >&2; sleep 0.02; done";
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({ name: "web", replicas: 1, exec: "sh", args: ["-c", script] }),
    });
    await using json = new Following(["logs", "-f", "--json", "--socket", controller.socket]);
    for (const [stream, text] of [
      ["stdout", '"worker_info_msg":"out"'],
      ["stderr", '"worker_error_msg":"err"'],
    ] as const) {
      await json.until((line) => {
        const entry = JSON.parse(line) as { stream: string; line: string };
        return entry.stream === stream && entry.line.includes(text);
      });
    }
    await using plain = new Following(["logs", "-f", "--socket", controller.socket]);
    await plain.until((line) => JSON.parse(line).worker_info_msg === "out");
    assert.ok(plain.lines.every((line) => !line.includes("worker_error_msg")));
    const head = await shellLine('"$M" logs -f 2>/dev/null | head -n 3', { MONOCEROS_SOCKET: controller.socket });
    assert.equal(head.stdout.split("\n").length, 4);
  });
});
