/** The HTTP side of processbin: greeting, health that can flap, routes that misbehave on demand. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type ListenOptions, Server as NetServer, type Socket } from "node:net";
import type { Flags } from "./flags.ts";
import { report } from "./lines.ts";
import { hang, spin } from "./strain.ts";
import { readSurroundings } from "./surroundings.ts";

/** systemd's number of the first passed descriptor (sd_listen_fds(3)). */
const LISTEN_FDS_START = 3;

/** How long the first request of a connection may take when the server drains. */
const FIRST_REQUEST_MS = 500;

/** Everywhere the flags and the environment want HTTP; empty where nowhere. */
export function listenTargets(flags: Flags, env: Readonly<Record<string, string | undefined>>): ListenOptions[] {
  const targets: ListenOptions[] = [];
  if (flags.port !== undefined) {
    targets.push({
      port: flags.port,
      reusePort: flags.reusePort,
      ...(flags.host === undefined ? {} : { host: flags.host }),
    });
  }
  if (flags.socketPath !== undefined) targets.push({ path: flags.socketPath });
  const fds = new Set(flags.fd === undefined ? [] : [flags.fd]);
  const passed = Number(env["LISTEN_FDS"] ?? 0);
  // The variables are meant for one process; a child that inherited them by accident has another pid.
  const forUs = env["LISTEN_PID"] === undefined || Number(env["LISTEN_PID"]) === process.pid;
  for (let index = 0; forUs && index < passed; index++) fds.add(LISTEN_FDS_START + index);
  for (const fd of fds) targets.push({ fd } as ListenOptions);
  return targets;
}

/** Listens on every target and reports "ready" for each; returns a drain that ends when no request runs any more. */
export function serve(flags: Flags, targets: readonly ListenOptions[]): () => Promise<void> {
  const routes = makeRoutes(flags);
  const servers = targets.map((target) => {
    const server = listen(target, routes);
    return { server, connections: new Connections(server) };
  });
  return async () => {
    await Promise.all(servers.map(({ server, connections }) => drain(server, connections)));
  };
}

type Route = (request: IncomingMessage, response: ServerResponse, query: URLSearchParams) => void;

function makeRoutes(flags: Flags): ReadonlyMap<string, Route> {
  let healthAsked = 0;
  const health: Route = (_request, response) => {
    const bad = flags.flapEvery > 0 && Math.floor(healthAsked++ / flags.flapEvery) % 2 === 1;
    response.writeHead(bad ? 503 : 200).end(bad ? "flapping\n" : "ok\n");
  };
  return new Map<string, Route>([
    ["/", (_request, response) => void response.end("hello from processbin\n")],
    ["/healthz", health],
    ["/readyz", health],
    [
      "/pid",
      (_request, response) =>
        sendJson(response, { pid: process.pid, worker_id: process.env["MULTIPROCESS_WORKER_ID"] }),
    ],
    ["/env", (_request, response) => sendJson(response, readSurroundings())],
    [
      "/sleep",
      (_request, response, query) => {
        const ms = Number(query.get("ms") ?? 0);
        setTimeout(() => response.end(`slept ${ms} ms\n`), ms);
      },
    ],
    ["/hang", () => hang()],
    ["/spin", () => spin()],
    ["/exit", (_request, _response, query) => process.exit(Number(query.get("code") ?? 1))],
  ]);
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.setHeader("content-type", "application/json").end(`${JSON.stringify(value)}\n`);
}

function listen(target: ListenOptions, routes: ReadonlyMap<string, Route>): Server {
  const server = createServer((request, response) => {
    // A connection that was busy when the drain began is told to end with this answer.
    if (!server.listening) response.setHeader("connection", "close");
    response.setHeader("content-type", "text/plain");
    const url = new URL(request.url ?? "/", "http://processbin");
    const route = routes.get(url.pathname);
    if (route === undefined) response.writeHead(404).end("not found\n");
    else route(request, response, url.searchParams);
    request.resume();
  });
  server.on("error", (error) => {
    process.stderr.write(`processbin: cannot listen: ${error.message}\n`);
    process.exit(1);
  });
  server.listen(target, () => {
    const address = server.address();
    report("ready", {
      state: "ready",
      ...(typeof address === "string" ? { socket: address } : { port: address?.port }),
      worker_id: process.env["MULTIPROCESS_WORKER_ID"],
    });
  });
  return server;
}

/** What a connection is doing: its first request has not come, one is being answered, or it waits for the next one. */
type Occupation = { readonly kind: "fresh"; readonly sinceMs: number } | { readonly kind: "busy" | "idle" };

/** The connections of a server. */
class Connections {
  readonly #all = new Map<Socket, Occupation>();

  constructor(server: Server) {
    server.on("connection", (socket: Socket) => {
      this.#all.set(socket, { kind: "fresh", sinceMs: performance.now() });
      socket.once("close", () => this.#all.delete(socket));
    });
    server.on("request", ({ socket }: IncomingMessage, response: ServerResponse) => {
      this.#all.set(socket, { kind: "busy" });
      response.once("close", () => {
        if (this.#all.has(socket)) this.#all.set(socket, { kind: "idle" });
      });
    });
  }

  /** Ends those from which nothing is expected. */
  closeIdle(): void {
    for (const [socket, occupation] of this.#all) {
      const isExpected =
        occupation.kind === "busy" ||
        (occupation.kind === "fresh" && performance.now() - occupation.sinceMs < FIRST_REQUEST_MS);
      if (!isExpected) socket.destroy();
    }
  }
}

/**
 * Accepts nothing more and resolves when the running requests are answered; idle connections are closed. Not by the
 * close() of http, which also destroys connections that were accepted a moment ago and whose request is on the way.
 */
function drain(server: Server, connections: Connections): Promise<void> {
  return new Promise((resolve) => {
    const timer = setInterval(() => connections.closeIdle(), 20);
    NetServer.prototype.close.call(server, () => {
      clearInterval(timer);
      resolve();
    });
    connections.closeIdle();
  });
}
