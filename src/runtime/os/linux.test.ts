import assert from "node:assert/strict";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import {
  boundPort,
  closeInheritedOnExec,
  openListener,
  openPipe,
  PreparedStrings,
  type ProcessRequest,
  type Reaped,
  reapOne,
  reserveDescriptors,
  SystemCallError,
  spawnProcess,
} from "./linux.ts";
import { readPeer } from "./peerCredentials.ts";

const PATH = new PreparedStrings(["PATH=/usr/bin:/bin"]);

function request(changes: Partial<ProcessRequest>): ProcessRequest {
  const nothing = {
    cwd: undefined,
    stdinFd: undefined,
    stdoutFd: undefined,
    stderrFd: undefined,
  };
  return { sharedEnv: PATH, file: "/bin/sh", argv: ["sh"], env: [], ...nothing, ...changes };
}

async function reap(pid: number): Promise<Reaped["status"]> {
  for (;;) {
    const reaped = reapOne();
    if (reaped?.pid === pid) return reaped.status;
    await turn();
  }
}

/** Runs a shell script and returns what it wrote. */
async function outputOf(script: string, changes: Partial<ProcessRequest> = {}): Promise<string> {
  const { readFd, writeFd } = openPipe();
  const pid = spawnProcess(request({ argv: ["sh", "-c", script], stdoutFd: writeFd, ...changes }));
  closeSync(writeFd);
  await reap(pid);
  const buffer = Buffer.alloc(65_536);
  const text = buffer.toString("utf8", 0, readSync(readFd, buffer));
  closeSync(readFd);
  return text.trim();
}

test("a spawned process leads its own session and group, with no signal blocked or ignored and an empty stdin", async () => {
  const status = await outputOf(
    "cat; cat /proc/self/status; ps -o sid=,pgid=,pid= -p $$ 2>/dev/null || true; echo leader $(cut -d' ' -f5,6 /proc/$$/stat) $$",
  );
  const [pgrp, session, pid] = /leader (\d+) (\d+) (\d+)/u.exec(status)?.slice(1) ?? [];
  assert.equal(pgrp, pid);
  assert.equal(session, pid);
  assert.match(status, /SigBlk:\t0+\n/u);
  assert.match(status, /SigIgn:\t0+\n/u);
});

test("stdout of a process is a pipe that it can reopen as /dev/stdout", async () => {
  assert.equal(await outputOf("echo again > /dev/stdout"), "again");
});

test("a process inherits no descriptor except 0, 1 and 2", async () => {
  const { readFd, writeFd } = openPipe();
  closeInheritedOnExec();
  assert.equal(
    // biome-ignore lint/suspicious/noTemplateCurlyInString: shell, not JavaScript.
    await outputOf("for f in /proc/$$/fd/*; do n=${f##*/}; [ $n -lt 3 ] || [ ! -e $f ] || echo $n; done"),
    "",
  );
  closeSync(readFd);
  closeSync(writeFd);
});

test("arguments and environment are passed byte for byte", async () => {
  const { readFd, writeFd } = openPipe();
  const pid = spawnProcess(
    request({ argv: ["sh", "-c", 'printf %s "$1$KEY"', "sh", "é \"'\n"], env: ["KEY=vålue="], stdoutFd: writeFd }),
  );
  closeSync(writeFd);
  await reap(pid);
  const buffer = Buffer.alloc(100);
  assert.equal(buffer.toString("utf8", 0, readSync(readFd, buffer)), "é \"'\nvålue=");
  closeSync(readFd);
});

test("cwd applies to the child alone", async () => {
  assert.equal(await outputOf("pwd", { cwd: "/proc" }), "/proc");
  assert.notEqual(process.cwd(), "/proc");
});

test("exit codes and signals are distinguished", async () => {
  assert.deepEqual(await reap(spawnProcess(request({ argv: ["sh", "-c", "exit 7"] }))), { kind: "code", code: 7 });
  assert.deepEqual(await reap(spawnProcess(request({ argv: ["sh", "-c", "kill -SEGV $$"] }))), {
    kind: "signal",
    signal: "SIGSEGV",
  });
});

test("a failed exec throws an error with the name of errno and leaves no process", () => {
  assert.throws(
    () => spawnProcess(request({ file: "/nonexistent" })),
    (error: unknown) => error instanceof SystemCallError && error.code === "ENOENT",
  );
  assert.equal(reapOne(), undefined);
});

test("errors and signals with two names get the common one", async () => {
  assert.equal(new SystemCallError("fork", constants.errno.EAGAIN).code, "EAGAIN");
  const pid = spawnProcess(request({ file: "/bin/sh", argv: ["sh", "-c", "ulimit -c 0; kill -ABRT $$"] }));
  assert.deepEqual(await reap(pid), { kind: "signal", signal: "SIGABRT" });
});

test("inherited descriptors become 3, 4 and so on, even if their numbers overlap", async () => {
  const sockets = [0, 1, 2].map(() => openListener({ family: "IPv4", host: "127.0.0.1", port: 0 }, 1, 6));
  const inodes = sockets.map((fd) => readlinkSync(`/proc/self/fd/${fd}`));
  assert.equal(
    await outputOf("readlink /proc/$$/fd/3 /proc/$$/fd/4 /proc/$$/fd/5; test -e /proc/$$/fd/6 || echo end", {
      inheritedFds: sockets,
    }),
    [...inodes, "end"].join("\n"),
  );
  for (const fd of sockets) closeSync(fd);
});

test("a failed listener throws an error with the name of errno and leaves no descriptor", () => {
  const before = readdirSync("/proc/self/fd").length;
  const first = openListener({ family: "IPv4", host: "127.0.0.1", port: 0 }, 1, 100);
  assert.ok(first >= 100);
  const port = boundPort(first);
  for (const [host, at, code] of [
    ["127.0.0.1", port, "EADDRINUSE"],
    ["192.0.2.1", 0, "EADDRNOTAVAIL"],
    ["no address", 0, "EINVAL"],
  ] as const)
    assert.throws(
      () => openListener({ family: "IPv4", host, port: at }, 1, 3),
      (error: unknown) => error instanceof SystemCallError && error.code === code,
    );
  closeSync(first);
  assert.equal(readdirSync("/proc/self/fd").length, before);
});

test("reserving room for descriptors keeps none open", () => {
  const before = readdirSync("/proc/self/fd").length;
  reserveDescriptors(1500);
  assert.equal(readdirSync("/proc/self/fd").length, before);
  assert.ok(Number(/^FDSize:\t(\d+)/mu.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) > 1500);
});

test("the peer of a Unix socket is the connected process; other descriptors have no peer", async () => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-peer-"));
  const server = createServer();
  try {
    server.listen(join(directory, "s.sock"));
    await once(server, "listening");
    const client = connect(join(directory, "s.sock"));
    const [accepted] = (await once(server, "connection")) as [Socket & { readonly _handle: { readonly fd: number } }];
    const { pid, uid, gid } = readPeer(accepted._handle.fd) ?? {};
    assert.deepEqual([pid, uid, gid], [process.pid, process.getuid?.(), process.getgid?.()]);
    client.destroy();
    accepted.destroy();
    assert.equal(readPeer(-1), undefined);
    const file = openSync("/dev/null", "r");
    assert.equal(readPeer(file), undefined);
    closeSync(file);
  } finally {
    server.close();
    rmSync(directory, { recursive: true });
  }
});
