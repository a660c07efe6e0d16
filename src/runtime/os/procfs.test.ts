import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import {
  countOpenFds,
  exactEnvironment,
  findListener,
  findUnixListener,
  listChildren,
  listDescendants,
  listPids,
  parseStat,
  readCommandLine,
  readEnvironmentVariable,
  readSoftNofile,
  readStat,
} from "./procfs.ts";

const NOBODY = 2 ** 22 + 1;
const directory = mkdtempSync(join(tmpdir(), "monoceros-procfs-"));
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) {
    child.kill("SIGKILL");
    // Ends what a child has started: it reads from this pipe.
    child.stdin?.destroy();
  }
  rmSync(directory, { recursive: true });
});

/** A process that runs until the end of the tests, once it has written its first line, which is returned with its pid. */
async function run(
  file: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ pid: number; line: string }> {
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...env } });
  children.push(child);
  const [chunk] = (await once(child.stdout, "data")) as [Buffer];
  assert.ok(child.pid !== undefined);
  return { pid: child.pid, line: chunk.toString().trim() };
}

test("a process is a zombie only if it has no other threads", () => {
  const stat = (threads: number) =>
    parseStat(Buffer.from(`77 (a) Z 10 77 78 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 ${threads} 0 123456 1000000 250`));
  assert.equal(stat(1)?.state, "Z");
  assert.equal(stat(2)?.state, "S");
});

test("a process whose main thread has exited counts as alive", async () => {
  // The second thread reports once the kernel shows the main thread as a zombie.
  const script = `
import ctypes, os, threading, sys
def live():
    while b") Z " not in open(f"/proc/self/task/{os.getpid()}/stat", "rb").read(): os.sched_yield()
    os.write(1, b"ended\\n")
    os.read(0, 1)
    os._exit(0)
threading.Thread(target=live).start()
ctypes.CDLL(None).pthread_exit(None)
`;
  const { pid } = await run("python3", ["-c", script]);
  assert.equal(readStat(pid)?.state, "S");
});

test("a command with spaces and parentheses does not shift the fields of stat", () => {
  const fields = ["S", 10, 77, 78, 0, -1, 4194560, 1, 2, 3, 4, 50, 60, 7, 8, 20, 0, 1, 0, 123_456, 1_000_000, 250];
  assert.deepEqual(parseStat(Buffer.from(`77 (a) b (c d)) ${fields.join(" ")} 18446744073709551615 1 1\n`)), {
    pid: 77,
    command: "a) b (c d)",
    state: "S",
    ppid: 10,
    processGroup: 77,
    session: 78,
    cpuTicks: 110,
    reapedTicks: 15,
    startTicks: 123_456,
    virtualBytes: 1_000_000,
    rssPages: 250,
  });
});

test("a text that is not a stat is undefined", () => {
  for (const text of ["", "77 no parentheses S 1", ")("]) assert.equal(parseStat(Buffer.from(text)), undefined, text);
});

test("the stat of this process has its parent and its start", () => {
  const stat = readStat(process.pid);
  assert.equal(stat?.pid, process.pid);
  assert.equal(stat?.ppid, process.ppid);
  assert.ok((stat?.startTicks ?? 0) > 0);
  assert.ok((stat?.rssPages ?? 0) > 1000);
  assert.ok(listPids().includes(process.pid));
  assert.ok(listPids().every(Number.isSafeInteger));
});

test("the stat of a process is read whatever name the process has", async () => {
  for (const name of ["plain", "a) b (c d)", "größe"]) {
    const { pid } = await run("sh", ["-c", 'printf %s "$0" > /proc/$$/comm; echo up; read -r line', name]);
    const stat = readStat(pid);
    assert.deepEqual([stat?.pid, stat?.ppid, stat?.command], [pid, process.pid, name]);
    assert.deepEqual([readStat(pid, pid)?.command, readStat(pid, pid)?.startTicks], [name, stat?.startTicks]);
  }
});

test("readers return nothing for a process that does not exist", () => {
  assert.equal(readStat(NOBODY), undefined);
  assert.equal(readCommandLine(NOBODY), undefined);
  assert.equal(readEnvironmentVariable(NOBODY, "PATH"), undefined);
  assert.equal(readSoftNofile(NOBODY), undefined);
  assert.equal(countOpenFds(NOBODY), undefined);
  assert.deepEqual(listDescendants(NOBODY), []);
});

