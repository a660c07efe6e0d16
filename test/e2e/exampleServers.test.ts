/** The examples with real servers serve with all their workers and stop gracefully. Each run uses its own ports. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { cp, mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { eventually, isAlive, listDescendants, MONOCEROS } from "../support/controller.ts";
import { startLoad } from "../support/load.ts";
import { describeLoad } from "../support/loadReport.ts";
import { freePorts } from "../support/ports.ts";
import { killAll, statusCode } from "../support/watch.ts";

/** Installed by scripts/exampleServers.sh. */
const PYTHON_BIN = resolve("node_modules/.tools/venv/bin");
const PATH = [PYTHON_BIN, resolve("node_modules/.bin"), process.env["PATH"] ?? ""].join(delimiter);

interface Example {
  readonly file: string;
  /** The serving pool; undefined if responses do not identify workers, so that only their success is checked. */
  readonly pool: string | undefined;
  readonly path: string;
  readonly needs?: "python" | "go";
}

const EXAMPLES: readonly Example[] = [
  { file: "run.yaml", pool: "web", path: "/sleep?ms=2" },
  { file: "httpbin.yaml", pool: undefined, path: "/get?show=this", needs: "python" },
  { file: "proxy-gunicorn.yaml", pool: "wsgi", path: "/?ms=2", needs: "python" },
  { file: "proxy-uvicorn.yaml", pool: "asgi", path: "/?ms=2", needs: "python" },
  { file: "proxy-node.yaml", pool: "node", path: "/?ms=2" },
  { file: "sockets-gunicorn.yaml", pool: "wsgi", path: "/?ms=20", needs: "python" },
  { file: "sockets-uvicorn.yaml", pool: "asgi", path: "/?ms=20", needs: "python" },
  { file: "sockets-go.yaml", pool: "go", path: "/?ms=20", needs: "go" },
  { file: "reuseport-node.yaml", pool: "node", path: "/?ms=2" },
];

const REPLICAS = 4;

function whyNot(needs: Example["needs"]): string | undefined {
  if (needs === "python" && !existsSync(join(PYTHON_BIN, "gunicorn")))
    return "the Python servers could not be installed";
  if (needs === "go" && spawnSync("go", ["version"]).error !== undefined) return "there is no go";
  return undefined;
}

/** Responses until every worker has sent one. The kernel or Envoy chooses the worker of a new connection. */
async function drive(example: Example, port: number): Promise<void> {
  for (const isConnectionPerRequest of [false, true]) {
    const load = startLoad({
      target: { port },
      connections: 12,
      isConnectionPerRequest,
      requests: [{ path: example.path }],
    });
    const isEnough = (): boolean => {
      const { workers, requests } = load.report;
      const needed = example.pool === undefined || !isConnectionPerRequest ? 0 : REPLICAS;
      return requests >= 200 && Object.keys(workers).length >= needed;
    };
    try {
      await eventually(() => (isEnough() || load.report.failed > 0 ? true : undefined), "every worker has answered");
    } finally {
      await load.stop();
    }
    const { report } = load;
    assert.equal(report.failed, 0, describeLoad(report));
    for (const worker of Object.keys(report.workers)) assert.match(worker, new RegExp(`^${example.pool}-`, "u"));
  }
}

for (const example of EXAMPLES) {
  test(`${example.file} serves with all its workers and stops gracefully`, async (context: TestContext) => {
    const reason = whyNot(example.needs);
    if (reason !== undefined) {
      context.skip(reason);
      return;
    }
    await using directory = await mkdtempDisposable(join(tmpdir(), "m-"));
    const goServer = join(directory.path, "server-go");
    if (example.needs === "go") {
      const built = spawnSync("go", ["build", "-o", goServer, "examples/servers/server.go"], { encoding: "utf8" });
      assert.equal(built.status, 0, built.stderr);
    }
    const ports = await freePorts(10);
    const child = spawn(MONOCEROS, ["-c", join("examples", example.file), "-d"], {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        PATH,
        ADMIN_PORT: "0",
        ADMIN_ADDRESS: "127.0.0.1",
        MONOCEROS_SOCKET: join(directory.path, "control.sock"),
        LISTENER_ADDRESS: "127.0.0.1",
        LISTENER_PORT: String(ports),
        ENVOY_ADMIN_PORT: String(ports + 1),
        START_PORT: String(ports + 2),
        GO_SERVER: goServer,
        HOME: directory.path,
      },
    });
    const closed = once(child, "close");
    const stderr: string[] = [];
    createInterface({ input: child.stderr }).on("line", (line) => stderr.push(line));
    let descendants: number[] = [];
    try {
      await eventually(() => {
        assert.equal(child.exitCode, null, stderr.join("\n"));
        return stderr.some((line) => line.includes("controller is ready")) ? true : undefined;
      }, "the controller is ready");
      // Workers that open the port themselves are ready when they run; the servers need a moment more.
      await eventually(
        async () => ((await statusCode(ports, example.path).catch(() => 0)) === 200 ? true : undefined),
        "an answer",
      );
      await drive(example, ports);
      descendants = listDescendants(child.pid ?? 0);
      assert.ok(descendants.length >= REPLICAS);
      child.kill("SIGTERM");
      const [code] = await closed;
      assert.equal(code, 0, stderr.join("\n"));
      await eventually(() => (descendants.some(isAlive) ? undefined : true), "nothing is left", 5000);
    } finally {
      child.kill("SIGKILL");
      await closed;
      killAll(descendants.filter(isAlive));
    }
  });
}

for (const file of readdirSync("examples/tutorial").filter((each) => each.endsWith(".yaml"))) {
  test(`tutorial/${file} serves the application of the tutorial`, async (context: TestContext) => {
    if (!existsSync(join(PYTHON_BIN, "fastapi"))) {
      context.skip("the Python servers could not be installed");
      return;
    }
    await using directory = await mkdtempDisposable(join(tmpdir(), "m-"));
    await cp("examples/tutorial", directory.path, { recursive: true });
    const ports = await freePorts(10);
    const config = join(directory.path, file);
    const text = await readFile(config, "utf8");
    // The tutorial has fixed ports.
    const own = text.replaceAll("8000", String(ports)).replaceAll("start_port: 9090", `start_port: ${ports + 1}`);
    await writeFile(config, `admin: { port: 0, address: 127.0.0.1 }\n${own}`);
    const child = spawn(MONOCEROS, ["-c", config], {
      cwd: directory.path,
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        PATH,
        MONOCEROS_SOCKET: join(directory.path, "control.sock"),
        PYTHONDONTWRITEBYTECODE: "1",
      },
    });
    const closed = once(child, "close");
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk;
    });
    try {
      const body = await eventually(async () => {
        assert.equal(child.exitCode, null, stderr);
        const response = await fetch(`http://127.0.0.1:${ports}/`).catch(() => undefined);
        return response?.status === 200 ? await response.text() : undefined;
      }, "an answer");
      assert.match(body, /^(?:hello|good morning) from web-\d\n$/u);
    } finally {
      child.kill("SIGTERM");
      const [code] = await closed;
      assert.equal(code, 0, stderr);
    }
  });
}
