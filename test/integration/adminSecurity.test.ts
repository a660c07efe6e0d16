/** Access control of the real executable's admin port and control socket. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { connect, type Socket } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { EventRecord } from "../../src/admin/api.ts";
import { ControllerUnderTest, poolOf } from "../support/controller.ts";

const SLEEPERS = poolOf({ name: "web", replicas: 2, exec: "sleep", args: ["100000"], startup_wait_time: "0s" });
const TOKEN = "correct-horse-battery-staple";
const ENV_SECRET = "an-environment-value-of-the-controller";

/** A non-loopback address of this machine. Traffic to it stays on the machine. */
const OWN_ADDRESS = Object.values(networkInterfaces())
  .flat()
  .find((each) => each?.family === "IPv4" && !each.internal)?.address;

interface Answer {
  readonly status: number;
  readonly body: string;
}

interface Call {
  readonly headers?: Record<string, string>;
  readonly body?: string;
  readonly host?: string;
}

/** Sends one request over TCP, or over the control socket if `where` is a path. */
async function ask(where: number | string, method: string, path: string, call: Call = {}): Promise<Answer> {
  const to = typeof where === "number" ? { host: call.host ?? "127.0.0.1", port: where } : { socketPath: where };
  const message = request({ ...to, method, path, headers: call.headers ?? {}, agent: false });
  message.end(call.body);
  const [response] = (await once(message, "response")) as [IncomingMessage];
  let body = "";
  for await (const chunk of response.setEncoding("utf8")) body += chunk;
  return { status: response.statusCode ?? 0, body };
}

interface Scene extends AsyncDisposable {
  readonly controller: ControllerUnderTest;
  readonly port: number;
  readonly tokenFile: string;
}

async function startScene(): Promise<Scene> {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-security-"));
  const tokenFile = join(directory, "token");
  writeFileSync(tokenFile, `${TOKEN}\n`, { mode: 0o600 });
  const controller = await ControllerUnderTest.start({
    workers: SLEEPERS,
    args: ["-d"],
    admin: `  token_file: ${tokenFile}`,
    address: "0.0.0.0",
    env: { SECRET: ENV_SECRET },
  });
  await controller.ready();
  const line = controller.stderr.find((each) => each.includes("admin listens"));
  const port = Number(/address=\S+:(\d+)/u.exec(line ?? "")?.[1]);
  return {
    controller,
    port,
    tokenFile,
    [Symbol.asyncDispose]: async () => {
      await controller[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true });
    },
  };
}

/** Opens connections that send only `bytes`. */
async function openMany(where: number | string, count: number, bytes: string): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for (let index = 0; index < count; index++) {
    const socket = typeof where === "number" ? connect(where, "127.0.0.1") : connect(where);
    socket.on("error", () => {});
    sockets.push(socket);
    await once(socket, "connect");
    if (bytes !== "") socket.write(bytes);
  }
  return sockets;
}

function codeOf({ body }: Answer): string {
  return (JSON.parse(body) as { error: { code: string } }).error.code;
}