test("the environment a process was started with is read by exact name", async () => {
  const { pid } = await run("sh", ["-c", "echo up; read -r line"], { MARK: "a=b c", MARKED: "no", EMPTY: "" });
  assert.equal(readEnvironmentVariable(pid, "MARK"), "a=b c");
  assert.equal(readEnvironmentVariable(pid, "EMPTY"), "");
  assert.equal(readEnvironmentVariable(pid, "MAR"), undefined);
});

test("a command line is printable and limited in length; without one it is the name in brackets", async () => {
  const { pid } = await run("sh", ["-c", "echo up; read -r line", "x".repeat(500)]);
  const line = readCommandLine(pid) ?? "";
  assert.ok(line.startsWith("sh -c echo up; read -r line xxx"));
  assert.equal(line.length, 200);
  const kernelThread = listPids().find((each) => readStat(each)?.ppid === 2);
  if (kernelThread !== undefined) assert.match(readCommandLine(kernelThread) ?? "", /^\[.+\]$/u);
});

test("a command line keeps non-ASCII characters", async () => {
  const { pid } = await run("sh", ["-c", "echo up; read -r line", "größe-мир"]);
  assert.match(readCommandLine(pid) ?? "", /größe-мир$/u);
});

test("the soft limit of open files is read as a number or as unlimited", async () => {
  const { pid } = await run("sh", ["-c", "ulimit -S -n 123; echo up; read -r line"]);
  assert.equal(readSoftNofile(pid), 123);
});

test("open descriptors are counted", () => {
  const before = countOpenFds(process.pid) ?? 0;
  assert.ok(before > 3);
});

test("children and descendants are found, nearest first", async () => {
  const { pid, line } = await run("sh", ["-c", "exec 3<&0; sh -c 'echo $$; read -r line <&3' & wait"]);
  const grandchild = Number(line);
  assert.ok(listChildren().includes(pid));
  assert.ok(!listChildren().includes(grandchild));
  assert.deepEqual(listDescendants(pid), [grandchild]);
  const own = listDescendants(process.pid);
  assert.ok(own.indexOf(pid) >= 0 && own.indexOf(pid) < own.indexOf(grandchild));
});

const SERVER = 'require("node:net").createServer().listen(process.argv[1], () => console.log("up"))';
const PORT_SERVER = `
  const server = require("node:net").createServer();
  server.listen(0, process.argv[1], () => console.log(server.address().port));
`;

test("the holder of a TCP port is found, on IPv4 and IPv6", async (context) => {
  for (const address of ["127.0.0.1", "::1"]) {
    const { pid, line } = await run(process.execPath, ["-e", PORT_SERVER, address]).catch(() => ({ pid: 0, line: "" }));
    if (line === "") {
      context.diagnostic(`${address} is not there`);
      continue;
    }
    const holder = findListener(Number(line));
    assert.equal(holder?.pid, pid, address);
    assert.match(holder?.command ?? "", /createServer/u);
  }
});

test("a port that only this process holds has no holder", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  assert.equal(findListener(port), undefined);
  server.close();
  await once(server, "close");
  assert.equal(findListener(port), undefined);
});

test("the holder of a Unix socket is found by its path", async () => {
  for (const name of ["plain.sock", "with space.sock", "größe.sock"]) {
    const path = join(directory, name);
    assert.equal(findUnixListener(path), undefined);
    const { pid } = await run(process.execPath, ["-e", SERVER, path]);
    assert.equal(findUnixListener(path)?.pid, pid, name);
  }
});

test("the environment keeps bytes that Node.js replaces, and reflects later changes", () => {
  const environ = Buffer.from(
    "A=plain\0B=caf\xe9\0caf\xe9=name\0GONE=x\0CHANGED=old\0A=second\0no equals\0=odd\0__proto__=p\0E=a=b\0",
    "latin1",
  );
  const seen = { A: "plain", B: "caf\ufffd", CHANGED: "new", ADDED: "1", E: "a=b" };
  const environment = Object.fromEntries([...Object.entries(seen), ["__proto__", "p"]]);
  assert.deepEqual(Object.entries(exactEnvironment(environment, environ)).toSorted(), [
    ["A", "plain"],
    ["ADDED", "1"],
    ["B", "caf\udce9"],
    ["CHANGED", "new"],
    ["E", "a=b"],
    ["__proto__", "p"],
    ["caf\udce9", "name"],
  ]);
  assert.deepEqual({ ...exactEnvironment(process.env) }, { ...process.env });
});
