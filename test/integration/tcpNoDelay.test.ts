/**
 * All TCP connections with clients have TCP_NODELAY. Without it the second small write of an answer waits for the client's
 * delayed acknowledgement, which takes 40 ms for each request on a kept-alive connection (uvicorn#3149).
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { Agent, get } from "node:http";
import { connect, type Socket } from "node:net";
import { resolve } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest, eventually, PROCESSBIN, poolOf } from "../support/controller.ts";
import { freePorts } from "../support/ports.ts";
import { readTcpConnections, type TcpConnection } from "../support/tcpConnections.ts";
import { adminPort, logged } from "../support/watch.ts";

const UVICORN = resolve("node_modules/.tools/venv/bin/uvicorn");

/** Accepts and keeps connections without setting socket options. */
const PLAIN_SERVER = `
import socket
server, held = socket.socket(fileno=3), []
while True:
    held.append(server.accept())
`;

/** The port of the shared socket. */
async function sharedPort(controller: ControllerUnderTest): Promise<number> {
  const line = await logged(controller, "a shared socket listens", "address=");
  return Number(/address=\S*:(\d+)/u.exec(line)?.[1]);
}

/** A connection that stays open until it is disposed of. */
async function holdConnection(host: string, port: number): Promise<Socket & Disposable> {
  const socket = connect({ host, port });
  await new Promise((connected, fail) => socket.once("connect", connected).once("error", fail));
  return Object.assign(socket, { [Symbol.dispose]: () => void socket.destroy() });
}

/** Requests `path` `count` times over one connection, which stays open until the agent is destroyed. */
async function requestOverOne(agent: Agent, port: number, path: string, count: number): Promise<void> {
  for (let nth = 0; nth < count; nth++)
    await new Promise<void>((done, fail) => {
      get({ host: "127.0.0.1", port, path, agent }, (response) => {
        assert.equal(response.statusCode, 200);
        response.resume().once("end", done);
      }).once("error", fail);
    });
}

/** Waits until the process has the connections that `pick` selects, and asserts that each of them has TCP_NODELAY. */
async function assertNoDelay(pid: number, pick: (connection: TcpConnection) => boolean): Promise<void> {
  const found = await eventually(() => {
    const connections = readTcpConnections(pid).filter(pick);
    return connections.length > 0 ? connections : undefined;
  }, `process ${pid} has the connection`);
  for (const connection of found) assert.equal(connection.noDelay, true, JSON.stringify(connection));
}

for (const [listen, host] of [
  ["127.0.0.1:0", "127.0.0.1"],
  [":0", "127.0.0.1"],
  ["[::1]:0", "::1"],
] as const) {
  test(`connections accepted from the shared socket "${listen}" have TCP_NODELAY`, async () => {
    const sockets = [{ name: "http", listen }];
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({ name: "web", exec: "python3", args: ["-c", PLAIN_SERVER], sockets }),
      args: ["-d"],
    });
    const port = await sharedPort(controller);
    using _held = await holdConnection(host, port);
    await assertNoDelay(await controller.pidOf("web-0"), ({ localPort }) => localPort === port);
  });
}

test("uvicorn --fd on a shared socket answers kept-alive requests without delay", async (context) => {
  if (!existsSync(UVICORN)) {
    context.skip("the Python servers could not be installed");
    return;
  }
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      exec: UVICORN,
      args: ["--fd", "{{.Fd}}", "--app-dir", "examples/servers", "asgi:app"],
      sockets: [{ name: "http", listen: "127.0.0.1:0" }],
    }),
    args: ["-d"],
  });
  const port = await sharedPort(controller);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    await requestOverOne(agent, port, "/", 5);
    await assertNoDelay(await controller.pidOf("web-0"), ({ localPort }) => localPort === port);
  } finally {
    agent.destroy();
  }
});

test("Envoy's connections with clients and workers have TCP_NODELAY", async () => {
  const ports = await freePorts(4);
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      exec: PROCESSBIN,
      server: {
        port_arg: { name: "--port", start_port: ports + 1 },
        listener_port: ports,
        listener_address: "127.0.0.1",
        health_check_path: "/healthz",
        // Keeps the connection with the worker open until it is checked, also on a slow machine.
        worker_keepalive: "60s",
      },
      args: ["--keepalive", "60s"],
    }),
  });
  await controller.ready();
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    await requestOverOne(agent, ports, "/", 2);
    const envoy = await controller.pidOf("web-proxy-0");
    await assertNoDelay(envoy, ({ localPort }) => localPort === ports);
    await assertNoDelay(envoy, ({ remotePort }) => remotePort > ports && remotePort < ports + 4);
  } finally {
    agent.destroy();
  }
});

test("connections with the admin port have TCP_NODELAY", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ name: "idle", exec: "sleep", args: ["1000"] }),
    args: ["-d"],
  });
  const port = await adminPort(controller);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    await requestOverOne(agent, port, "/health/live", 2);
    await assertNoDelay(controller.pid, ({ localPort }) => localPort === port);
  } finally {
    agent.destroy();
  }
});
