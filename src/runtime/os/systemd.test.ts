import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { ServiceManager } from "./systemd.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-notify-"));
const receivers: ChildProcess[] = [];
after(() => {
  for (const receiver of receivers) receiver.kill("SIGKILL");
  rmSync(directory, { recursive: true });
});

/** Node.js has no Unix datagram sockets, so a small Python program plays the service manager. */
const RECEIVER = `
import socket, sys
name = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\\0" + name[1:] if name.startswith("@") else name)
print("bound", flush=True)
while True:
    print(repr(s.recv(4096).decode()), flush=True)
`;

interface Receiver {
  next(): Promise<string>;
}

async function receive(name: string): Promise<Receiver> {
  const child = spawn("python3", ["-c", RECEIVER, name], { stdio: ["ignore", "pipe", "inherit"] });
  receivers.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => String((await lines.next()).value);
  assert.equal(await next(), "bound");
  return { next };
}

test("ready and stopping notifications reach the service manager", async () => {
  const path = join(directory, "notify.sock");
  const receiver = await receive(path);
  const manager = new ServiceManager({ NOTIFY_SOCKET: path }, 7);
  manager.ready("4 workers run");
  assert.equal(await receiver.next(), "'READY=1\\nSTATUS=4 workers run'");
  manager.stopping();
  assert.equal(await receiver.next(), "'STOPPING=1\\nSTATUS=shutting down'");
  manager.close();
});

test("a notification socket in the abstract namespace works", async () => {
  const name = `@monoceros-test-${process.pid}`;
  const receiver = await receive(name);
  const manager = new ServiceManager({ NOTIFY_SOCKET: name }, 7);
  manager.ready("1 worker runs");
  assert.equal(await receiver.next(), "'READY=1\\nSTATUS=1 worker runs'");
  manager.close();
});

test("watchdog notifications are sent twice per period from ready until close, also while stopping", async (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] });
  const path = join(directory, "watchdog.sock");
  const receiver = await receive(path);
  const manager = new ServiceManager({ NOTIFY_SOCKET: path, WATCHDOG_USEC: "1000000", WATCHDOG_PID: "7" }, 7);
  context.mock.timers.tick(5000);
  manager.ready("r");
  context.mock.timers.tick(499);
  manager.stopping();
  context.mock.timers.tick(1);
  context.mock.timers.tick(500);
  manager.close();
  context.mock.timers.tick(5000);
  new ServiceManager({ NOTIFY_SOCKET: path }, 7).ready("end");
  const heard = [];
  for (let message = ""; !message.includes("end"); heard.push(message)) message = await receiver.next();
  assert.deepEqual(heard, [
    "'READY=1\\nSTATUS=r'",
    "'STOPPING=1\\nSTATUS=shutting down'",
    "'WATCHDOG=1'",
    "'WATCHDOG=1'",
    "'READY=1\\nSTATUS=end'",
  ]);
});

test("no watchdog notifications are sent if the watchdog is for another process or disabled", async (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] });
  const path = join(directory, "other.sock");
  const receiver = await receive(path);
  for (const env of [{ WATCHDOG_USEC: "1000000", WATCHDOG_PID: "8" }, { WATCHDOG_USEC: "0" }, { WATCHDOG_USEC: "x" }]) {
    const manager = new ServiceManager({ NOTIFY_SOCKET: path, ...env }, 7);
    manager.ready("r");
    context.mock.timers.tick(10_000);
    manager.close();
    assert.equal(await receiver.next(), "'READY=1\\nSTATUS=r'");
  }
});

test("without a reachable service manager nothing is sent and nothing fails", () => {
  for (const socket of [undefined, "", join(directory, "nobody.sock")]) {
    const env = socket === undefined ? {} : { NOTIFY_SOCKET: socket };
    const manager = new ServiceManager({ ...env, WATCHDOG_USEC: "1000000" }, 7);
    manager.ready("r");
    manager.stopping();
    manager.close();
  }
});
