import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync } from "node:fs";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { freePort } from "../../../test/support/ports.ts";
import type { AttemptOutcome } from "../../core/policy/probe.ts";
import { outcomeOfError, type ProbeAddress } from "./attempt.ts";
import { attemptGrpc } from "./grpcProbe.ts";
import { httpMethod } from "./httpProbe.ts";
import { isConnectedToItself, tcpMethod } from "./tcpProbe.ts";

const LONG_MS = 10_000;
const SUCCESS: AttemptOutcome = { kind: "success" };

/** The words tell the same as what is counted. */
function failure(reason: string): AttemptOutcome {
  if (/refused|does not exist/u.test(reason)) return { kind: "failure", reason, how: "refused" };
  return reason.startsWith("no answer within")
    ? { kind: "failure", reason, how: "timeout" }
    : { kind: "failure", reason };
}

function outcomeOf(start: (settle: (outcome: AttemptOutcome) => void) => Disposable): Promise<AttemptOutcome> {
  return new Promise((done) => start(done));
}

function http(address: ProbeAddress, path = "/", timeoutMs = LONG_MS): Promise<AttemptOutcome> {
  return outcomeOf((settle) => httpMethod.attempt(address, { path }, timeoutMs, settle));
}

function tcp(address: ProbeAddress, timeoutMs = LONG_MS): Promise<AttemptOutcome> {
  return outcomeOf((settle) => tcpMethod.attempt(address, {}, timeoutMs, settle));
}

