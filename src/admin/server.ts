/**
 * The two HTTP fronts: TCP for Prometheus and Kubernetes (read-only, open to all), and the control socket for everything
 * else (only who may open the socket file). Bounded in header, body, connections and time; it only asks the handle.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { ControllerError, ERROR_CODES, type ErrorCode } from "../base/errors.ts";
import type { Instant } from "../base/time.ts";
import type { ControllerView } from "../core/view.ts";
import { type Accepted, type ApiError, type LogLine, statusOf } from "./api.ts";
import type { EventLog } from "./events.ts";

const MAX_HEADER_BYTES = 16_384;
const MAX_BODY_BYTES = 65_536;
const MAX_CONNECTIONS = 256;
const REQUEST_TIMEOUT_MS = 10_000;
/** What a follower may have unread before it loses lines, which it is told. */
const MAX_UNREAD_BYTES = 4 << 20;

/** What the fronts may ask of the controller. */
export interface ControllerHandle {
  readonly version: string;
  readonly events: EventLog;
  view(): ControllerView;
  now(): Instant;
  /** The exposition and its content type. */
  metrics(accept: string): { readonly text: string; readonly contentType: string };
  shutdown(reason: string): void;
  stopWorker(pool: number, slot: number, reason: string): void;
  startWorker(pool: number, slot: number, reason: string): void;
  /** Whole chunks of lines as they are written to stdout and stderr. */
  tapLogs(listener: (stream: LogLine["stream"], chunk: Buffer) => void): Disposable;
}

interface Route {
  readonly method: "GET" | "POST";
  readonly pattern: RegExp;
  readonly handle: (
    controller: ControllerHandle,
    request: IncomingMessage,
    response: ServerResponse,
    url: URL,
    match: RegExpExecArray,
  ) => void;
}

const OPEN_ROUTES: readonly Route[] = [
  { method: "GET", pattern: /^\/metrics$/u, handle: serveMetrics },
  {
    method: "GET",
    pattern: /^\/health$/u,
    handle: (controller, _, response) => serveHealth(response, controller.view().healthy, controller.view()),
  },
  {
    method: "GET",
    pattern: /^\/health\/ready$/u,
    handle: (controller, _, response) => serveHealth(response, controller.view().ready, controller.view()),
  },
  {
    method: "GET",
    pattern: /^\/health\/live$/u,
    handle: (controller, _, response) => serveHealth(response, true, controller.view()),
  },
];

const CONTROL_ROUTES: readonly Route[] = [
  ...OPEN_ROUTES,
  {
    method: "GET",
    pattern: /^\/v1\/status$/u,
    handle: (controller, _, response) =>
      sendJson(response, 200, statusOf(controller.view(), controller.now(), controller.version, process.pid)),
  },
  { method: "GET", pattern: /^\/v1\/events$/u, handle: serveEvents },
  { method: "GET", pattern: /^\/v1\/logs$/u, handle: serveLogs },
  {
    method: "POST",
    pattern: /^\/v1\/shutdown$/u,
    handle: (controller, _, response) => {
      // The answer first: the shutdown may be over before it would leave. "close" also comes where the client is gone.
      response.once("close", () => controller.shutdown("asked through the control socket"));
      sendAccepted(response);
    },
  },
  { method: "POST", pattern: /^\/v1\/workers\/([^/]+)\/(stop|start)$/u, handle: serveWorkerOrder },
];

/** The read-only front for TCP. */
export function createOpenServer(controller: ControllerHandle): Server {
  return createBoundedServer(controller, OPEN_ROUTES, "is only served on the control socket");
}

/** The full front for the control socket. */
export function createControlServer(controller: ControllerHandle): Server {
  return createBoundedServer(controller, CONTROL_ROUTES, "does not exist");
}

function createBoundedServer(controller: ControllerHandle, routes: readonly Route[], elsewhere: string): Server {
  const options = {
    maxHeaderSize: MAX_HEADER_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    headersTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: 5000,
  };
  const server = createServer(options, (request, response) => {
    consume(request, response, () => dispatch(controller, routes, elsewhere, request, response));
  });
  server.maxConnections = MAX_CONNECTIONS;
  // A client that breaks off is its own business.
  server.on("clientError", (_, socket) => socket.destroy());
  // So is an accept that fails (accept(2): ENOBUFS, ENOMEM); errors of listen are heard by those who listen.
  server.on("error", () => {});
  return server;
}

/** Reads and drops the body (no route has one), within bounds, then answers. */
function consume(request: IncomingMessage, response: ServerResponse, answer: () => void): void {
  let bytes = 0;
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_BODY_BYTES) return;
    request.pause();
    response.setHeader("connection", "close");
    sendError(response, 413, "REQUEST_INVALID", `a body may have ${MAX_BODY_BYTES} bytes`);
  });
  request.on("error", () => response.destroy());
  request.on("end", () => {
    if (bytes <= MAX_BODY_BYTES) answer();
  });
}

