import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { Agent, get, type IncomingHttpHeaders, request } from "node:http";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { type TestContext, test } from "node:test";
import { setTimeout as pause, setImmediate } from "node:timers/promises";
import { echoBody } from "./echo.ts";
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

interface Answer {
  readonly text: string;
  readonly headers: IncomingHttpHeaders;
  readonly trailers: NodeJS.Dict<string>;
}

function ask(
  target: { port: number },
  path: string,
  { body, ...options }: { method?: string; agent?: Agent; body?: Buffer } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", agent: false, ...target, path, ...options }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve({ text, headers: response.headers, trailers: response.trailers }));
    }).on("error", reject);
    sent.end(body);
  });
}

/** A raw connection that has had one answer. */
async function openKeptAlive(context: TestContext, port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  context.after(() => socket.destroy());
  socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  await once(socket, "data");
  return socket;
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

test("--log-fixed writes its text at the start and in each interval", async (context) => {
  const once = new Program(context, ["-f", "3 words here", "-t", "0.3"]);
  await once.exitCode();
  assert.equal(once.stdout, "3 words here\n");
  const paced = new Program(context, ["-f", "x", "-j", "-k", "5ms", "--log-lines", "3", "-t", "1"]);
  await paced.exitCode();
  assert.equal(paced.stdout, '{"key":"x"}\n'.repeat(3));
});

test("--log-lines writes that many lines of --log-size", async (context) => {
  const program = new Program(context, ["--log-lines", "2500", "-t", "1"]);
  await program.exitCode();
  const lines = program.stdout.split("\n").slice(0, -1);
  assert.equal(lines.length, 2500);
  assert.ok(lines.every((line, index) => line.length === 150 && line.startsWith(`line ${index} `)));
});

test("--log-error writes to stderr as well and --log-structured writes JSON objects", async (context) => {
  const program = new Program(context, ["--log-lines", "3", "-l", "80", "-e", "-j", "-t", "0.2"]);
  await program.exitCode();
  assert.equal(program.stdout, program.stderr);
  const lines = program.stderr.split("\n").slice(0, -1);
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { line: number }).line),
    [0, 1, 2],
  );
  assert.ok(lines.every((line) => line.length === 80));
});

