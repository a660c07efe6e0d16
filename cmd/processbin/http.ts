/** The HTTP server of processbin: its sockets, the headers of each response, and its drain. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type ListenOptions, Server as NetServer, type Socket } from "node:net";
import type { Flags } from "./flags.ts";
import { report } from "./lines.ts";
import { makeRoutes, makeTraffic, type Route, type Traffic } from "./routes.ts";
import { echoWebSocket } from "./websocket.ts";

/** systemd's number of the first passed descriptor (sd_listen_fds(3)). */
const LISTEN_FDS_START = 3;

/** How long the first request of a connection may take when the server drains. */
const FIRST_REQUEST_MS = 500;

/** Each response names its worker. */
const WORKER_HEADERS: Readonly<Record<string, string>> = {
  "x-worker-id": process.env["MULTIPROCESS_WORKER_ID"] ?? `pid-${process.pid}`,
  "x-worker-pid": String(process.pid),
};

/** The sockets that the flags and the environment request; empty if none. */
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
  // LISTEN_PID names one process; a child that only inherited the variables has another pid.
  const forUs = env["LISTEN_PID"] === undefined || Number(env["LISTEN_PID"]) === process.pid;
  for (let index = 0; forUs && index < passed; index++) fds.add(LISTEN_FDS_START + index);
  for (const fd of fds) targets.push({ fd } as ListenOptions);
  return targets;
}

/** Listens on every target and reports "ready" for each; returns a drain that resolves when no request is in progress. */
export function serve(flags: Flags, targets: readonly ListenOptions[]): () => Promise<void> {
  const traffic = makeTraffic();
  const routes = makeRoutes(flags, traffic);
  const fronts = targets.map((target) => new Front(target, flags, routes, traffic));
  return async () => {
    await Promise.all(fronts.map((front) => front.drain()));
  };
}

/** One listening socket and what runs on it. */
class Front {
  readonly #server: Server;
  readonly #flags: Flags;
  readonly #routes: ReadonlyMap<string, Route>;
  readonly #traffic: Traffic;
  /** Responses in progress. */
  readonly #running = new Set<ServerResponse>();
  readonly #webSockets = new Set<() => void>();
  readonly #connections: Connections;
  #isDraining = false;

  constructor(target: ListenOptions, flags: Flags, routes: ReadonlyMap<string, Route>, traffic: Traffic) {
    this.#flags = flags;
    this.#routes = routes;
    this.#traffic = traffic;
    this.#server = createServer(
      { shouldUpgradeCallback: (request) => pathOf(request).pathname === "/ws" },
      (request, response) => this.#answer(request, response),
    );
    this.#connections = new Connections(this.#server);
    if (flags.keepaliveMs !== undefined) {
      this.#server.keepAliveTimeout = flags.keepaliveMs;
      // Node.js waits a second longer than the timeout it announces; the flag is exact.
      this.#server.keepAliveTimeoutBuffer = 0;
    }
    this.#server.on("upgrade", (request, socket, head) => {
      const end = echoWebSocket(request, socket, head, WORKER_HEADERS);
      this.#webSockets.add(end);
      socket.on("close", () => this.#webSockets.delete(end));
    });
    this.#server.on("error", (error) => {
      process.stderr.write(`processbin: cannot listen: ${error.message}\n`);
      process.exit(1);
    });
    this.#server.listen(target, () => {
      const address = this.#server.address();
      report("ready", {
        state: "ready",
        ...(typeof address === "string" ? { socket: address } : { port: address?.port }),
        worker_id: process.env["MULTIPROCESS_WORKER_ID"],
      });
    });
  }

  /**
   * Stops accepting and resolves when the requests in progress are answered. During --drain, idle connections may send
   * one more request, whose response ends them; after it they are closed. This does not use close() of http, which also
   * destroys connections that were just accepted and whose request is in transit.
   */
  drain(): Promise<void> {
    this.#isDraining = true;
    for (const response of this.#running) if (!response.headersSent) response.setHeader("connection", "close");
    for (const end of this.#webSockets) end();
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      const closeIdle = (): void => {
        this.#connections.closeIdle();
        timer ??= setInterval(closeIdle, 20);
      };
      const patience = setTimeout(closeIdle, this.#flags.drainMs);
      NetServer.prototype.close.call(this.#server, () => {
        clearTimeout(patience);
        clearInterval(timer);
        resolve();
      });
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    this.#running.add(response);
    response.on("close", () => this.#running.delete(response));
    for (const [name, value] of Object.entries(WORKER_HEADERS)) response.setHeader(name, value);
    if (this.#isDraining) response.setHeader("connection", "close");
    response.setHeader("content-type", "text/plain");
    const url = pathOf(request);
    const isTraffic = this.#traffic.count(request.method, url.pathname);
    const { resetEvery } = this.#flags;
    if (isTraffic && resetEvery > 0 && this.#traffic.requests % resetEvery === 0) {
      request.socket.resetAndDestroy();
      return;
    }
    const route = this.#routes.get(url.pathname);
    if (route === undefined) response.writeHead(404).end("not found\n");
    else route(request, response, url.searchParams);
    request.resume();
  }
}

function pathOf(request: IncomingMessage): URL {
  return new URL(request.url ?? "/", "http://processbin");
}

/** What a connection does: it waits for its first request, has a request in progress, or waits for the next one. */
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
    // A WebSocket ends by its own rules.
    server.on("upgrade", ({ socket }: IncomingMessage) => this.#all.delete(socket));
  }

  /** Closes the connections on which no request is expected. */
  closeIdle(): void {
    for (const [socket, occupation] of this.#all) {
      const isExpected =
        occupation.kind === "busy" ||
        (occupation.kind === "fresh" && performance.now() - occupation.sinceMs < FIRST_REQUEST_MS);
      if (!isExpected) socket.destroy();
    }
  }
}
