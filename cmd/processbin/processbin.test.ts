import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { get } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { parseFlags } from "./flags.ts";

const MAIN = join(import.meta.dirname, "main.ts");

type Child = ChildProcessByStdio<null, Readable, Readable>;

/** A processbin run from source, killed with its whole group at the end of the test. */
class Program {
  readonly child: Child;
  readonly closed: Promise<[code: number | null, signal: NodeJS.Signals | null]>;
  stdout = "";
  stderr = "";

  constructor(context: TestContext, args: readonly string[], options: { env?: NodeJS.ProcessEnv; fd?: number } = {}) {
    this.child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ["ignore", "pipe", "pipe", ...(options.fd === undefined ? [] : [options.fd])],
      env: { ...process.env, ...options.env },
      detached: true,
    }) as Child;
    this.child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
    });
    this.child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.closed = once(this.child, "close") as typeof this.closed;
    context.after(() => {
      if (this.child.pid !== undefined) kill(-this.child.pid, "SIGKILL");
    });
  }

  /** The first JSON record on stdout whose msg is `message`. */
  async record(message: string): Promise<Record<string, unknown>> {
    for (;;) {
      for (const line of this.stdout.split("\n").slice(0, -1)) {
        const record = line.startsWith("{") ? (JSON.parse(line) as Record<string, unknown>) : {};
        if (record["msg"] === message) return record;
      }
      await once(this.child.stdout, "data");
    }
  }

  async exitCode(): Promise<number | null> {
    return (await this.closed)[0];
  }
}

function kill(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

function fetchText(target: { port: number } | { socketPath: string }, path: string): Promise<[number, string]> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", ...target, path, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve([response.statusCode ?? 0, text]));
    }).on("error", reject);
  });
}

async function portOf(program: Program): Promise<{ port: number }> {
  return { port: (await program.record("ready"))["port"] as number };
}

const LOOPBACK = ["--port", "0", "--host", "127.0.0.1"];

test("SIGTERM ends it with 143 and SIGINT with 130", async (context) => {
  for (const [signal, code] of [
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ] as const) {
    const program = new Program(context, LOOPBACK);
    await program.record("ready");
    program.child.kill(signal);
    assert.equal(await program.exitCode(), code);
    assert.equal(program.stderr, "");
  }
});

test("--exit-after ends it with --exit-code", async (context) => {
  assert.equal(await new Program(context, ["-t", "0.01"]).exitCode(), 0);
  assert.equal(await new Program(context, ["--exit-after", "10ms", "--exit-code", "7"]).exitCode(), 7);
});

test("--ignore-signals survives SIGTERM and SIGINT", async (context) => {
  const program = new Program(context, [...LOOPBACK, "-i"]);
  const target = await portOf(program);
  program.child.kill("SIGTERM");
  program.child.kill("SIGINT");
  assert.deepEqual(await fetchText(target, "/"), [200, "hello from processbin\n"]);
  program.child.kill("SIGKILL");
  assert.deepEqual(await program.closed, [null, "SIGKILL"]);
});

test("--signal-timeout waits before the exit", async (context) => {
  const program = new Program(context, [...LOOPBACK, "-o", "0.2"]);
  await program.record("ready");
  const before = performance.now();
  program.child.kill("SIGTERM");
  assert.equal(await program.exitCode(), 143);
  assert.ok(performance.now() - before >= 199);
});

test("a running request is answered before the exit", async (context) => {
  const program = new Program(context, LOOPBACK);
  const target = await portOf(program);
  const answer = fetchText(target, "/sleep?ms=200");
  await fetchText(target, "/");
  program.child.kill("SIGTERM");
  assert.deepEqual(await answer, [200, "slept 200 ms\n"]);
  assert.equal(await program.exitCode(), 143);
});

test("--log-fixed writes that many lines of --log-size", async (context) => {
  const program = new Program(context, ["-f", "2500", "-t", "1"]);
  await program.exitCode();
  const lines = program.stdout.split("\n").slice(0, -1);
  assert.equal(lines.length, 2500);
  assert.ok(lines.every((line, index) => line.length === 150 && line.startsWith(`line ${index} `)));
});

test("--log-error writes to stderr and --log-structured writes JSON objects", async (context) => {
  const program = new Program(context, ["-f", "3", "-l", "80", "-e", "-j", "-t", "0.2"]);
  await program.exitCode();
  assert.equal(program.stdout, "");
  const lines = program.stderr.split("\n").slice(0, -1);
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { line: number }).line),
    [0, 1, 2],
  );
  assert.ok(lines.every((line) => line.length === 80));
});

test("--log-interval paces the lines", async (context) => {
  const program = new Program(context, ["-k", "5ms", "-f", "3", "-t", "1"]);
  await program.exitCode();
  assert.equal(program.stdout.split("\n").length, 4);
});

test("--half-line writes no newline and --flood does not keep SIGTERM away", async (context) => {
  const half = new Program(context, ["--half-line"]);
  await once(half.child.stdout, "data");
  assert.equal(half.stdout, "an unfinished line");
  const flood = new Program(context, ["--flood"]);
  await once(flood.child.stdout, "data");
  flood.child.kill("SIGTERM");
  assert.equal(await flood.exitCode(), 143);
});

test("--slow-boot does everything but listen at once", async (context) => {
  const program = new Program(context, [...LOOPBACK, "--slow-boot", "100s", "--print-env"]);
  await program.record("surroundings");
  assert.doesNotMatch(program.stdout, /"ready"/u);
});

