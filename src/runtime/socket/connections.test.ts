import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { LocalEnd } from "../os/linux.ts";
import { endConnections } from "./connections.ts";

/** A server of this process, and the connections that it accepted. */
async function listen(context: TestContext, path?: string): Promise<{ address: LocalEnd; accepted: Socket[] }> {
  const accepted: Socket[] = [];
  const server: Server = createServer((socket) => accepted.push(socket.on("error", () => {})));
  context.after(() => {
    for (const socket of accepted) socket.destroy();
    server.close();
  });
  if (path === undefined) server.listen(0, "127.0.0.1");
  else server.listen(path);
  await once(server, "listening");
  const address = server.address();
  assert.ok(address !== null);
  return { address: typeof address === "string" ? { path: address } : { port: address.port }, accepted };
}

/** Another process that connects to all of these and prints the index of each connection that ends. */
async function connectAll(context: TestContext, addresses: readonly LocalEnd[]): Promise<ChildProcess> {
  const program = `
    const { connect } = require("node:net");
    let left = ${addresses.length};
    for (const [index, address] of ${JSON.stringify(addresses)}.entries())
      connect({ host: "127.0.0.1", ...address })
        .on("connect", () => --left || console.log("connected"))
        .on("close", () => console.log("closed " + index));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  context.after(() => child.kill("SIGKILL"));
  assert.equal(String((await once(child.stdout ?? assert.fail(), "data"))[0]), "connected\n");
  return child;
}

test("the connections of a process to one address are closed on both sides, others stay open", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-connections-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const tcp = await listen(context);
  const unix = await listen(context, join(directory, "0.sock"));
  const other = await listen(context, join(directory, "1.sock"));
  const child = await connectAll(context, [tcp.address, unix.address, other.address, tcp.address]);
  const pid = child.pid ?? 0;
  const output: string[] = [];
  child.stdout?.on("data", (chunk) => output.push(...String(chunk).trim().split("\n")));
  const closed = Promise.all([...tcp.accepted, ...unix.accepted].map((socket) => once(socket.resume(), "close")));
  assert.deepEqual(await endConnections(pid, tcp.address), { count: 2 });
  assert.deepEqual(await endConnections(pid, unix.address), { count: 1 });
  await closed;
  while (output.length < 3) await once(child.stdout ?? assert.fail(), "data");
  assert.deepEqual(output.toSorted(), ["closed 0", "closed 1", "closed 3"]);
  assert.equal(other.accepted[0]?.destroyed, false);
});

test("connections that a process accepted can be closed, and it continues to listen", async (context) => {
  const program = `
    const server = require("node:net").createServer((socket) => socket.on("error", () => {}).write("hello"));
    server.listen(0, "127.0.0.1", () => console.log(server.address().port));`;
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  context.after(() => child.kill("SIGKILL"));
  const port = Number((await once(child.stdout, "data"))[0]);
  const { connect } = await import("node:net");
  const open = async () => {
    const socket = connect(port, "127.0.0.1").on("error", () => {});
    context.after(() => socket.destroy());
    await once(socket, "data");
    return socket;
  };
  const socket = await open();
  const closed = once(socket.resume(), "close");
  assert.deepEqual(await endConnections(child.pid ?? 0, { port }, "own"), { count: 1 });
  await closed;
  await open();
});

test("a process that may not be traced is reported as refused", { skip: process.getuid?.() !== 0 }, async (context) => {
  const stranger = spawn("sleep", ["60"], { uid: 65_534, gid: 65_534, stdio: "ignore" });
  context.after(() => stranger.kill("SIGKILL"));
  const program = `
    const { endConnections } = await import(${JSON.stringify(join(import.meta.dirname, "connections.ts"))});
    console.log(JSON.stringify(await endConnections(${stranger.pid}, { port: 1 })));`;
  const drop = ["--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"];
  const flags = ["--no-warnings", "--experimental-ffi", "--input-type=module", "-e", program];
  const child = spawn("setpriv", [...drop, process.execPath, ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += String(chunk);
  });
  await once(child, "close");
  assert.equal(output, '{"refused":"EPERM"}\n');
});

test("a process that has exited has no connections", async () => {
  const child = spawn("true");
  await once(child, "exit");
  assert.deepEqual(await endConnections(child.pid ?? 0, { port: 1 }), { count: 0 });
});
