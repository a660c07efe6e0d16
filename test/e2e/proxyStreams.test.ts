/**
 * Endless streams are closed when their worker stops, so that a server that waits for its connections runs its shutdown
 * hooks instead of being killed.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ControllerUnderTest, poolOf } from "../support/controller.ts";
import { freePorts } from "../support/ports.ts";
import { commandOk } from "../support/traffic.ts";
import { eventsOf, said } from "../support/watch.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-streams-"));
after(() => rmSync(directory, { recursive: true }));

/** On SIGTERM it accepts no more connections, waits until every connection has closed, and then runs its hook. */
const SERVER = join(directory, "server.cjs");
writeFileSync(
  SERVER,
  `const { createServer } = require(process.argv[2] === "http2" ? "node:http2" : "node:http");
   const goodbye = new Set();
   const server = createServer((request, response) => {
     request.on("error", () => {});
     response.on("error", () => {});
     response.writeHead(200, { "content-type": request.url === "/sse" ? "text/event-stream" : "application/grpc" });
     response.write("data: 1\\n\\n");
   });
   server.on("upgrade", (request, socket) => {
     socket.on("error", () => {}).on("data", () => {}).on("end", () => socket.end());
     socket.write("HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n");
     if (request.url === "/polite") goodbye.add(socket);
   });
   process.on("SIGTERM", () => {
     // A close frame: 1001, going away.
     for (const socket of goodbye) socket.end(Buffer.from([0x88, 0x02, 0x03, 0xe9]));
     server.close(() => {
       process.stdout.write("hook ran\\n", () => process.exit(0));
     });
   });
   server.on("error", (error) => { throw error; });
   if (process.env.PORT) server.listen(Number(process.env.PORT), "127.0.0.1");
   else server.listen(process.argv.at(-1));`,
);

/** A signal_timeout that no test waits for. */
const PATIENCE = "60s";

const MODES = [
  ["a port", (port: number) => ({ server: { start_port: port }, args: [SERVER] })],
  ["a Unix socket", () => ({ server: { socket_arg: { name: SERVER, value_template: "{{.Socket}}" } }, args: [] })],
] as const;

async function poolBehindProxy(mode: (typeof MODES)[number][1]): Promise<{ workers: string; port: number }> {
  const port = await freePorts(6);
  const { server, args } = mode(port + 1);
  const workers = poolOf({
    name: "web",
    exec: process.execPath,
    args,
    signal_timeout: PATIENCE,
    server: { ...server, listener_address: "127.0.0.1", listener_port: port, drain_timeout: "200ms" },
  });
  return { workers, port };
}

/** A client of a stream, opened when the first bytes of it have arrived. */
async function open(
  port: number,
  path: string,
  headers = "",
): Promise<{ received: () => Buffer; closed: Promise<unknown> }> {
  const socket: Socket = connect(port, "127.0.0.1").on("error", () => {});
  let received = Buffer.alloc(0);
  const closed = once(socket, "close");
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`);
  while (!received.includes(headers === "" ? "data: 1" : "\r\n\r\n")) {
    const [chunk] = (await once(socket, "data")) as [Buffer];
    received = Buffer.concat([received, chunk]);
  }
  socket.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
  });
  return { received: () => received, closed };
}

const UPGRADE =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const ENDS = [
  ["a rolling restart", (controller: ControllerUnderTest) => commandOk(controller, "restart", "web")],
  ["the controller's shutdown", (controller: ControllerUnderTest) => controller.stop()],
] as const;

for (const [address, mode] of MODES)
  for (const [cause, leave] of ENDS)
    test(`${cause} ends open streams and the worker's shutdown hook runs, worker on ${address}`, async () => {
      const { workers, port } = await poolBehindProxy(mode);
      await using controller = await ControllerUnderTest.start({ workers, supervisor: "  shutdown_timeout: 5m" });
      await controller.ready();
      const streams = [await open(port, "/sse"), await open(port, "/ws", UPGRADE)];
      const polite = await open(port, "/polite", UPGRADE);
      await leave(controller);
      await Promise.all([...streams, polite].map(({ closed }) => closed));
      assert.deepEqual(eventsOf(controller, "killed"), []);
      await said(controller, "web-0", "hook ran");
      // A server that says goodbye itself is heard.
      assert.deepEqual([...polite.received().subarray(-4)], [0x88, 0x02, 0x03, 0xe9]);
    });

test("a gRPC stream is ended at the drain limit and the worker's shutdown hook runs", async () => {
  const port = await freePorts(6);
  const workers = poolOf({
    name: "web",
    exec: process.execPath,
    args: [SERVER, "http2"],
    signal_timeout: PATIENCE,
    server: {
      start_port: port + 1,
      protocol: "grpc",
      listener_address: "127.0.0.1",
      listener_port: port,
      drain_timeout: "200ms",
    },
  });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const stream = session.request({ ":method": "POST", ":path": "/a.B/C", "content-type": "application/grpc" });
  stream.on("error", () => {});
  await once(stream, "data");
  const closed = new Promise((done) => stream.resume().once("close", done));
  await commandOk(controller, "restart", "web");
  await closed;
  assert.deepEqual(eventsOf(controller, "killed"), []);
  await said(controller, "web-0", "hook ran");
  session.destroy();
});

test("a stream on one worker is unaffected when another worker stops", async () => {
  const port = await freePorts(8);
  const workers = poolOf({
    name: "web",
    replicas: 2,
    exec: process.execPath,
    args: [SERVER],
    signal_timeout: PATIENCE,
    server: { start_port: port + 1, listener_address: "127.0.0.1", listener_port: port, drain_timeout: "200ms" },
  });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  // Round robin gives each worker one.
  const streams = [await open(port, "/sse"), await open(port, "/sse")];
  const ended: number[] = [];
  for (const [index, { closed }] of streams.entries()) void closed.then(() => ended.push(index));
  await commandOk(controller, "stop", "web-0");
  assert.deepEqual(eventsOf(controller, "killed"), []);
  await said(controller, "web-0", "hook ran");
  await Promise.race(streams.map(({ closed }) => closed));
  assert.equal(ended.length, 1);
});

/** Opens a WebSocket and sends until it ends; resolves with the last bytes that it received. */
async function sendUntilEnd(port: number): Promise<Buffer> {
  const socket: Socket = connect(port, "127.0.0.1").on("error", () => {});
  const closed = new Promise((done) => socket.once("close", done));
  socket.write(`GET /polite HTTP/1.1\r\nHost: x\r\n${UPGRADE}\r\n`);
  let received = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
  });
  await once(socket, "data");
  const frame = Buffer.alloc(1000, 0x82);
  const sending = setInterval(() => socket.writable && socket.write(frame), 2);
  await closed;
  clearInterval(sending);
  return received.subarray(-4);
}

test("WebSocket clients that are sending when their worker stops receive the server's close frame", async () => {
  const { workers, port } = await poolBehindProxy(MODES[0][1]);
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const clients = Array.from({ length: 20 }, () => sendUntilEnd(port));
  await commandOk(controller, "restart", "web");
  for (const last of await Promise.all(clients)) assert.deepEqual([...last], [0x88, 0x02, 0x03, 0xe9]);
});
