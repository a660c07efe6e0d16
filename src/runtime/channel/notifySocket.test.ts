import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { sendDatagram } from "../os/linux.ts";
import { NotifySocket } from "./notifySocket.ts";

function open(context: TestContext): NotifySocket {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-notify-"));
  const socket = new NotifySocket(join(directory, "s"), undefined);
  context.after(() => {
    socket[Symbol.dispose]();
    rmSync(directory, { recursive: true });
  });
  return socket;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Sends a message; while the short queue of the socket is full, other events are handled. */
async function send(socket: NotifySocket, message: string): Promise<void> {
  for (;;) {
    try {
      sendDatagram(socket.path, message);
      return;
    } catch {
      await turn();
    }
  }
}

/** Sends messages, and waits until the socket has read them. */
async function deliver(socket: NotifySocket, ...messages: readonly string[]): Promise<void> {
  const mark = String(Math.random());
  for (const message of [...messages, `STATUS=${mark}`]) await send(socket, message);
  while (socket.status !== mark) await turn();
}

test("the listener is notified once that a worker is ready or stopping, even if it listens late", async (context) => {
  const socket = open(context);
  const seen: string[] = [];
  const listener = { ready: () => seen.push("ready"), stopping: () => seen.push("stopping") };
  await deliver(socket, "READY=1");
  socket.listen(listener);
  assert.deepEqual(seen, ["ready"]);
  await deliver(socket, "READY=1", "STOPPING=1", "STOPPING=1");
  assert.deepEqual(seen, ["ready", "stopping"]);
});

test("the listener learns of each extension, and the last status is kept", async (context) => {
  const socket = open(context);
  const extensions: number[] = [];
  socket.listen({ extended: (ms) => extensions.push(ms) });
  await deliver(socket, "EXTEND_TIMEOUT_USEC=1000", "EXTEND_TIMEOUT_USEC=2000\nSTATUS=loading");
  assert.deepEqual(extensions, [1, 2]);
  await send(socket, "STATUS=");
  while (socket.status !== undefined) await turn();
});

test("a worker is alive while it starts, and then only after each keep-alive", async (context) => {
  const socket = open(context);
  assert.equal(socket.takeWatchdog(), "alive");
  assert.equal(socket.takeWatchdog(), "alive");
  await deliver(socket, "READY=1");
  assert.equal(socket.takeWatchdog(), "alive");
  assert.equal(socket.takeWatchdog(), "silent");
  await deliver(socket, "WATCHDOG=1", "WATCHDOG=1");
  assert.equal(socket.takeWatchdog(), "alive");
  assert.equal(socket.takeWatchdog(), "silent");
  await deliver(socket, "WATCHDOG=trigger", "WATCHDOG=1");
  assert.equal(socket.takeWatchdog(), "failed");
  assert.equal(socket.takeWatchdog(), "failed");
});

test("a socket whose file was removed is created again, and does not fail the watchdog", async (context) => {
  const socket = open(context);
  await deliver(socket, "READY=1");
  assert.equal(socket.takeWatchdog(), "alive");
  rmSync(socket.path);
  assert.equal(socket.takeWatchdog(), "alive");
  await deliver(socket, "WATCHDOG=1");
  assert.equal(socket.takeWatchdog(), "alive");
});

test("only the owner may write to the socket, and disposal removes it", (context) => {
  const socket = open(context);
  assert.equal(statSync(socket.path).mode & 0o777, 0o600);
  socket[Symbol.dispose]();
  assert.equal(existsSync(socket.path), false);
});

test("a flood of messages does not block the event loop, and none is lost", async (context) => {
  const [flooded, other] = [open(context), open(context)];
  let count = 0;
  flooded.listen({ extended: () => count++ });
  for (let sent = 0; sent < 500; sent++) await send(flooded, "EXTEND_TIMEOUT_USEC=1000");
  await deliver(other);
  await deliver(flooded);
  assert.equal(count, 500);
});
