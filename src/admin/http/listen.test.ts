import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createNetServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ControllerError, type ErrorCode } from "../../base/errors.ts";
import { openListener } from "../../runtime/os/linux.ts";
import { findListener, findUnixListener } from "../../runtime/os/procfs.ts";
import { openTcpListener } from "../../runtime/socket/tcpListener.ts";
import { type ListenerFinder, listenOnPort, listenOnSocket, type OpenPort, type OpenSocket } from "./listen.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-listen-"));
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(directory, { recursive: true });
});

const FIND: ListenerFinder = { onPort: findListener, onSocket: findUnixListener };
const OPEN: OpenPort = async (host, port) => (await openTcpListener({ host, port }, 16)).fd;
const OPEN_SOCKET: OpenSocket = (path, backlog) => openListener({ family: "Unix", path }, backlog, 0);
const BLIND: ListenerFinder = { onPort: () => undefined, onSocket: () => undefined };

let directories = 0;
/** A new private directory. */
function fresh(): string {
  const path = join(directory, String(directories++));
  mkdirSync(path, { mode: 0o700 });
  return path;
}

async function withServer(body: (server: Server) => Promise<void>): Promise<void> {
  const server = createServer((_, response) => response.end("here"));
  try {
    await body(server);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

/** A process that listens on what its argument says and has written the address of it. */
async function holder(target: string): Promise<{ pid: number; line: string }> {
  const script = `
    const server = require("node:net").createServer();
    const target = process.argv[1];
    server.listen(target === "port" ? { port: 0, host: "127.0.0.1" } : target, () => {
      const bound = server.address();
      console.log(typeof bound === "string" ? bound : bound.port);
    });
  `;
  const child = spawn(process.execPath, ["-e", script, target], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const [chunk] = (await once(child.stdout, "data")) as [Buffer];
  assert.ok(child.pid !== undefined);
  return { pid: child.pid, line: chunk.toString().trim() };
}

function refusal(code: ErrorCode, message: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof ControllerError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

/** Leaves a socket file on which no process listens. */
function leaveStaleSocket(path: string): void {
  const script = "import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])";
  assert.equal(spawnSync("python3", ["-c", script, path]).status, 0);
  assert.ok(lstatSync(path).isSocket());
}

test("port 0 binds a free port and returns its number", async () => {
  await withServer(async (server) => {
    const port = await listenOnPort(server, 0, "127.0.0.1", OPEN, BLIND);
    assert.ok(port > 0);
    const answer = await fetch(`http://127.0.0.1:${port}/`);
    assert.equal(await answer.text(), "here");
  });
});

test("the error for a port in use names its holder by pid and command", async () => {
  const { pid, line } = await holder("port");
  await withServer(async (server) => {
    await assert.rejects(listenOnPort(server, Number(line), "127.0.0.1", OPEN, FIND), (error) => {
      assert.ok(error instanceof ControllerError && error.hint === "Stop it, or set admin.port to another port.");
      return refusal(
        "PORT_IN_USE",
        new RegExp(
          `^Cannot listen on admin address "127.0.0.1:${line}": pid ${pid} \\(.*createServer.*\\) holds the port$`,
          "su",
        ),
      )(error);
    });
  });
});

test("a port in use is reported even if its holder is unknown", async () => {
  const { line } = await holder("port");
  await withServer(async (server) => {
    const attempt = listenOnPort(server, Number(line), "127.0.0.1", OPEN, BLIND);
    await assert.rejects(attempt, refusal("PORT_IN_USE", /another process holds the port$/u));
  });
});

test("an address of another machine is ADDRESS_UNAVAILABLE", async () => {
  await withServer(async (server) => {
    // 192.0.2.0/24 is reserved for documentation (RFC 5737).
    const attempt = listenOnPort(server, 0, "192.0.2.1", OPEN, BLIND);
    await assert.rejects(attempt, refusal("ADDRESS_UNAVAILABLE", /"192\.0\.2\.1:0": EADDRNOTAVAIL$/u));
  });
});

test("the control socket has mode 0600 and its created directories have mode 0711", async () => {
  await withServer(async (server) => {
    const path = join(fresh(), "a", "b", "control.sock");
    const umask = process.umask(0);
    try {
      const { file, reasons } = await listenOnSocket(server, [path], BLIND, OPEN_SOCKET);
      assert.deepEqual([file?.path, reasons], [path, []]);
      assert.equal(process.umask(), 0);
    } finally {
      process.umask(umask);
    }
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(join(path, "..")).mode & 0o777, 0o711);
    assert.equal(statSync(join(path, "..", "..")).mode & 0o777, 0o711);
  });
});

test("a stale socket is replaced", async () => {
  const path = join(fresh(), "control.sock");
  leaveStaleSocket(path);
  await withServer(async (server) => {
    assert.equal((await listenOnSocket(server, [path], BLIND, OPEN_SOCKET)).file?.path, path);
  });
});

test("a socket in use is kept, and the error names its holder", async () => {
  const path = join(fresh(), "control.sock");
  const { pid } = await holder(path);
  await withServer(async (server) => {
    await assert.rejects(
      listenOnSocket(server, [path], FIND, OPEN_SOCKET),
      refusal(
        "CONTROL_SOCKET_IN_USE",
        new RegExp(`control socket "${path}": pid ${pid} \\(.*\\) listens on it$`, "su"),
      ),
    );
    await assert.rejects(
      listenOnSocket(server, [path], BLIND, OPEN_SOCKET),
      refusal("CONTROL_SOCKET_IN_USE", /another process listens on it$/u),
    );
  });
  assert.ok(lstatSync(path).isSocket());
});

test("a file that is not a socket is never removed", async () => {
  const place = fresh();
  const precious = join(place, "precious");
  writeFileSync(precious, "data");
  const link = join(place, "link");
  symlinkSync(precious, link);
  const dangling = join(place, "dangling");
  symlinkSync(join(place, "nothing"), dangling);
  const folder = join(place, "folder");
  mkdirSync(folder);
  await withServer(async (server) => {
    for (const path of [precious, link, dangling, folder]) {
      await assert.rejects(
        listenOnSocket(server, [path], BLIND, OPEN_SOCKET),
        refusal("CONTROL_SOCKET_UNSAFE", /the file exists and is not a socket$/u),
      );
      assert.ok(lstatSync(path, { throwIfNoEntry: false }) !== undefined, path);
    }
  });
  assert.equal(readFileSync(precious, "utf8"), "data");
});

test("a directory writable by other users is refused unless it is sticky", async () => {
  const open = fresh();
  chmodSync(open, 0o777);
  const sticky = fresh();
  chmodSync(sticky, 0o1777);
  await withServer(async (server) => {
    await assert.rejects(
      listenOnSocket(server, [join(open, "control.sock")], BLIND, OPEN_SOCKET),
      refusal("CONTROL_SOCKET_UNSAFE", /every user may write to the directory "[^"]*"$/u),
    );
    assert.equal(existsSync(join(open, "control.sock")), false);
    const path = join(sticky, "control.sock");
    assert.equal((await listenOnSocket(server, [path], BLIND, OPEN_SOCKET)).file?.path, path);
  });
});

test("a directory reached through another user's symbolic link is refused", {
  skip: process.getuid?.() !== 0,
}, async () => {
  const place = fresh();
  const link = join(place, "link");
  symlinkSync(fresh(), link);
  await withServer(async (server) => {
    lchownSync(link, 65_534, 65_534);
    await assert.rejects(
      listenOnSocket(server, [join(link, "control.sock")], BLIND, OPEN_SOCKET),
      refusal("CONTROL_SOCKET_UNSAFE", /user 65534 owns the symbolic link "[^"]*"$/u),
    );
    lchownSync(link, 0, 0);
    assert.equal(
      (await listenOnSocket(server, [join(link, "control.sock")], BLIND, OPEN_SOCKET)).file?.path,
      join(link, "control.sock"),
    );
  });
});

test("the first usable path is used, and the reasons of the others are returned", async () => {
  const place = fresh();
  const file = join(place, "file");
  writeFileSync(file, "");
  const busy = join(place, "busy.sock");
  const other = createNetServer().listen(busy);
  await once(other, "listening");
  const tooLong = join(place, `${"x".repeat(120)}.sock`);
  const good = join(place, "good.sock");
  await withServer(async (server) => {
    const candidates = [join(file, "control.sock"), busy, tooLong, good, join(place, "unused.sock")];
    const { file: bound, reasons } = await listenOnSocket(server, candidates, BLIND, OPEN_SOCKET);
    assert.equal(bound?.path, good);
    assert.equal(reasons.length, 3);
    assert.match(reasons[0] ?? "", /^.*\/file\/control\.sock: (?:ENOTDIR|EEXIST)/u);
    assert.match(reasons[1] ?? "", /busy\.sock: Cannot listen on control socket .* another process listens on it$/u);
    assert.ok(reasons[2]?.startsWith(`${tooLong}: `));
    assert.equal(server.listening, true);
    assert.equal(existsSync(join(place, "unused.sock")), false);
  });
  other.close();
});

test("if no path is usable, expected reasons are returned too", async () => {
  // Not even root can create a directory there: EPERM, EACCES or, in a container, EROFS.
  const forbidden = "/sys/monoceros-test/control.sock";
  await withServer(async (server) => {
    const { file: bound, reasons } = await listenOnSocket(server, [forbidden], BLIND, OPEN_SOCKET);
    assert.equal(bound, undefined);
    assert.equal(reasons.length, 1);
    assert.match(reasons[0] ?? "", /^\/sys\/monoceros-test\/control\.sock: (?:EPERM|EACCES|EROFS)/u);
    const good = join(fresh(), "good.sock");
    const second = await listenOnSocket(server, [forbidden, good], BLIND, OPEN_SOCKET);
    assert.deepEqual([second.file?.path, second.reasons], [good, []]);
  });
});

test("if no path is usable, only reasons are returned", async () => {
  const file = join(fresh(), "file");
  writeFileSync(file, "");
  await withServer(async (server) => {
    const { file: bound, reasons } = await listenOnSocket(server, [join(file, "a.sock")], BLIND, OPEN_SOCKET);
    assert.equal(bound, undefined);
    assert.equal(reasons.length, 1);
  });
});