describe("access control of the admin servers", () => {
  test("requests with a foreign Host or Origin are denied, even over loopback or with a token", async () => {
    await using scene = await startScene();
    const { controller, port } = scene;
    for (const path of ["/v1/status", "/v1/logs", "/v1/openapi.json", "/index.html"]) {
      const answer = await ask(port, "GET", path, { headers: { host: `rebound.example:${port}` } });
      assert.deepEqual([answer.status, codeOf(answer)], [403, "ACCESS_DENIED"], path);
    }
    const shell = await ask(port, "GET", "/", { headers: { host: `rebound.example:${port}` } });
    assert.equal(shell.status, 200, "with a token configured, the dashboard page is served and asks for the token");
    assert.ok(!/web-0|config\.yaml/u.test(shell.body), "the page contains no data");
    const authorization = `Bearer ${TOKEN}`;
    const attacks: Record<string, string>[] = [
      { origin: "http://evil.example" },
      { origin: "null" },
      { "sec-fetch-site": "cross-site" },
      { host: "rebound.example", origin: "http://rebound.example" },
      { authorization, origin: "http://evil.example" },
    ];
    for (const headers of attacks) {
      for (const path of ["/v1/shutdown", "/v1/pools/web/stop", "/v1/workers/web-0/restart"])
        assert.equal((await ask(port, "POST", path, { headers })).status, 403, `${path} ${JSON.stringify(headers)}`);
    }
    const metrics = async (headers: Record<string, string>) => (await ask(port, "GET", "/metrics", { headers })).status;
    assert.equal(await metrics({ host: "rebound.example" }), 200, "metrics need no authorization");
    assert.equal(
      await metrics({ origin: "http://evil.example" }),
      403,
      "metrics are denied to web pages of other origins",
    );
    assert.ok(!controller.events.some((event) => event.kind === "audited"));
    assert.equal((await ask(port, "POST", "/v1/workers/web-0/restart")).status, 202, "loopback is authorised");
  });

  test("other addresses need the token for the API, and a new token in the file is valid at once [D4]", {
    skip: OWN_ADDRESS === undefined,
  }, async () => {
    await using scene = await startScene();
    const { controller, port, tokenFile } = scene;
    const host = OWN_ADDRESS ?? "";
    const status = async (authorization?: string) =>
      (await ask(port, "GET", "/v1/status", { host, headers: authorization === undefined ? {} : { authorization } }))
        .status;
    assert.equal(await status(), 401);
    for (const wrong of [
      "Bearer",
      "Bearer wrong",
      `Bearer ${TOKEN}x`,
      `Basic ${TOKEN}`,
      TOKEN,
      `Bearer ${TOKEN.slice(1)}`,
    ])
      assert.equal(await status(wrong), 401, wrong);
    const spoofed = await ask(port, "GET", "/v1/status", { host, headers: { host: `localhost:${port}` } });
    assert.equal(spoofed.status, 401, "a loopback Host does not authorise");
    assert.equal(await status(`Bearer ${TOKEN}`), 200);
    assert.equal((await ask(port, "GET", "/health", { host })).status, 200);

    writeFileSync(`${tokenFile}.new`, "another-token-of-enough-length", { mode: 0o600 });
    renameSync(`${tokenFile}.new`, tokenFile);
    assert.deepEqual(
      [await status(`Bearer ${TOKEN}`), await status("Bearer another-token-of-enough-length")],
      [401, 200],
    );
    const order = await ask(port, "POST", "/v1/pools/web/restart", {
      host,
      headers: { authorization: "Bearer another-token-of-enough-length" },
    });
    assert.equal(order.status, 202);
    const { message } = await controller.event((event) => event.kind === "audited");
    assert.equal(message, 'the token requested: restart pool "web"');
  });

  test("each change emits an audit event with the requesting user and process", async () => {
    await using scene = await startScene();
    const { controller, port } = scene;
    await ask(controller.socket, "POST", "/v1/pools/web/scale", { body: '{"replicas": 3}' });
    const who = `uid ${process.getuid?.()}, pid ${process.pid}`;
    const isAudit = (event: EventRecord) => event.kind === "audited" && event.who === who;
    assert.equal((await controller.event(isAudit)).message, `${who} requested: scale pool "web" to 3`);
    await ask(port, "POST", "/v1/workers/web-0/stop");
    const local = await controller.event((event) => event.kind === "audited" && event.who === "loopback");
    assert.equal(local.message, 'loopback requested: stop worker "web-0"');
    assert.ok(
      controller.stderr.some((line) => line.includes(`${who} requested: `)),
      "the audit event is logged",
    );
  });

  test("answers contain no token, no environment value and no path", async () => {
    await using scene = await startScene();
    const { controller, port, tokenFile } = scene;
    await ask(port, "POST", "/v1/workers/web-0/restart", { headers: { authorization: `Bearer ${TOKEN}` } });
    const texts: string[] = [];
    for (const path of ["/v1/status", "/v1/events?follow=0", "/v1/operations", "/metrics", "/health", "/nothing"])
      texts.push((await ask(controller.socket, "GET", path)).body);
    texts.push((await ask(port, "GET", "/v1/status", { headers: { host: "evil.example" } })).body);
    texts.push((await ask(port, "GET", "/v1/status", { headers: { authorization: `Bearer ${TOKEN}x` } })).body);
    texts.push(controller.stderr.join("\n"));
    for (const text of texts) for (const secret of [TOKEN, ENV_SECRET]) assert.ok(!text.includes(secret), text);
    for (const text of texts.slice(0, -1))
      assert.ok(!text.includes(tokenFile) && !text.includes(controller.socket), text);
  });

  test("path traversal and malformed JSON are rejected without effect [D4]", async () => {
    await using scene = await startScene();
    const { controller, port } = scene;
    for (const where of [port, controller.socket]) {
      for (const path of [
        "/../../../../etc/passwd",
        "/v1/../../etc/passwd",
        "/v1/%2e%2e/%2e%2e/etc/passwd",
        "/v1/operations/..%2f..%2fetc%2fpasswd",
        "/v1/pools/..%2f..%2f/restart",
        "/v1/workers/web-0%00/stop",
        "/v1/workers/%c0%ae/stop",
        "//v1/shutdown",
        "/v1\\shutdown",
        "/metrics/../v1/shutdown/",
      ]) {
        const answer = await ask(where, path.includes("pools") || path.includes("workers") ? "POST" : "GET", path);
        assert.ok([400, 404, 405].includes(answer.status), `${path} ${answer.status}`);
        assert.ok(!answer.body.includes("root:"));
      }
      for (const body of [
        "{",
        '{"replicas":',
        "[".repeat(60_000),
        '{"replicas": 1e999}',
        "\u0000",
        '{"replicas": {"a": 1}}',
      ]) {
        const answer = await ask(where, "POST", "/v1/pools/web/scale", { body });
        assert.deepEqual([answer.status, codeOf(answer)], [400, "REQUEST_INVALID"], body.slice(0, 30));
      }
    }
    const { pools, phase } = await controller.status();
    assert.deepEqual([phase, pools[0]?.replicas, pools[0]?.ready], ["running", 2, 2]);
  });

  test("a thousand idle or slow clients do not block Prometheus or the CLI", async () => {
    await using scene = await startScene();
    const { controller, port } = scene;
    const { socket } = controller;
    const held: Socket[] = [];
    try {
      for (const where of [port, socket]) {
        for (const bytes of [
          "",
          "GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
          "POST /v1/shutdown HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1",
        ])
          held.push(...(await openMany(where, where === port && bytes === "" ? 1000 : 300, bytes)));
        assert.equal((await ask(port, "GET", "/metrics")).status, 200);
        assert.equal((await ask(socket, "GET", "/v1/status")).status, 200);
      }
      assert.equal((await controller.status()).phase, "running");
    } finally {
      for (const each of held) each.destroy();
    }
  });

  test("the server closes a connection whose request never ends", async () => {
    await using scene = await startScene();
    const [slow] = await openMany(scene.port, 1, "GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    assert.ok(slow !== undefined);
    const drip = setInterval(() => slow.write("a"), 100);
    // Not once(), because bytes in flight may turn the close into a reset.
    await new Promise((resolve) => slow.resume().once("close", resolve));
    clearInterval(drip);
  });

  test("a symbolic link at the control socket's path is neither followed nor removed", async () => {
    await using scene = await startScene();
    const directory = mkdtempSync(join(tmpdir(), "monoceros-link-"));
    try {
      const link = join(directory, "link.sock");
      symlinkSync(scene.controller.socket, link);
      const { ending, stderr } = await ControllerUnderTest.run({ workers: SLEEPERS, socket: link });
      assert.equal(ending.code, 1);
      assert.match(stderr.join("\n"), /not a socket/u);
      const second = await ControllerUnderTest.run({ workers: SLEEPERS, socket: scene.controller.socket });
      assert.equal(second.ending.code, 1);
      assert.match(second.stderr.join("\n"), new RegExp(`pid ${scene.controller.pid} .*listens on it`, "u"));
      assert.equal((await scene.controller.status()).phase, "running");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("an empty or missing token file is a configuration error", async () => {
    for (const tokenFile of ["/nonexistent/token", "/dev/null"]) {
      const { ending, stderr } = await ControllerUnderTest.run({
        workers: SLEEPERS,
        admin: `  token_file: ${tokenFile}`,
      });
      assert.equal(ending.code, 78);
      assert.match(stderr.join("\n"), /admin\.token_file: .*TOKEN_FILE_INVALID/u);
    }
  });
});
