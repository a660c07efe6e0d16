/** Shared sockets: the controller binds them, and all workers accept from one queue that outlives each worker. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type NetConnectOpts } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, PROCESSBIN, poolOf } from "../support/controller.ts";
import { Load, newOutcome, requestMany, requestOnce } from "../support/newConnections.ts";
import { freePort } from "../support/ports.ts";
import { happened, killAll, logged, readProc, said } from "../support/watch.ts";

const REPLICAS = 4;

function scratchOf(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-sockets-"));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A pool of processbin behind one socket. */
function webPool(listen: string, more: Readonly<Record<string, unknown>> = {}): string {
  return poolOf({
    name: "web",
    replicas: REPLICAS,
    exec: PROCESSBIN,
    sockets: [{ name: "http", listen }],
    ...more,
  });
}

/** The address of a shared socket, which a controller with `-d` logs. */
async function addressOf(controller: ControllerUnderTest, name = "http"): Promise<NetConnectOpts> {
  const line = await logged(controller, "a shared socket listens", `socket=${name} `);
  const address = /address=(\S+)/u.exec(line)?.[1] ?? "";
  if (address.startsWith("/")) return { path: address };
  return { host: "127.0.0.1", port: Number(address.slice(address.lastIndexOf(":") + 1)) };
}

/** Waits until all workers of the pool serve. */
async function allServe(controller: ControllerUnderTest): Promise<void> {
  for (let slot = 0; slot < REPLICAS; slot++) await said(controller, `web-${slot}`, "ready");
}

/** Kinds of sockets: TCP with a port chosen by the kernel, or a Unix path. */
const KINDS = [
  { kind: "TCP", listenIn: () => "127.0.0.1:0" },
  { kind: "Unix", listenIn: (directory: string) => join(directory, "web.sock") },
] as const;

for (const { kind, listenIn } of KINDS) {
  test(`shared socket: queued connections are answered after all workers were killed (${kind})`, async (context) => {
    await using controller = await ControllerUnderTest.start({
      workers: webPool(listenIn(scratchOf(context))),
      args: ["-d"],
    });
    await allServe(controller);
    const target = await addressOf(controller);
    const pids = (await controller.status()).pools[0]?.workers.flatMap(({ pid }) => pid ?? []) ?? [];
    assert.equal(pids.length, REPLICAS);
    // Suspended workers accept nothing, so all requests wait in the queue.
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    for (const pid of pids)
      await eventually(() => (/^State:\s+T/mu.test(readProc(pid, "status")) ? true : undefined), `${pid} is stopped`);
    const outcome = newOutcome();
    const requests = Array.from({ length: 100 }, () => requestOnce(target, outcome));
    killAll(pids);
    await Promise.all(requests);
    assert.deepEqual([outcome.answered, outcome.refused, outcome.cut], [100, 0, 0], outcome.errors.join());
  });

  test(`shared socket: no connection is refused while workers are killed one after another under load (${kind})`, async (context) => {
    await using controller = await ControllerUnderTest.start({
      workers: webPool(listenIn(scratchOf(context))),
      args: ["-d"],
    });
    await allServe(controller);
    const clients = 8;
    const load = new Load(await addressOf(controller), clients);
    const kills = 2 * REPLICAS;
    for (let nth = 0; nth < kills; nth++) {
      const id = `web-${nth % REPLICAS}`;
      const incarnation = Math.floor(nth / REPLICAS) + 1;
      await said(controller, id, "ready", incarnation);
      const before = load.outcome.answered;
      await eventually(() => (load.outcome.answered > before + 50 ? true : undefined), "the load continues");
      process.kill(await controller.pidOf(id), "SIGKILL");
      await happened(controller, "exited", (event) => event.slot === nth % REPLICAS, incarnation);
    }
    const { refused, cut, errors } = await load.stop();
    assert.equal(refused, 0, errors.join());
    // A killed worker loses only connections that it has accepted, at most one per client.
    assert.ok(cut <= kills * clients, `${cut} cut`);
  });

  test(`shared socket: no request fails while workers are repeatedly replaced at their lifespan (${kind})`, async (context) => {
    await using controller = await ControllerUnderTest.start({
      workers: webPool(listenIn(scratchOf(context)), {
        limits: { lifespan: "1s", jitter_ratio: 0.1 },
        rolling: { max_surge: 1 },
      }),
      args: ["-d"],
    });
    await allServe(controller);
    const load = new Load(await addressOf(controller), 8);
    // Each worker is replaced about five times.
    await happened(controller, "stopped", () => true, 20);
    const { answered, refused, cut, errors } = await load.stop();
    assert.deepEqual([refused, cut], [0, 0], errors.join());
    assert.ok(answered > 0);
  });
}

