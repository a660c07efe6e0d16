/**
 * An HTTP front: accepts requests within limits on headers, body, time and connections, checks permission, and passes
 * them to their route. It contains no routes and no permission rules itself.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { ControllerError } from "../../base/errors.ts";
import { MAX_BODY_BYTES } from "../api.ts";
import type { ControllerHandle } from "../handle.ts";
import { rawError, sendError, sendFailure } from "./answers.ts";
import { Connections } from "./connections.ts";
import { compileRoutes, matchRoutes, type Route, type RouteMatch } from "./route.ts";

const MAX_HEADER_BYTES = 16_384;
const MAX_CONNECTIONS = 256;
const MAX_STREAMS = 32;
/** Time limit for receiving a complete request. */
const REQUEST_TIMEOUT_MS = 10_000;
/** How often the request timeout is checked. */
const LOOK_EVERY_MS = 5000;
const KEEP_ALIVE_MS = 5000;
/** Time for a client whose request could not be parsed to read the error. */
const LINGER_MS = 500;
/** A client that does not read its response for this long is disconnected. */
const SILENCE_MS = 30_000;

/** Whether a request is permitted, and on whose behalf. */
export type Admission =
  | { readonly kind: "admitted"; readonly caller: () => string }
  | { readonly kind: "refused"; readonly status: 401 | 403; readonly message: string };

export interface FrontOptions {
  readonly controller: ControllerHandle;
  readonly routes: readonly Route[];
  /** Called for each request; `route` is undefined if no route matches its path and method. */
  readonly admit: (request: IncomingMessage, route: Route | undefined) => Admission | Promise<Admission>;
  /** Maximum number of concurrent connections; 256 if omitted. */
  readonly connections?: number | undefined;
}

/** Creates a server that does not listen yet. */
export function createFront(options: FrontOptions): Server {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: LOOK_EVERY_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
    },
    (request, response) => consume(request, response, (body) => front.dispatch(request, response, body)),
  );
  server.setTimeout(SILENCE_MS);
  const front = new Front(
    options,
    new Connections(server, { connections: options.connections ?? MAX_CONNECTIONS, streams: MAX_STREAMS }),
  );
  server.on("clientError", refuseUnread);
  server.on("checkExpectation", (_, response) =>
    sendError(response, 417, "REQUEST_INVALID", "the only supported Expect header is 100-continue"),
  );
  // A failed accept() is not fatal (accept(2): ENOBUFS, ENOMEM). Callers of listen handle its errors themselves.
  server.on("error", () => {});
  return server;
}

/** HTTP status and message, by Node.js error code, for requests that could not be parsed or timed out. */
const UNREAD: Readonly<Record<string, readonly [status: number, message: string]>> = {
  HPE_HEADER_OVERFLOW: [431, `the headers exceed ${MAX_HEADER_BYTES} bytes`],
  ERR_HTTP_REQUEST_TIMEOUT: [408, `the request was not complete within ${REQUEST_TIMEOUT_MS / 1000} s`],
};

/** Sends the error and closes the connection; does nothing more if the client has disconnected. */
function refuseUnread(error: NodeJS.ErrnoException, socket: Duplex): void {
  // If a response is in progress on this connection, these bytes could end up in the middle of it.
  if (!(socket instanceof Socket) || !socket.writable || error.code === "ECONNRESET" || socket.bytesWritten > 0) {
    socket.destroy();
    return;
  }
  const [status, message] = UNREAD[error.code ?? ""] ?? [400, "not an HTTP request"];
  socket.end(rawError(status, "REQUEST_INVALID", message));
  // Closing with unread bytes would discard the response (RST), so stop reading and close shortly afterwards.
  socket.pause();
  setTimeout(() => socket.destroy(), LINGER_MS);
}

/** Reads the body up to the limit, then answers. */
function consume(request: IncomingMessage, response: ServerResponse, answer: (body: string) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_BODY_BYTES) {
      chunks.push(chunk);
      return;
    }
    request.pause();
    response.setHeader("connection", "close");
    sendError(response, 413, "REQUEST_INVALID", `the body exceeds ${MAX_BODY_BYTES} bytes`);
  });
  request.on("error", () => response.destroy());
  request.on("end", () => {
    if (bytes <= MAX_BODY_BYTES) answer(Buffer.concat(chunks).toString("utf8"));
  });
}

class Front {
  readonly #options: FrontOptions;
  readonly #routes: ReturnType<typeof compileRoutes>;
  readonly #connections: Connections;

  constructor(options: FrontOptions, connections: Connections) {
    this.#options = options;
    this.#routes = compileRoutes(options.routes);
    this.#connections = connections;
  }

  dispatch(request: IncomingMessage, response: ServerResponse, body: string): void {
    const url = parseUrl(request.url ?? "/");
    if (url === undefined) {
      sendError(response, 400, "REQUEST_INVALID", "the request target is not a path");
      return;
    }
    if ((request.headersDistinct["host"] ?? []).length > 1) {
      sendError(response, 400, "REQUEST_INVALID", "the request has more than one Host header");
      return;
    }
    const found = matchRoutes(this.#routes, url.pathname);
    const method = request.method === "HEAD" ? "GET" : request.method;
    const hit = found.find(({ route }) => route.method === method);
    const admission = this.#options.admit(request, hit?.route);
    const proceed = (decided: Admission) => this.#answer(decided, { request, response, url, body }, found, hit);
    if (admission instanceof Promise) void admission.then(proceed);
    else proceed(admission);
  }

  #answer(
    admission: Admission,
    call: { request: IncomingMessage; response: ServerResponse; url: URL; body: string },
    found: readonly RouteMatch[],
    hit: RouteMatch | undefined,
  ): void {
    const { request, response, url } = call;
    if (admission.kind === "refused") {
      if (admission.status === 401) response.setHeader("www-authenticate", 'Bearer realm="monoceros"');
      sendError(response, admission.status, "ACCESS_DENIED", admission.message);
    } else if (found.length === 0) {
      sendError(response, 404, "REQUEST_INVALID", `${url.pathname} does not exist`);
    } else if (hit === undefined) {
      response.setHeader("allow", found.map(({ route }) => route.method).join(", "));
      sendError(response, 405, "REQUEST_INVALID", `${url.pathname} does not support ${request.method}`);
    } else if (request.method === "HEAD" && hit.route.isStream === true) {
      response.writeHead(200, { "content-type": "text/event-stream" }).end();
    } else if (!this.#connections.answer(request.socket, response, hit.route.isStream === true)) {
      sendError(response, 429, "REQUEST_REFUSED", `${MAX_STREAMS} clients already follow events or logs`);
    } else {
      this.#handle(hit, { ...call, caller: admission.caller });
      this.#connections.boundUnread();
    }
  }

  #handle(
    { route, segments }: RouteMatch,
    call: { request: IncomingMessage; response: ServerResponse; url: URL; body: string; caller: () => string },
  ): void {
    const { request, response, url, body, caller } = call;
    const segment = (name: string) => segments.get(name) ?? "";
    try {
      const { controller } = this.#options;
      route.handle({ controller, request, response, query: url.searchParams, segment, body, caller });
    } catch (error) {
      if (error instanceof ControllerError) sendFailure(response, error);
      else throw error;
    }
  }
}

function parseUrl(target: string): URL | undefined {
  // Do not resolve against a base URL: it would parse "//v1" as another host.
  return target.startsWith("/") ? (URL.parse(`http://controller${target}`) ?? undefined) : undefined;
}
