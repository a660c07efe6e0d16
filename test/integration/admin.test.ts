/** The admin port and the control socket of the real executable: their API, and their robustness against bad clients. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import type { EventRecord } from "../../src/admin/api.ts";
import { ControllerUnderTest, eventually, isAlive, MONOCEROS, poolOf } from "../support/controller.ts";

const IS_ROOT = process.getuid?.() === 0;
const SLEEPERS = poolOf({ name: "web", replicas: 2, exec: "sleep", args: ["100000"], startup_wait_time: "0s" });

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** Sends one request over TCP, or over the control socket if `where` is a path. */
function ask(where: number | string, method: string, path: string, body: string | Buffer = ""): Promise<Answer> {
  const target = typeof where === "number" ? { host: "127.0.0.1", port: where } : { socketPath: where };
  return new Promise((done, fail) => {
    const call = request({ ...target, method, path, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("error", fail);
      response.on("end", () => done({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
    });
    // A server that rejects the body may close the connection before all of it is sent. Then its answer counts.
    call.on("error", (error) => setImmediate(fail, error));
    call.end(body);
  });
}

/** The controller's admin port, which it logs with -d. */
async function portOf(controller: ControllerUnderTest): Promise<number> {
  const find = () => controller.stderr.map((line) => /admin listens address=\S+:(\d+)/u.exec(line)?.[1]).find(Boolean);
  await controller.until(() => find() !== undefined, "the admin port is logged");
  return Number(find());
}

async function startWithPort(workers = SLEEPERS): Promise<{ controller: ControllerUnderTest; port: number }> {
  const controller = await ControllerUnderTest.start({ workers, args: ["-d"] });
  return { controller, port: await portOf(controller) };
}

function errorOf(answer: Answer): { code: string; message: string } {
  return JSON.parse(answer.body).error;
}

describe("admin", () => {
  test("the admin port serves metrics, health and, over loopback, the API", async () => {
    const { controller, port } = await startWithPort();
    await using _ = controller;
    await controller.ready();
    for (const path of [
      "/health",
      "/health/live",
      "/health/ready",
      "/metrics",
      "/health?verbose=1",
      "/v1/status",
      "/",
    ]) {
      assert.equal((await ask(port, "GET", path)).status, 200, path);
      assert.equal((await ask(port, "HEAD", path)).status, 200, path);
    }
    for (const path of ["/index.html", "/debug/vars", "//v1/status"]) {
      const answer = await ask(port, "GET", path);
      assert.deepEqual([answer.status, errorOf(answer).code], [404, "REQUEST_INVALID"], path);
    }
    assert.equal((await ask(port, "POST", "/metrics")).status, 405);
    assert.equal((await controller.status()).pools[0]?.ready, 2);
  });

  test("/health and /health/ready are 503 below desired_healthy_percentage, and /health/live is always 200", async () => {
    const { controller, port } = await startWithPort(
      poolOf({
        name: "web",
        replicas: 2,
        exec: "sleep",
        args: ["100000"],
        desired_healthy_percentage: 100,
        startup_wait_time: "0s",
      }),
    );
    await using _ = controller;
    await controller.ready();
    await controller.call("POST", "/v1/workers/web-1/stop");
    await controller.event((event) => event.kind === "stopped");
    assert.equal((await ask(port, "GET", "/health")).status, 503);
    assert.equal((await ask(port, "GET", "/health/ready")).status, 503);
    assert.equal((await ask(port, "GET", "/health/live")).status, 200);
    await controller.call("POST", "/v1/workers/web-1/start");
    await controller.event((event) => event.kind === "ready" && event.slot === 1 && event.incarnation === 2);
    assert.equal((await ask(port, "GET", "/health")).status, 200);
  });

  test("the control socket has mode 0600 in a directory of mode 0711 and is removed at shutdown [D4]", async () => {
    const parent = mkdtempSync(join(tmpdir(), "monoceros-mode-"));
    try {
      const socket = join(parent, "private", "deep", "control.sock");
      await using controller = await ControllerUnderTest.start({ workers: SLEEPERS, socket });
      assert.equal(statSync(socket).mode & 0o7777, 0o600);
      assert.ok(statSync(socket).isSocket());
      assert.equal(statSync(join(parent, "private", "deep")).mode & 0o7777, 0o711);
      assert.equal((await controller.stop()).code, 0);
      assert.ok(!existsSync(socket));
    } finally {
      rmSync(parent, { recursive: true });
    }
  });

  test("a worker that is stopped and started through the API keeps its id", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const pid = await controller.pidOf("web-1");
    const stopped = await controller.call("POST", "/v1/workers/web-1/stop");
    assert.equal(stopped.status, 202);
    assert.deepEqual(Object.keys(JSON.parse(stopped.body)), ["accepted", "operation", "since"]);
    await controller.event((event) => event.kind === "stopped");
    assert.ok(!isAlive(pid));
    const down = await controller.worker("web-1");
    assert.deepEqual([down.phase, down.pid, down.last_exit, down.restarts], ["down", null, "SIGTERM", 0]);
    assert.equal((await controller.call("POST", "/v1/workers/web-1/start")).status, 202);
    await controller.event((event) => event.kind === "ready" && event.slot === 1 && event.incarnation === 2);
    assert.notEqual(await controller.pidOf("web-1"), pid);
  });

  test("POST /v1/shutdown shuts down gracefully with exit code 0", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const pids = [await controller.pidOf("web-0"), await controller.pidOf("web-1")];
    assert.equal((await controller.call("POST", "/v1/shutdown")).status, 202);
    assert.equal((await controller.ended).code, 0);
    for (const pid of pids) assert.ok(!isAlive(pid));
  });

  test("/v1/events returns past events from a sequence number on, and then follows new events", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    await controller.ready();
    const read = async (query: string) =>
      (await controller.call("GET", `/v1/events?follow=0${query}`)).body
        .split("\n")
        .filter((line) => line.startsWith("data: "))
        .map((line) => JSON.parse(line.slice(6)) as EventRecord);
    const all = await read("");
    assert.equal(all[0]?.kind, "controller_started");
    assert.deepEqual(
      all.map((event) => event.seq),
      all.map((_, index) => index + 1),
    );
    assert.deepEqual(await read(`&since=${all.length - 1}`), all.slice(-1));
    assert.deepEqual(await read("&since=1000000"), []);

    const [response] = (await once(
      request({ socketPath: controller.socket, path: `/v1/events?since=${all.length}`, agent: false }).end(),
      "response",
    )) as [IncomingMessage];
    assert.equal(response.headers["content-type"], "text/event-stream");
    const lines = createInterface({ input: response });
    lines.on("error", () => {});
    const followed: EventRecord[] = [];
    const seen = new Promise<void>((done) => {
      lines.on("line", (line) => {
        if (!line.startsWith("data: ")) return;
        followed.push(JSON.parse(line.slice(6)));
        if (followed.at(-1)?.kind === "stopped") done();
      });
    });
    await controller.call("POST", "/v1/workers/web-0/stop");
    await seen;
    response.destroy();
    const kinds = followed.map((event) => event.kind).filter((kind) => kind !== "pool_degraded");
    assert.deepEqual(kinds.slice(0, 5), ["audited", "operation_started", "stopping", "exited", "stopped"]);
    assert.equal(followed[0]?.seq, all.length + 1);
  });

  test("an unknown path or worker is 404 and a wrong method 405 with Allow, both with an error code", async () => {
    await using controller = await ControllerUnderTest.start({ workers: SLEEPERS });
    const { socket } = controller;
    const unknown = await ask(socket, "POST", "/v1/workers/web-7/stop");
    assert.equal(unknown.status, 404);
    assert.equal(errorOf(unknown).code, "WORKER_UNKNOWN");
    assert.match(errorOf(unknown).message, /"web-7"/u);
    for (const path of [
      "/v1/workers/..%2f..%2fetc/stop",
      "/v1/workers/%ff/start",
      "/v1/workers//stop",
      "/v2/status",
      "/v1/status/",
    ]) {
      assert.equal((await ask(socket, path.includes("workers") ? "POST" : "GET", path)).status, 404, path);
    }
    for (const [method, path, allow] of [
      ["DELETE", "/v1/status", "GET"],
      ["GET", "/v1/shutdown", "POST"],
      ["GET", "/v1/workers/web-0/stop", "POST"],
    ] as const) {
      const answer = await ask(socket, method, path);
      assert.deepEqual([answer.status, answer.headers.allow], [405, allow]);
      assert.equal(errorOf(answer).code, "REQUEST_INVALID");
    }
  });

  test("a body larger than 64 KiB is rejected with 413 and has no effect", async () => {
    const { controller, port } = await startWithPort();
    await using _ = controller;
    await controller.ready();
    for (const where of [controller.socket, port]) {
      const socket = typeof where === "number" ? connect(where, "127.0.0.1") : connect(where);
      let text = "";
      socket.on("data", (chunk) => {
        text += chunk;
      });
      // Only one byte too many, because a server that closes with unread bytes may reset the connection before its answer.
      socket.write(`POST /v1/shutdown HTTP/1.1\r\nHost: x\r\nContent-Length: ${1 << 20}\r\n\r\n`);
      socket.write(Buffer.alloc(65_537, "x"));
      await once(socket, "end");
      assert.match(text, /^HTTP\/1\.1 413 /u);
      assert.match(text, /"code":"REQUEST_INVALID"/u);
      socket.destroy();
      await ask(where, "POST", "/v1/shutdown", Buffer.alloc(8 << 20, "x")).catch(() => {});
    }
    assert.equal((await controller.status()).phase, "running");
    assert.equal((await ask(controller.socket, "POST", "/v1/workers/web-0/stop", Buffer.alloc(1000, "x"))).status, 202);
  });

  test("clients that never finish a request or send garbage do not affect other clients", async () => {
    const { controller, port } = await startWithPort();
    await using _ = controller;
    await controller.ready();
    const sockets: Socket[] = [];
    const send = async (where: number | string, bytes: string | Buffer) => {
      const socket = typeof where === "number" ? connect(where, "127.0.0.1") : connect(where);
      socket.on("error", () => {});
      sockets.push(socket);
      await once(socket, "connect");
      socket.write(bytes);
      return socket;
    };
    try {
      for (const where of [port, controller.socket]) {
        for (let index = 0; index < 50; index++) await send(where, "GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ");
        for (const garbage of [
          Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0xff, 0x00, 0x0a, 0x0a]),
          Buffer.alloc(100_000, 0xff),
          "GET / HTTP/9.9\r\n\r\n",
          "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
          "GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n",
          "POST /v1/shutdown HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          `GET /${"a".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
        ]) {
          const socket = await send(where, garbage);
          socket.resume();
          socket.end();
          await new Promise((done) => socket.once("close", done));
        }
      }
      assert.equal((await ask(port, "GET", "/health")).status, 200);
      assert.equal((await ask(port, "GET", "/metrics")).status, 200);
      assert.equal((await controller.status()).phase, "running");
      assert.ok(!controller.stderr.join("\n").includes("bug"));
    } finally {
      for (const socket of sockets) socket.destroy();
    }
  });

  test("a log follower that does not read uses bounded memory and does not affect other clients", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({
        name: "web",
        replicas: 1,
        exec: "sh",
        args: ["-c", "exec yes 'a line that fills the buffers of the follower'"],
      }),
      stdout: "ignore",
    });
    const [response] = (await once(
      request({ socketPath: controller.socket, path: "/v1/logs", agent: false }).end(),
      "response",
    )) as [IncomingMessage];
    response.pause();
    const rssKilobytes = () =>
      Number(/^VmRSS:\s+(\d+)/mu.exec(readFileSync(`/proc/${controller.pid}/status`, "utf8"))?.[1]);
    const before = rssKilobytes();
    const bytes = 'monoceros_log_bytes_total{pool="web",stream="stdout"}';
    await eventually(async () => ((await controller.metric(bytes)) > 100e6 ? true : undefined), "100 MB have passed");
    const grown = rssKilobytes() - before;
    assert.ok(grown < 60_000, `${grown} kB more; the limit of a follower is 4 MiB`);
    const status = await eventually(() => controller.status(), "an answer");
    assert.equal(status.phase, "running");
    response.destroy();
  });

  test("a start fails if the control socket's path is a file, a directory or a symlink, which is kept", async () => {
    const directory = mkdtempSync(join(tmpdir(), "monoceros-path-"));
    try {
      const target = join(directory, "target");
      writeFileSync(target, "precious");
      const paths: Record<string, string> = {
        file: join(directory, "file"),
        directory: join(directory, "dir"),
        link: join(directory, "link"),
      };
      writeFileSync(paths["file"] ?? "", "mine");
      mkdirSync(paths["directory"] ?? "");
      symlinkSync(target, paths["link"] ?? "");
      for (const [what, socket] of Object.entries(paths)) {
        const { ending, stderr } = await ControllerUnderTest.run({ workers: SLEEPERS, socket });
        assert.equal(ending.code, 1, what);
        assert.match(stderr.join("\n"), /CONTROL_SOCKET_UNSAFE|not a socket/u, what);
      }
      assert.ok(lstatSync(paths["link"] ?? "").isSymbolicLink());
      assert.ok(lstatSync(paths["file"] ?? "").isFile());
      assert.ok(lstatSync(paths["directory"] ?? "").isDirectory());
      assert.ok(lstatSync(target).isFile());
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("without a writable directory for the control socket the controller logs a warning and runs", async () => {
    const directory = mkdtempSync(join(tmpdir(), "monoceros-nowhere-"));
    const config = join(directory, "config.yaml");
    writeFileSync(config, `admin: {port: 0, address: 127.0.0.1}\nsupervisor:\n  workers:\n${SLEEPERS}\n`);
    chmodSync(directory, 0o555);
    // The controller's user cannot create directories in $TMPDIR, /run or $XDG_RUNTIME_DIR.
    const command = IS_ROOT
      ? ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", MONOCEROS]
      : [MONOCEROS];
    const [file = MONOCEROS, ...args] = [...command, "-c", config, "-d"];
    const child = spawn(file, args, {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        PATH: process.env["PATH"],
        TMPDIR: join(directory, "no", "such"),
        XDG_RUNTIME_DIR: join(directory, "none"),
      },
    });
    const closed = once(child, "close");
    try {
      let stderr = "";
      child.stderr.setEncoding("utf8");
      const up = new Promise<void>((done, fail) => {
        child.stderr.on("data", (chunk: string) => {
          stderr += chunk;
          if (stderr.includes("controller is ready")) done();
        });
        child.once("exit", () => fail(new Error(`the controller exited: ${stderr}`)));
      });
      await up;
      assert.match(stderr, /running without a control socket/u);
      const port = Number(/admin listens address=\S+:(\d+)/u.exec(stderr)?.[1]);
      assert.equal((await ask(port, "GET", "/health")).status, 200);
    } finally {
      child.kill("SIGTERM");
      await closed;
      chmodSync(directory, 0o755);
      rmSync(directory, { recursive: true });
    }
  });
});