/** Prints the descriptors that the shell inherited. Those opened for the listing no longer exist when tested. */
const LIST_FDS =
  // biome-ignore lint/suspicious/noTemplateCurlyInString: shell, not JavaScript.
  'n=; for f in /proc/$$/fd/*; do [ ! -e $f ] || n="$n ${f##*/}"; done; echo "fds$n"';

interface Surroundings {
  readonly pid: number;
  readonly env: Readonly<Record<string, string>>;
  readonly fds: Readonly<Record<string, string>>;
}

test("shared socket: workers inherit only descriptors 3 and 4, with LISTEN_FDNAMES and their own pid in LISTEN_PID", async (context) => {
  const directory = scratchOf(context);
  // A shell, because Node.js opens descriptors of its own.
  const script = `${LIST_FDS}
    echo "flags $(grep flags /proc/$$/fdinfo/3)"
    echo "arg $1"; exec ${PROCESSBIN} --print-env`;
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      exec: "/bin/sh",
      args: ["-c", script, "sh", "fd={{.Fd}}"],
      env: { LISTEN_FDS: "99", LISTEN_PID: "1", KEPT: "é $(x) 'y' \"z\"" },
      sockets: [
        { name: "http", listen: "127.0.0.1:0" },
        { name: "admin", listen: join(directory, "admin.sock") },
      ],
    }),
    args: ["-d"],
  });
  await said(controller, "web-0", "fds 0 1 2 3 4");
  const flags = await eventually(
    () => controller.stdout.map((line) => /flags flags:\\t(\d+)/u.exec(line)?.[1]).find((text) => text !== undefined),
    "flags",
  );
  assert.equal(Number.parseInt(flags, 8) & 0o2004000, 0, "neither close-on-exec nor non-blocking");
  await said(controller, "web-0", "arg fd=3");
  const { surroundings } = (await said(controller, "web-0", "surroundings")) as unknown as {
    surroundings: Surroundings;
  };
  const { env, fds, pid } = surroundings;
  assert.equal(pid, await controller.pidOf("web-0"));
  assert.deepEqual(
    [env["LISTEN_FDS"], env["LISTEN_FDNAMES"], env["LISTEN_PID"], env["KEPT"]],
    ["2", "http:admin", String(pid), "é $(x) 'y' \"z\""],
  );
  const http = await addressOf(controller);
  assert.ok("port" in http);
  const inodes = readFileSync("/proc/net/tcp", "latin1");
  const port = http.port.toString(16).toUpperCase().padStart(4, "0");
  const row = inodes.split("\n").find((line) => line.includes(`0100007F:${port} 00000000:0000 0A`)) ?? "";
  assert.equal(fds["3"], `socket:[${row.trim().split(/\s+/u)[9]}]`);
  const holders = readdirSync(`/proc/${controller.pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${controller.pid}/fd/${fd}`);
    } catch {
      return "";
    }
  });
  assert.ok(
    holders.includes(fds["3"] ?? "?") && holders.includes(fds["4"] ?? "?"),
    "the controller keeps both sockets",
  );
});

