/**
 * `monoceros run -- COMMAND` with real servers: every worker serves, a rolling restart replaces all of them, and a stop is
 * graceful. Without Envoy, programs that take a socket share one.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { copyFile, link, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, delimiter, dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { describe, type TestContext, test } from "node:test";
import { startPortOf } from "../../src/cli/oneLine/pool.ts";
import { eventually, isAlive, listDescendants, MONOCEROS } from "../support/controller.ts";
import { type Load, startLoad } from "../support/load.ts";
import { describeLoad } from "../support/loadReport.ts";
import { areFree, freePort } from "../support/ports.ts";
import { killAll, statusCode } from "../support/watch.ts";

/** Installed by scripts/exampleServers.sh. */
const PYTHON_BIN = resolve("node_modules/.tools/venv/bin");
const SERVERS = resolve("examples/servers");
const REPLICAS = 2;

/** Directories in which no Envoy is. */
const PATH = [PYTHON_BIN, resolve("node_modules/.bin"), ...(process.env["PATH"] ?? "").split(delimiter)]
  .filter((directory) => !existsSync(join(directory, "envoy")))
  .join(delimiter);

const NODE_SERVER = `
const worker = process.env.MULTIPROCESS_WORKER_ID;
const server = require("node:http").createServer((request, response) => {
  response.setHeader("x-worker-id", worker).setHeader("x-worker-pid", process.pid).end("hello");
});
server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => server.close());
`;

const RACK_APP = `
run ->(env) { [200, { "x-worker-id" => ENV["MULTIPROCESS_WORKER_ID"], "x-worker-pid" => Process.pid.to_s }, ["hello"]] }
`;

interface Line {
  readonly name: string;
  readonly flags?: readonly string[];
  /** Its working directory contains server.js and config.ru. */
  readonly command: readonly string[];
  readonly mode: "proxy" | "shared-socket";
  readonly needs: string;
}

const LINES: readonly Line[] = [
  {
    name: "uvicorn behind Envoy",
    flags: ["--health", "/healthz"],
    command: ["uvicorn", "--no-access-log", "--app-dir", SERVERS, "asgi:app"],
    mode: "proxy",
    needs: join(PYTHON_BIN, "uvicorn"),
  },
  {
    name: "uvicorn without Envoy",
    command: ["python", "-m", "uvicorn", "--no-access-log", "--app-dir", SERVERS, "asgi:app"],
    mode: "shared-socket",
    needs: join(PYTHON_BIN, "uvicorn"),
  },
  { name: "node behind Envoy", command: ["node", "server.js"], mode: "proxy", needs: process.execPath },
  {
    name: "gunicorn behind Envoy, with its own options",
    command: ["gunicorn", "--workers", "7", "--threads", "2", "--no-control-socket", "--chdir", SERVERS, "wsgi:app"],
    mode: "proxy",
    needs: join(PYTHON_BIN, "gunicorn"),
  },
  {
    name: "gunicorn without Envoy",
    command: ["gunicorn", "--threads", "2", "--no-control-socket", "--chdir", SERVERS, "wsgi:app"],
    mode: "shared-socket",
    needs: join(PYTHON_BIN, "gunicorn"),
  },
  { name: "puma behind Envoy", command: ["puma", "--silent"], mode: "proxy", needs: "puma" },
];

function isMissing(program: string): boolean {
  return program.includes("/") ? !existsSync(program) : spawnSync(program, ["--version"]).error !== undefined;
}

/** Ports that a test of this file has, although they may look free. */
const taken = new Set<number>();

/** A free port, whose workers' ports are free too. */
async function clientPort(): Promise<number> {
  for (;;) {
    const port = await freePort();
    const start = startPortOf(port);
    if (taken.has(start) || !(await areFree(start, 2 * REPLICAS))) continue;
    taken.add(start);
    return port;
  }
}

/** The executable without an Envoy beside it. */
async function withoutEnvoy(directory: string): Promise<string> {
  for (const file of [MONOCEROS, join(dirname(MONOCEROS), "libatomic.so.1")]) {
    const target = join(directory, basename(file));
    if (existsSync(file)) await link(file, target).catch(() => copyFile(file, target));
  }
  return join(directory, basename(MONOCEROS));
}

async function untilAllAnswer(load: Load): Promise<void> {
  const isEnough = () => Object.keys(load.report.workers).length >= REPLICAS;
  await eventually(() => (isEnough() ? true : undefined), "every worker has answered");
}

