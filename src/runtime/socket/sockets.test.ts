import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { connect, createServer, type NetConnectOpts } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, type TestContext, test } from "node:test";
import { ControllerError, type ErrorCode } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { countOpenFds } from "../os/procfs.ts";
import { parseListen, SharedSockets, type SocketRequest } from "./sockets.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-sockets-"));
after(() => rmSync(directory, { recursive: true }));

/** A log that keeps its lines. */
class MemoryLog implements Logger {
  readonly lines: string[] = [];
  readonly #keep = (message: string) => this.lines.push(message);
  readonly debug = this.#keep;
  readonly info = this.#keep;
  readonly warn = this.#keep;
  readonly error = this.#keep;
}

function requestOf(listen: string, more: Partial<SocketRequest> = {}): SocketRequest {
  return { pool: "web", name: "http", listen, backlog: 64, ...more };
}

async function bound(context: TestContext, ...requests: SocketRequest[]): Promise<SharedSockets> {
  const sockets = await SharedSockets.bind(requests, new MemoryLog());
  context.after(() => sockets[Symbol.dispose]());
  return sockets;
}

function isError(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ControllerError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

async function canConnect(target: NetConnectOpts): Promise<boolean> {
  const socket = connect(target);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

test("addresses are parsed", () => {
  assert.deepEqual(parseListen("0.0.0.0:80"), { kind: "tcp", host: "0.0.0.0", port: 80 });
  assert.deepEqual(parseListen("[::1]:8080"), { kind: "tcp", host: "::1", port: 8080 });
  assert.deepEqual(parseListen(":0"), { kind: "tcp", host: "", port: 0 });
  assert.deepEqual(parseListen("localhost:1"), { kind: "tcp", host: "localhost", port: 1 });
  assert.deepEqual(parseListen("/run/a:1"), { kind: "unix", path: "/run/a:1" });
});

test("IPv4, IPv6, all addresses and a name can be bound, and a port chosen by the kernel is reported", async (context) => {
  const sockets = await bound(
    context,
    ...["127.0.0.1:0", "[::1]:0", ":0", "localhost:0"].map((listen) => requestOf(listen)),
  );
  for (const [index, form] of [
    /^127\.0\.0\.1:(\d+)$/u,
    /^\[::1\]:(\d+)$/u,
    /^\[::\]:(\d+)$/u,
    /^(?:127\.0\.0\.1|\[::1\]):(\d+)$/u,
  ].entries()) {
    const socket = sockets.list()[index];
    assert.ok(socket?.port !== undefined && socket.port > 0);
    assert.equal(Number(form.exec(socket.address)?.[1]), socket.port, socket.address);
  }
  const [ipv4, ipv6, every] = sockets.list().map(({ port }) => port ?? 0);
  assert.ok(await canConnect({ host: "127.0.0.1", port: ipv4 ?? 0 }));
  assert.ok(await canConnect({ host: "::1", port: ipv6 ?? 0 }));
  assert.ok(await canConnect({ host: "127.0.0.1", port: every ?? 0 }), "every address is IPv4 as well");
});

test("descriptors are above those that workers inherit, and are closed on release", async (context) => {
  const before = countOpenFds(process.pid) ?? 0;
  const paths = Array.from({ length: 64 }, (_, index) => join(directory, `many-${index}`));
  const sockets = await bound(context, ...paths.map((path) => requestOf(path)));
  assert.equal(countOpenFds(process.pid), before + 64);
  for (const { fd } of sockets.list()) {
    assert.ok(fd >= 3 + 64);
    assert.match(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"), /flags:\t02000002/u);
  }
  sockets.release("another pool");
  assert.equal(sockets.list().length, 64);
  sockets.release("web");
  assert.deepEqual([sockets.list().length, countOpenFds(process.pid)], [0, before]);
  assert.deepEqual(
    paths.filter((path) => existsSync(path)),
    [],
  );
});

test("a pool inherits its own sockets in the order of the configuration", async (context) => {
  const sockets = await bound(
    context,
    requestOf("127.0.0.1:0", { name: "a" }),
    requestOf("127.0.0.1:0", { pool: "other" }),
    requestOf("127.0.0.1:0", { name: "b" }),
  );
  const [a, , b] = sockets.list();
  const inherited = sockets.inheritedBy("web");
  assert.deepEqual(inherited?.fds, [a?.fd, b?.fd]);
  assert.deepEqual(inherited?.names, ["a", "b"]);
  assert.equal(sockets.inheritedBy("none"), undefined);
});

test("if a port is in use, the sockets bound before it are closed", async (context) => {
  const server = createServer().listen(0, "127.0.0.1");
  context.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const path = join(directory, "given-back.sock");
  const before = countOpenFds(process.pid);
  await assert.rejects(
    SharedSockets.bind([requestOf(path), requestOf(`127.0.0.1:${port}`)], new MemoryLog()),
    isError(
      "PORT_IN_USE",
      /^Cannot listen on "127\.0\.0\.1:\d+" for socket "http" of pool "web": another process holds the port$/u,
    ),
  );
  assert.deepEqual([countOpenFds(process.pid), existsSync(path)], [before, false]);
});

test("addresses that cannot be bound are named with the reason", async () => {
  const attempt = (listen: string) => SharedSockets.bind([requestOf(listen)], new MemoryLog());
  await assert.rejects(attempt("192.0.2.1:0"), isError("ADDRESS_UNAVAILABLE", /EADDRNOTAVAIL$/u));
  await assert.rejects(attempt("no-such-host.invalid:0"), isError("ADDRESS_UNAVAILABLE", /ENOTFOUND|EAI_AGAIN/u));
  await assert.rejects(attempt(`/${"x".repeat(200)}`), isError("ADDRESS_UNAVAILABLE", /ENAMETOOLONG$/u));
  await assert.rejects(attempt(join(directory, "none", "s")), isError("ADDRESS_UNAVAILABLE", /ENOENT$/u));
});

test("a stale socket file is replaced, a socket file in use is kept", async (context) => {
  const path = join(directory, "owned.sock");
  const script = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => console.log("up"))`;
  const owner = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  context.after(() => owner.kill("SIGKILL"));
  await once(owner.stdout, "data");
  await assert.rejects(
    bound(context, requestOf(path)),
    isError("SOCKET_IN_USE", new RegExp(`: pid ${owner.pid} \\(.*\\) listens there$`, "u")),
  );
  owner.kill("SIGKILL");
  await once(owner, "close");
  assert.ok(existsSync(path));
  await bound(context, requestOf(path));
  assert.ok(await canConnect({ path }));
});

test("files and links that are not sockets are never removed", async (context) => {
  const file = join(directory, "file");
  const link = join(directory, "link");
  writeFileSync(file, "precious");
  symlinkSync(file, link);
  for (const path of [file, link, directory])
    await assert.rejects(bound(context, requestOf(path)), isError("ADDRESS_UNAVAILABLE", /is not a socket/u));
  assert.equal(readFileSync(link, "utf8"), "precious");
});

test("closing a socket keeps a file that another process created at its path", async (context) => {
  const path = join(directory, "replaced.sock");
  const sockets = await bound(context, requestOf(path));
  rmSync(path);
  writeFileSync(path, "new");
  sockets[Symbol.dispose]();
  assert.equal(readFileSync(path, "utf8"), "new");
});

test("a backlog that the kernel reduces is logged", async (context) => {
  const log = new MemoryLog();
  const sockets = await SharedSockets.bind([requestOf("127.0.0.1:0", { backlog: 1_000_000 })], log);
  context.after(() => sockets[Symbol.dispose]());
  assert.ok(
    log.lines.some((line) => /^backlog 1000000 of socket "http" of pool "web" is cut to \d+$/u.test(line)),
    log.lines.join("\n"),
  );
});