test("shared socket: a pool without sockets has no such descriptor and no LISTEN_ variable", async (context) => {
  await using controller = await ControllerUnderTest.start({
    workers: [
      webPool(join(scratchOf(context), "web.sock"), { replicas: 1 }),
      poolOf({
        name: "job",
        exec: "/bin/sh",
        args: ["-c", `${LIST_FDS}; echo "listen $(env | grep -c ^LISTEN_)"; exec sleep 1000`],
      }),
    ].join("\n"),
  });
  await said(controller, "job-0", "fds 0 1 2");
  await said(controller, "job-0", "listen 0");
});

test("shared socket: environment variables that shells do not pass on are kept, and LISTEN_PID is correct", async (context) => {
  const exported = { "BASH_FUNC_greet%%": "() {  echo hello\n}" };
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      replicas: 2,
      exec: PROCESSBIN,
      args: ["--print-env"],
      env: { "dotted.name": "kept", LINES: "two\nlines" },
      sockets: [{ name: "http", listen: join(scratchOf(context), "web.sock") }],
    }),
    env: exported,
  });
  for (const id of ["web-0", "web-1"]) {
    const record = (await said(controller, id, "surroundings")) as unknown as { surroundings: Surroundings };
    const { env, pid } = record.surroundings;
    assert.deepEqual(
      [env["dotted.name"], env["LINES"], env["BASH_FUNC_greet%%"], env["LISTEN_FDS"], env["LISTEN_PID"]],
      ["kept", "two\nlines", exported["BASH_FUNC_greet%%"], "1", String(pid)],
    );
  }
  assert.deepEqual(
    controller.stderr.filter((line) => line.includes("LISTEN_PID")),
    [],
  );
});

test("shared socket: new connections are refused at shutdown while the last requests are still being answered", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: webPool("127.0.0.1:0", { replicas: 1 }),
    args: ["-d"],
  });
  await said(controller, "web-0", "ready");
  const target = await addressOf(controller);
  const slow = connect(target);
  slow.setEncoding("utf8").write("GET /sleep?ms=1000 HTTP/1.1\r\nHost: test\r\n\r\n");
  // The answer to a later request shows that the slow one was accepted.
  assert.equal((await requestMany(target, 1, 1)).answered, 1);
  controller.child.kill("SIGTERM");
  await happened(controller, "stopping");
  await eventually(async () => ((await requestMany(target, 1, 1)).refused === 1 ? true : undefined), "refused");
  assert.equal(controller.child.exitCode, null);
  const [answer] = (await once(slow, "data")) as [string];
  assert.match(answer, /^HTTP\/1\.1 200/u);
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
});

test("shared socket: the same port and path can be bound again at once after a shutdown or SIGKILL of the controller", async (context) => {
  const directory = scratchOf(context);
  const port = await freePort();
  const path = join(directory, "web.sock");
  const workers = webPool("", {
    sockets: [
      { name: "http", listen: `127.0.0.1:${port}` },
      { name: "unix", listen: path },
    ],
  });
  for (const end of ["SIGTERM", "SIGKILL", "SIGTERM"] as const) {
    await using controller = await ControllerUnderTest.start({ workers });
    await allServe(controller);
    for (const target of [{ host: "127.0.0.1", port }, { path }])
      assert.equal((await requestMany(target, 20, 4)).answered, 20);
    controller.child.kill(end);
    await controller.ended;
    assert.equal(existsSync(path), end === "SIGKILL", `socket file after ${end}`);
  }
});

/** Runs a controller whose start must fail before it starts a worker, and returns its stderr. */
async function failedStart(listen: string, directory: string): Promise<string> {
  const marker = join(directory, "started");
  const { ending, stderr } = await ControllerUnderTest.run({
    workers: poolOf({ name: "web", exec: "touch", args: [marker], sockets: [{ name: "http", listen }] }),
  });
  assert.deepEqual(ending, { code: 1, signal: null }, stderr.join("\n"));
  assert.equal(existsSync(marker), false, "no worker starts");
  return stderr.join("\n");
}