/** Listens on a free port of loopback, or on a Unix socket, until the end of the test. */
async function listening(context: TestContext, server: Server, where: "tcp" | "unix" = "tcp"): Promise<ProbeAddress> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  context.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  if (where === "tcp") {
    await once(server.listen(0, "127.0.0.1"), "listening");
    return { port: (server.address() as AddressInfo).port };
  }
  const directory = mkdtempSync(join(tmpdir(), "probe-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "worker.sock");
  await once(server.listen(path), "listening");
  return { path };
}

function web(context: TestContext, answer: RequestListener, where?: "tcp" | "unix"): Promise<ProbeAddress> {
  return listening(context, createHttpServer(answer), where);
}

function raw(context: TestContext, accept: (socket: Socket) => void): Promise<ProbeAddress> {
  return listening(context, createServer(accept));
}

for (const where of ["tcp", "unix"] as const) {
  test(`HTTP over ${where}: 200 to 399 is success, any other status is a failure that names it`, async (context) => {
    const address = await web(
      context,
      (request, response) => response.writeHead(Number(request.url?.slice(1))).end("x"),
      where,
    );
    for (const status of [200, 204, 299, 301, 302, 399]) assert.deepEqual(await http(address, `/${status}`), SUCCESS);
    for (const status of [400, 404, 500, 503])
      assert.deepEqual(await http(address, `/${status}`), failure(`HTTP ${status}`));
  });

  test(`TCP over ${where}: a connection is success`, async (context) => {
    const accepted = Promise.withResolvers<Socket>();
    const address = await listening(context, createServer(accepted.resolve), where);
    assert.deepEqual(await tcp(address), SUCCESS);
    const socket = await accepted.promise;
    await once(socket.resume(), "close");
  });
}

test("a probe sends its user agent, the host localhost and connection: close", async (context) => {
  const asked = Promise.withResolvers<readonly (string | undefined)[]>();
  const address = await web(context, ({ method, url, headers }, response) => {
    asked.resolve([method, url, headers.host, headers["user-agent"], headers.connection]);
    response.end();
  });
  await http(address, "/healthz?full=ü");
  assert.deepEqual(await asked.promise, ["GET", "/healthz?full=%C3%BC", "localhost", "monoceros-probe", "close"]);
});

test("configured headers add to or override the default headers, regardless of case", async (context) => {
  const asked = Promise.withResolvers<readonly string[]>();
  const address = await web(context, ({ rawHeaders }, response) => {
    asked.resolve(rawHeaders);
    response.end();
  });
  const headers = { Host: "app.example:8443", "User-Agent": "kube-probe/1.0", "X-Token": "t" };
  await outcomeOf((settle) => httpMethod.attempt(address, { path: "/", headers }, LONG_MS, settle));
  assert.deepEqual((await asked.promise).slice(0, 8), [
    "accept",
    "*/*",
    "Host",
    "app.example:8443",
    "User-Agent",
    "kube-probe/1.0",
    "X-Token",
    "t",
  ]);
});

test("a redirect is not followed", async (context) => {
  const urls: (string | undefined)[] = [];
  const address = await web(context, ({ url }, response) => {
    urls.push(url);
    response.writeHead(302, { location: "/elsewhere" }).end();
  });
  assert.deepEqual(await http(address, "/first"), SUCCESS);
  assert.deepEqual(urls, ["/first"]);
});

test("a refused connection, an error response and a timeout have different reasons", async (context) => {
  const port = await freePort();
  assert.deepEqual(await http({ port }), failure("connection refused (ECONNREFUSED)"));
  assert.deepEqual(await tcp({ port }), failure("connection refused (ECONNREFUSED)"));
  const silent = await raw(context, () => {});
  assert.deepEqual(await http(silent, "/", 50), failure("no answer within 50ms"));
  const path = join(tmpdir(), "nobody-is-there.sock");
  assert.deepEqual(await http({ path }), failure("the socket does not exist (ENOENT)"));
  assert.deepEqual(await tcp({ path }), failure("the socket does not exist (ENOENT)"));
});

test("an incomplete response is a failure", async (context) => {
  const halfHead = await raw(context, (socket) => socket.write("HTTP/1.1 200 OK\r\nX: "));
  assert.deepEqual(await http(halfHead, "/", 50), failure("no answer within 50ms"));
  const halfBody = await raw(context, (socket) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"));
  assert.deepEqual(await http(halfBody, "/", 50), failure("no answer within 50ms"));
  const cut = await raw(context, (socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"));
  assert.deepEqual(await http(cut), failure("connection reset (ECONNRESET)"));
  const closed = await raw(context, (socket) => socket.destroy());
  assert.deepEqual(await http(closed), failure("connection reset (ECONNRESET)"));
});

test("a response that is not HTTP is a failure with the parser's code", async (context) => {
  const address = await raw(context, (socket) => socket.end("SSH-2.0-OpenSSH\r\n"));
  assert.match(JSON.stringify(await http(address)), /"failure","reason":"HPE_/u);
});

test("an endless body is not read to its end, and the connection is closed", async (context) => {
  const closed = Promise.withResolvers<void>();
  const address = await web(context, (request, response) => {
    request.socket.on("close", () => closed.resolve());
    const flood = () => {
      while (!response.destroyed && response.write("x".repeat(4096)));
    };
    response.on("drain", flood);
    flood();
  });
  assert.deepEqual(await http(address), SUCCESS);
  await closed.promise;
});

test("a disposed attempt closes its connection and reports nothing", async (context) => {
  const accepted = Promise.withResolvers<Socket>();
  const address = await raw(context, accepted.resolve);
  let settled = 0;
  const attempt = httpMethod.attempt(address, { path: "/" }, LONG_MS, () => settled++);
  const socket = await accepted.promise;
  attempt[Symbol.dispose]();
  await once(socket.resume(), "close");
  attempt[Symbol.dispose]();
  assert.equal(settled, 0);
});

test("a connection of the probe to itself counts as refused", async (context) => {
  const port = await freePort();
  const socket = connect({ host: "127.0.0.1", port, localAddress: "127.0.0.1", localPort: port });
  context.after(() => socket.destroy());
  await once(socket, "connect");
  assert.equal(isConnectedToItself(socket), true);
  const address = await raw(context, () => {});
  assert.ok("port" in address);
  const proper = connect({ host: "127.0.0.1", port: address.port });
  context.after(() => proper.destroy());
  await once(proper, "connect");
  assert.equal(isConnectedToItself(proper), false);
});

test("running out of descriptors does not count as a failure of the worker", async (context) => {
  const address = await web(context, (_request, response) => response.end());
  const prlimit = (...args: string[]) =>
    execFileSync("prlimit", ["--pid", String(process.pid), ...args], { encoding: "utf8" }).trim();
  const limit = prlimit("--nofile", "--noheadings", "--output", "SOFT");
  const highest = Math.max(...readdirSync("/proc/self/fd").map(Number));
  const fillers: number[] = [];
  // The spawn that restores the limit needs several descriptors, which only the fillers free.
  prlimit(`--nofile=${highest + 32}:`);
  try {
    for (;;) fillers.push(openSync("/dev/null", "r"));
  } catch {
    // Full: every descriptor up to the limit is open.
  }
  const grpc = outcomeOf((settle) => attemptGrpc(address, { service: undefined }, LONG_MS, settle));
  const outcomes = Promise.all([http(address), tcp(address), grpc]);
  const got = await outcomes.finally(() => {
    for (const fd of fillers) closeSync(fd);
    prlimit(`--nofile=${limit}:`);
  });
  assert.deepEqual(
    got,
    [1, 2, 3].map(() => ({ kind: "error", reason: "EMFILE" })),
  );
  assert.deepEqual(await http(address), SUCCESS);
});

test("errors for lack of resources are the controller's, connection errors are the worker's", () => {
  const kindOf = (code: string) => outcomeOfError(Object.assign(new Error("/secret/path"), { code }));
  for (const code of ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EADDRNOTAVAIL"])
    assert.deepEqual(kindOf(code), { kind: "error", reason: code });
  for (const code of ["ECONNREFUSED", "ECONNRESET", "EPIPE", "EAGAIN", "ENOENT", "ETIMEDOUT"])
    assert.equal(kindOf(code).kind, "failure");
  assert.deepEqual(outcomeOfError(new TypeError("/secret/path")), failure("TypeError"));
});