function dispatch(
  controller: ControllerHandle,
  routes: readonly Route[],
  elsewhere: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const url = parseUrl(request.url ?? "/");
  if (url === undefined) {
    sendError(response, 400, "REQUEST_INVALID", "the request target is no path");
    return;
  }
  const found = routes
    .map((route) => ({ route, match: route.pattern.exec(url.pathname) }))
    .filter(({ match }) => match !== null);
  if (found.length === 0) {
    sendError(response, 404, "REQUEST_INVALID", `${url.pathname} ${elsewhere}`);
    return;
  }
  const method = request.method === "HEAD" ? "GET" : request.method;
  const hit = found.find(({ route }) => route.method === method);
  if (hit?.match == null) {
    response.setHeader("allow", found.map(({ route }) => route.method).join(", "));
    sendError(response, 405, "REQUEST_INVALID", `${url.pathname} does not take ${request.method}`);
    return;
  }
  try {
    hit.route.handle(controller, request, response, url, hit.match);
  } catch (error) {
    if (error instanceof ControllerError)
      sendError(response, error.code === "WORKER_UNKNOWN" ? 404 : 409, error.code, error.message);
    else throw error;
  }
}

function parseUrl(target: string): URL | undefined {
  return target.startsWith("/") && URL.canParse(target, "http://controller")
    ? new URL(target, "http://controller")
    : undefined;
}

function serveMetrics(controller: ControllerHandle, request: IncomingMessage, response: ServerResponse): void {
  const { text, contentType } = controller.metrics(request.headers.accept ?? "");
  response.writeHead(200, { "content-type": contentType, "content-length": Buffer.byteLength(text) }).end(text);
}

function serveHealth(response: ServerResponse, good: boolean, view: ControllerView): void {
  const pools = view.pools.map((pool) => `${pool.name}: ${pool.readyCount} of ${pool.replicas} ready\n`).join("");
  response
    .writeHead(good ? 200 : 503, { "content-type": "text/plain; charset=utf-8" })
    .end(`${good ? "ok" : "not ok"}, ${view.phase}\n${pools}`);
}

function serveWorkerOrder(
  controller: ControllerHandle,
  _: IncomingMessage,
  response: ServerResponse,
  __: URL,
  match: RegExpExecArray,
): void {
  const id = decodeId(match[1] ?? "");
  const view = controller.view();
  for (const [index, pool] of view.pools.entries()) {
    const worker = pool.workers.find((each) => each.id === id);
    if (worker === undefined) continue;
    if (view.phase !== "running" && view.phase !== "booting") {
      throw new ControllerError(
        "REQUEST_REFUSED",
        `Cannot ${match[2]} worker "${id}": the controller is ${view.phase}`,
      );
    }
    if (match[2] === "stop") controller.stopWorker(index, worker.slot, "stopped by an operator");
    else controller.startWorker(index, worker.slot, "started by an operator");
    sendAccepted(response);
    return;
  }
  throw new ControllerError("WORKER_UNKNOWN", `Cannot ${match[2]} worker "${id}": there is no such worker`);
}

function decodeId(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function serveEvents(controller: ControllerHandle, _: IncomingMessage, response: ServerResponse, url: URL): void {
  const stream = new EventStream(response);
  const since = Number(url.searchParams.get("since") ?? 0);
  for (const record of controller.events.since(Number.isSafeInteger(since) ? since : 0))
    stream.send(record, record.seq);
  if (url.searchParams.get("follow") === "0") {
    response.end();
    return;
  }
  const following = controller.events.follow((record) => stream.send(record, record.seq));
  response.once("close", () => following[Symbol.dispose]());
}

function serveLogs(controller: ControllerHandle, _: IncomingMessage, response: ServerResponse): void {
  const stream = new EventStream(response);
  // A chunk may end inside a line or a character; the rest is kept for the next one.
  const rests: Record<LogLine["stream"], Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
  const tap = controller.tapLogs((name, chunk) => {
    const bytes = rests[name].length === 0 ? chunk : Buffer.concat([rests[name], chunk]);
    const end = bytes.lastIndexOf(10) + 1;
    rests[name] = Buffer.from(bytes.subarray(end));
    for (const line of bytes.toString("utf8", 0, Math.max(0, end - 1)).split("\n"))
      if (end > 0) stream.send({ stream: name, line } satisfies LogLine);
  });
  response.once("close", () => tap[Symbol.dispose]());
}

/** Server-sent events to one client; a client that does not read loses events and is told how many. */
class EventStream {
  readonly #response: ServerResponse;
  #lost = 0;

  constructor(response: ServerResponse) {
    this.#response = response;
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.flushHeaders();
  }

  send(body: object, id?: number): void {
    if (this.#response.writableLength > MAX_UNREAD_BYTES) {
      this.#lost++;
      return;
    }
    if (this.#lost > 0) {
      this.#response.write(`event: lost\ndata: ${JSON.stringify({ lost: this.#lost })}\n\n`);
      this.#lost = 0;
    }
    this.#response.write(`${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(body)}\n\n`);
  }
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  const text = `${JSON.stringify(body)}\n`;
  response
    .writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) })
    .end(text);
}

function sendAccepted(response: ServerResponse): void {
  sendJson(response, 202, { accepted: true } satisfies Accepted);
}

function sendError(response: ServerResponse, status: number, code: ErrorCode, message: string): void {
  if (response.headersSent) return;
  sendJson(response, status, {
    error: { code, message: `${message} (${ERROR_CODES[code].meaning})` },
  } satisfies ApiError);
}