test("shared socket: a start fails if the port or path is in use, and the error names the owner's pid and command", async (context) => {
  const directory = scratchOf(context);
  const port = await freePort();
  const path = join(directory, "web.sock");
  await using first = await ControllerUnderTest.start({
    workers: webPool("", {
      replicas: 1,
      sockets: [
        { name: "http", listen: `127.0.0.1:${port}` },
        { name: "unix", listen: path },
      ],
    }),
  });
  await said(first, "web-0", "ready");
  const holder = new RegExp(`pid (?:${first.pid}|${await first.pidOf("web-0")}) \\(`, "u");
  const taken = await failedStart(`127.0.0.1:${port}`, directory);
  assert.match(taken, /Cannot listen on .* for socket "http" of pool "web": .* holds the port/u);
  assert.match(taken, holder);
  const inUse = await failedStart(path, directory);
  assert.match(inUse, /Cannot listen on .* for socket "http" of pool "web": .* listens there/u);
  assert.match(inUse, holder);
  for (const target of [{ host: "127.0.0.1", port }, { path }])
    assert.equal((await requestMany(target, 1, 1)).answered, 1);
});

test("shared socket: a start fails if the path is a regular file, which is kept, or if the address does not exist", async (context) => {
  const directory = scratchOf(context);
  const path = join(directory, "precious");
  writeFileSync(path, "precious");
  assert.match(await failedStart(path, directory), /is not a socket/u);
  assert.equal(readFileSync(path, "utf8"), "precious");
  assert.match(await failedStart("192.0.2.1:0", directory), /EADDRNOTAVAIL/u);
  assert.match(
    await failedStart(join(directory, "missing", "web.sock"), directory),
    /ENOENT.*The directory must exist/su,
  );
});

test("shared socket: a failure after binding leaves no socket file behind", async (context) => {
  const directory = scratchOf(context);
  const path = join(directory, "web.sock");
  const taken = createServer().listen(0, "127.0.0.1");
  context.after(() => taken.close());
  await once(taken, "listening");
  const { port } = taken.address() as { port: number };
  const { ending } = await ControllerUnderTest.run({ workers: webPool(path), port });
  assert.deepEqual(ending, { code: 1, signal: null });
  assert.equal(existsSync(path), false);
});

test("shared socket: a backlog above net.core.somaxconn causes a warning", async (context) => {
  await using controller = await ControllerUnderTest.start({
    workers: webPool("", {
      replicas: 1,
      sockets: [{ name: "http", listen: join(scratchOf(context), "web.sock"), backlog: 1_000_000 }],
    }),
  });
  const limit = readFileSync("/proc/sys/net/core/somaxconn", "utf8").trim();
  await logged(controller, "backlog 1000000", `is cut to ${limit}`);
});

const PYTHON_SERVER = `
import http.server, json, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"worker_id": os.environ["MULTIPROCESS_WORKER_ID"]}, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
assert os.environ["LISTEN_PID"] == str(os.getpid())
server = http.server.ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
print("serving", flush=True)
server.serve_forever()
`;

const NODE_SERVER = `
const server = require("node:http").createServer((request, response) => {
  response.end(JSON.stringify({ worker_id: process.env.MULTIPROCESS_WORKER_ID }));
});
server.listen({ fd: 3 }, () => console.log("serving"));
`;

for (const [language, command] of [
  ["Python", ["python3", "-c", PYTHON_SERVER]],
  ["Node.js", [process.execPath, "-e", NODE_SERVER]],
] as const) {
  test(`shared socket: the standard HTTP server of ${language} serves from descriptor 3`, async (context) => {
    const [exec, ...args] = command;
    if (spawnSync(exec, ["--version"]).error !== undefined) {
      context.skip(`${exec} is not installed`);
      return;
    }
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({ name: "web", replicas: 2, exec, args, sockets: [{ name: "http", listen: "127.0.0.1:0" }] }),
      args: ["-d"],
    });
    for (const id of ["web-0", "web-1"]) await said(controller, id, "serving");
    const { answered, byWorker } = await requestMany(await addressOf(controller), 200, 8);
    assert.equal(answered, 200);
    assert.ok(
      [...byWorker.keys()].every((id) => id.startsWith("web-")),
      [...byWorker.keys()].join(),
    );
  });
}