test("--hang and --spin leave SIGTERM unanswered", async (context) => {
  for (const flag of ["--hang", "--spin"]) {
    const program = new Program(context, [...LOOPBACK, flag]);
    await portOf(program);
    // A probe that is never answered proves that the block has begun, unless it came before it and is answered.
    while (await answersSoon(program));
    program.child.kill("SIGTERM");
    program.child.kill("SIGKILL");
    assert.deepEqual(await program.closed, [null, "SIGKILL"], flag);
  }
});

async function answersSoon(program: Program): Promise<boolean> {
  const answer = fetchText(await portOf(program), "/").then(
    () => true,
    () => true,
  );
  return Promise.race([answer, new Promise<boolean>((resolve) => setTimeout(resolve, 150, false))]);
}

test("--leak keeps memory", async (context) => {
  const program = new Program(context, [...LOOPBACK, "--leak", "100"]);
  const target = await portOf(program);
  const residentKb = (): number =>
    Number(/^VmRSS:\s+(\d+)/mu.exec(readFileSync(`/proc/${program.child.pid}/status`, "latin1"))?.[1]);
  const before = residentKb();
  while (residentKb() < before + 30_000) await fetchText(target, "/");
});

test("--flap-health alternates after every K answers", async (context) => {
  const target = await portOf(new Program(context, [...LOOPBACK, "--flap-health", "2"]));
  const statuses: number[] = [];
  for (let index = 0; index < 6; index++) statuses.push((await fetchText(target, "/healthz"))[0]);
  assert.deepEqual(statuses, [200, 200, 503, 503, 200, 200]);
});

test("grandchildren stay in the group unless told to leave it, and can ignore SIGTERM", async (context) => {
  for (const flags of [[], ["--grandchild-setsid"], ["--grandchild-ignores-term"]]) {
    const program = new Program(context, ["--grandchildren", "2", ...flags]);
    const pids = (await program.record("grandchildren"))["pids"] as number[];
    context.after(() => {
      for (const pid of pids) kill(pid, "SIGKILL");
    });
    assert.equal(pids.length, 2);
    for (const pid of pids) {
      // A shell that sets the signal up first becomes the sleep by exec.
      while (readFileSync(`/proc/${pid}/comm`, "latin1") !== "sleep\n") await setImmediate();
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
      const group = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]);
      assert.equal(group, flags.includes("--grandchild-setsid") ? pid : program.child.pid);
    }
    kill(-(program.child.pid ?? 0), "SIGTERM");
    assert.equal((await once(program.child, "exit"))[0], 143);
    const survive = flags.length > 0;
    // What does not survive closes our pipe, so the end of the output is the end of the group.
    if (!survive) await program.closed;
    assert.deepEqual(pids.map(isRunning), [survive, survive]);
  }
});

/** Whether a process exists and is not a zombie that waits for its reaper. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/mu.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return false;
  }
}

test("it serves a Unix socket and an inherited one, by --fd and by LISTEN_FDS", async (context) => {
  const dir = mkdtempSync(join(tmpdir(), "processbin-"));
  context.after(() => rmSync(dir, { recursive: true }));
  const socketPath = join(dir, "http.sock");
  const unix = new Program(context, ["--socket", socketPath]);
  assert.equal((await unix.record("ready"))["socket"], socketPath);
  assert.equal((await fetchText({ socketPath }, "/readyz"))[0], 200);

  for (const how of [
    { args: ["--fd", "3"], env: {} },
    { args: [], env: { LISTEN_FDS: "1" } },
  ]) {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    assert.ok(typeof address === "object" && address !== null);
    const fd = (server as unknown as { _handle: { fd: number } })._handle.fd;
    const program = new Program(context, how.args, { env: how.env, fd });
    const target = await portOf(program);
    assert.equal(target.port, address.port);
    server.close();
    const [, text] = await fetchText(target, "/pid");
    assert.equal((JSON.parse(text) as { pid: number }).pid, program.child.pid);
  }
});

test("--reuseport lets two programs share a port", async (context) => {
  const first = new Program(context, [...LOOPBACK, "--reuseport"]);
  const { port } = await portOf(first);
  const second = new Program(context, ["--port", String(port), "--host", "127.0.0.1", "--reuseport"]);
  assert.equal((await portOf(second)).port, port);
});

test("--print-env tells what it was given", async (context) => {
  const program = new Program(context, ["--print-env"], { env: { GIFT: "yes" } });
  const told = (await program.record("surroundings"))["surroundings"] as Record<string, unknown>;
  assert.equal(told["pid"], program.child.pid);
  assert.equal(told["session"], program.child.pid);
  assert.equal((told["env"] as Record<string, string>)["GIFT"], "yes");
  assert.equal(told["cwd"], process.cwd());
  assert.equal(typeof told["umask"], "number");
  assert.deepEqual(Object.keys(told["signals"] as object), ["pending", "blocked", "ignored", "caught"]);
  assert.equal((told["fds"] as Record<string, string>)["0"], "/dev/null");
  assert.equal((told["limits"] as Record<string, string[]>)["Max open files"]?.length, 2);
});

test("a wrong flag is told and exits with 2", async (context) => {
  const program = new Program(context, ["--nonsense"]);
  assert.equal(await program.exitCode(), 2);
  assert.match(program.stderr, /nonsense/u);
  assert.match(String(parseFlags(["--exit-after", "soon"])), /--exit-after: "soon"/u);
});