test("--log-interval paces the lines", async (context) => {
  const program = new Program(context, ["-k", "5ms", "--log-lines", "3", "-t", "1"]);
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

test("grandchildren that spin use CPU time while processbin itself does not", async (context) => {
  const program = new Program(context, ["--grandchildren", "1", "--grandchild-spin"]);
  const [pid = 0] = (await program.record("grandchildren"))["pids"] as number[];
  context.after(() => kill(pid, "SIGKILL"));
  const ticks = () => {
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ") ?? [];
    return Number(fields[11]);
  };
  while (ticks() < 10) await setImmediate();
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

test("every answer tells its worker and pid, also a 404", async (context) => {
  const program = new Program(context, LOOPBACK, { env: { MULTIPROCESS_WORKER_ID: "web-3" } });
  const target = await portOf(program);
  for (const path of ["/", "/healthz", "/nothing"]) {
    const { headers } = await ask(target, path);
    assert.equal(headers["x-worker-id"], "web-3");
    assert.equal(headers["x-worker-pid"], String(program.child.pid));
  }
});

test("--never-ready and --ready-after answer 503 to probes and serve all the same", async (context) => {
  const never = await portOf(new Program(context, [...LOOPBACK, "--never-ready"]));
  assert.deepEqual(await fetchText(never, "/readyz"), [503, "not ready\n"]);
  assert.equal((await fetchText(never, "/healthz"))[0], 503);
  assert.equal((await fetchText(never, "/"))[0], 200);
  const later = await portOf(new Program(context, [...LOOPBACK, "--ready-after", "300ms"]));
  assert.equal((await fetchText(later, "/readyz"))[0], 503);
  while ((await fetchText(later, "/readyz"))[0] === 503) await pause(20);
  assert.equal((await fetchText(later, "/healthz"))[0], 200);
});

test("--block, --mixed and /block hold up what comes next, /sleep does not", async (context) => {
  const block = await portOf(new Program(context, [...LOOPBACK, "--block", "100ms"]));
  const before = performance.now();
  await Promise.all([fetchText(block, "/"), fetchText(block, "/"), fetchText(block, "/block?ms=100")]);
  assert.ok(performance.now() - before >= 299);
  const slept = performance.now();
  await Promise.all([1, 2, 3, 4, 5, 6].map(() => fetchText(block, "/sleep?ms=200")));
  assert.ok(performance.now() - slept < 1100);
  const mixed = await portOf(new Program(context, [...LOOPBACK, "--mixed"]));
  const times: number[] = [];
  for (let index = 0; index < 40; index++) {
    const askedAt = performance.now();
    await fetchText(mixed, "/");
    times.push(performance.now() - askedAt);
  }
  assert.ok(times.every((ms) => ms >= 5));
  assert.ok(times.filter((ms) => ms >= 200).length >= 2);
});

test("/upload counts bytes, /count the requests, /trailers and /sse come in pieces", async (context) => {
  const target = await portOf(new Program(context, LOOPBACK));
  assert.equal(
    (await ask(target, "/upload", { method: "POST", body: Buffer.alloc(3_000_000) })).text,
    '{"bytes":3000000}\n',
  );
  const trailers = await ask(target, "/trailers");
  assert.deepEqual([trailers.text, trailers.trailers["x-bytes"]], ["hello with trailers\n", "20"]);
  const events = await ask(target, "/sse?n=3&ms=5");
  assert.equal(events.headers["content-type"], "text/event-stream");
  assert.deepEqual(events.text.match(/^data: .*$/gmu), ["data: event 0", "data: event 1", "data: event 2"]);
  await fetchText(target, "/healthz");
  assert.deepEqual(await fetchText(target, "/count"), [200, '{"requests":3,"posts":1}\n']);
});

test("/echo answers with the body of its id, once in the ledger, after a numbered line on stdout", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "processbin-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const ledger = join(directory, "ledger");
  const env = { MULTIPROCESS_WORKER_ID: "web-0", MONOCEROS_INCARNATION: "3" };
  const program = new Program(context, [...LOOPBACK, "--ledger", ledger], { env });
  const target = await portOf(program);
  const { text } = await ask(target, "/echo?id=7&size=40", { method: "POST", body: echoBody(7, 1000) });
  assert.equal(text, echoBody(7, 40).toString());
  assert.notDeepEqual(echoBody(8, 40), echoBody(7, 40));
  assert.deepEqual([...new Set(echoBody(7, 1600).toString().split("\n"))].length, 101, "no two blocks are equal");
  const [status] = await fetchText(target, "/echo?id=8&size=100000");
  assert.equal(status, 200);
  const wrong = await ask(target, "/echo?id=9&size=1", { method: "POST", body: echoBody(7, 10) });
  assert.equal(wrong.text, "the body of request 9 is not its own\n");
  assert.equal(readFileSync(ledger, "utf8"), "7 web-0.3 1\n8 web-0.3 2\n9 web-0.3 3\n");
  const linesOf = () =>
    program.stdout
      .split("\n")
      .slice(0, -1)
      .filter((line) => line.includes("ledger"));
  while (linesOf().length < 3) await once(program.child.stdout, "data");
  const lines = linesOf();
  assert.equal(lines[0], '{"ledger":"web-0.3","nth":1,"id":7}');
  assert.match(lines[1] ?? "", /^\{"ledger":"web-0\.3","nth":2,"pad":"x+"\}$/u);
  assert.equal(lines[2], "ledger web-0.3 3");
});

test("/ws echoes frames of every length, answers pings and closes", async (context) => {
  const { port } = await portOf(new Program(context, LOOPBACK));
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`);
  await once(socket, "open");
  for (const length of [0, 5, 125, 126, 65_535, 65_536, 1_000_000]) {
    socket.send("x".repeat(length));
    const [event] = (await once(socket, "message")) as [{ readonly data: string }];
    assert.equal(event.data.length, length);
  }
  socket.close(1000);
  const [closed] = (await once(socket, "close")) as [CloseEvent];
  assert.deepEqual([closed.code, closed.wasClean], [1000, true]);
});

test("a WebSocket is told to go away at a stop signal", async (context) => {
  const program = new Program(context, LOOPBACK);
  const { port } = await portOf(program);
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`);
  await once(socket, "open");
  program.child.kill("SIGTERM");
  assert.equal(((await once(socket, "close")) as [CloseEvent])[0].code, 1001);
  assert.equal(await program.exitCode(), 143);
});

test("--reset-every resets the connection instead of each nth answer, and leaves probes alone", async (context) => {
  const target = await portOf(new Program(context, [...LOOPBACK, "--reset-every", "3"]));
  const outcomes: string[] = [];
  for (let index = 0; index < 6; index++) {
    await fetchText(target, "/readyz");
    outcomes.push(
      await fetchText(target, "/").then(
        () => "ok",
        (error: NodeJS.ErrnoException) => error.code ?? "",
      ),
    );
  }
  assert.deepEqual(outcomes, ["ok", "ok", "ECONNRESET", "ok", "ok", "ECONNRESET"]);
});

test("--keepalive closes idle connections when it says", async (context) => {
  const { port } = await portOf(new Program(context, [...LOOPBACK, "--keepalive", "200ms"]));
  const connection = await openKeptAlive(context, port);
  const answeredAt = performance.now();
  await once(connection, "end");
  const idleMs = performance.now() - answeredAt;
  assert.ok(idleMs > 150 && idleMs < 1900, String(idleMs));
});

test("--drain lets an idle connection ask once more after the stop signal, then it is told to end", async (context) => {
  const program = new Program(context, [...LOOPBACK, "--drain", "100s"]);
  const { port } = await portOf(program);
  const connection = await openKeptAlive(context, port);
  // The connection that is seen refused proves that the drain has begun.
  program.child.kill("SIGTERM");
  while (
    await fetchText({ port }, "/").then(
      () => true,
      () => false,
    )
  );
  connection.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  const [chunk] = (await once(connection, "data")) as [Buffer];
  assert.match(chunk.toString(), /^HTTP\/1\.1 200 .*\r\nconnection: close\r\n/isu);
  assert.equal(await program.exitCode(), 143);
});

test("a request that runs at the stop signal is answered with the end of its connection", async (context) => {
  const program = new Program(context, LOOPBACK);
  const target = await portOf(program);
  const running = ask(target, "/sleep?ms=300", { agent: new Agent({ keepAlive: true }) });
  while (!/"requests":1/u.test((await fetchText(target, "/count"))[1]));
  program.child.kill("SIGTERM");
  const { headers, text } = await running;
  assert.deepEqual([headers.connection, text], ["close", "slept 300 ms\n"]);
  assert.equal(await program.exitCode(), 143);
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