async function serveAndRestart(line: Line, context: TestContext): Promise<void> {
  if (isMissing(line.needs)) {
    context.skip(`${line.needs} is not installed`);
    return;
  }
  await using directory = await mkdtempDisposable(join(tmpdir(), "m-"));
  await writeFile(join(directory.path, "server.js"), NODE_SERVER);
  await writeFile(join(directory.path, "config.ru"), RACK_APP);
  const executable = line.mode === "proxy" ? MONOCEROS : await withoutEnvoy(directory.path);
  const port = await clientPort();
  const flags = ["-n", String(REPLICAS), "--port", String(port), "--admin-port", "0", ...(line.flags ?? [])];
  const socket = join(directory.path, "control.sock");
  const env = { ...process.env, PATH, MONOCEROS_SOCKET: socket, HOME: directory.path, PYTHONDONTWRITEBYTECODE: "1" };
  const argv = ["run", "-d", ...flags, "-e", "SECRET=swordfish", "--", ...line.command];
  const child = spawn(executable, argv, { cwd: directory.path, stdio: ["ignore", "ignore", "pipe"], env });
  const closed = once(child, "close");
  const stderr: string[] = [];
  createInterface({ input: child.stderr }).on("line", (text) => stderr.push(text));
  const client = async (...words: string[]) => {
    const command = spawn(executable, words, { env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [command.stdout, command.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    const [code] = await once(command, "close");
    return { code, output };
  };
  let descendants: number[] = [];
  try {
    await eventually(() => {
      assert.equal(child.exitCode, null, stderr.join("\n"));
      return stderr.some((text) => text.includes("controller is ready")) ? true : undefined;
    }, "the controller is ready");
    await eventually(
      async () => ((await statusCode(port, "/healthz").catch(() => 0)) === 200 ? true : undefined),
      "an answer",
    );
    const options = {
      target: { port },
      connections: 4,
      isConnectionPerRequest: line.mode === "shared-socket",
      requests: [{ path: "/?ms=2" }],
      pauseMs: [1, 10],
    } as const;
    using load = startLoad(options);
    await untilAllAnswer(load);
    const restart = await client("restart", "web");
    assert.equal(restart.code, 0, restart.output);
    // A worker that stops may close a connection of the shared socket just as it is accepted.
    const isExact = line.mode === "proxy";
    await load.stop();
    if (isExact) assert.equal(load.report.failed, 0, describeLoad(load.report));
    using after = startLoad(options);
    await untilAllAnswer(after);
    await after.stop();
    if (isExact) assert.equal(after.report.failed, 0, describeLoad(after.report));
    const reload = await client("reload");
    assert.equal(reload.code, 1);
    assert.match(reload.output, /started from a command line, so it has no configuration file; .*--print-config/u);
    child.kill("SIGHUP");
    await eventually(
      () => (stderr.some((text) => /SIGHUP changed nothing: .*command line/u.test(text)) ? true : undefined),
      "the answer to SIGHUP",
    );
    descendants = listDescendants(child.pid ?? 0);
    child.kill("SIGTERM");
    const [code] = await closed;
    assert.equal(code, 0, stderr.join("\n"));
    await eventually(() => (descendants.some(isAlive) ? undefined : true), "nothing is left", 5000);
    const said = stderr.filter((text) => new RegExp(`: 2 workers in ${line.mode} mode, because`, "u").test(text));
    assert.equal(said.length, 1, stderr.join("\n"));
    assert.equal(stderr.join("\n").includes("swordfish"), false);
  } finally {
    child.kill("SIGKILL");
    await closed;
    killAll(descendants.filter(isAlive));
  }
}

// Most of the time is spent on waiting for rolling.min_ready.
describe("run -- COMMAND", { concurrency: true }, () => {
  for (const line of LINES)
    test(`${line.name} serves with all its workers, and restarts while it serves`, (context) =>
      serveAndRestart(line, context));
});

test("without Envoy, a program that takes no socket is refused, and nothing starts", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "m-"));
  const mark = join(directory.path, "started");
  const { status, stderr } = spawnSync(
    await withoutEnvoy(directory.path),
    ["run", "-n", "2", "--admin-port", "0", "--", "sh", "-c", `touch ${mark}; sleep 9`],
    { encoding: "utf8", env: { ...process.env, PATH } },
  );
  assert.equal(status, 78);
  assert.match(
    stderr,
    /^monoceros: Cannot share a port among workers of "sh": there is no Envoy, and .*\{fd\}.*\n {2}hint: Get one with `pip install monoceros\[proxy\]`/u,
  );
  assert.equal(existsSync(mark), false);
});
