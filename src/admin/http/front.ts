/**
 * An HTTP front: takes requests within bounds of header, body, time and connections, asks who may do what, and hands them
 * to their route. It knows no route and no rule of permission itself.
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
/** A request must have come as a whole by then. */
const REQUEST_TIMEOUT_MS = 10_000;
/** How often that is looked at. */
const LOOK_EVERY_MS = 5000;
const KEEP_ALIVE_MS = 5000;
/** A client whose request cannot be read has so long to read why. */
const LINGER_MS = 500;
/** A client that does not read its answer for so long is cut off. */
const SILENCE_MS = 30_000;

/** Whether a request may be carried out, and who asks. */
export type Admission =
  | { readonly kind: "admitted"; readonly caller: () => string }
  | { readonly kind: "refused"; readonly status: 401 | 403; readonly message: string };

export interface FrontOptions {
  readonly controller: ControllerHandle;
  readonly routes: readonly Route[];
  /** Asked for each request; `route` undefined means that there is none at its path with its method. */
  readonly admit: (request: IncomingMessage, route: Route | undefined) => Admission | Promise<Admission>;
  /** Connections at a time; 256 if omitted. */
  readonly connections?: number | undefined;
}

/** A server that does not listen yet. */
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
    sendError(response, 417, "REQUEST_INVALID", "expected 100-continue or nothing in Expect"),
  );
  // An accept that fails is nobody's end (accept(2): ENOBUFS, ENOMEM); errors of listen are heard by those who listen.
  server.on("error", () => {});
  return server;
}

/** What cannot be read as a request, or did not come in time: HTTP status and words by the code of Node.js. */
const UNREAD: Readonly<Record<string, readonly [status: number, message: string]>> = {
  HPE_HEADER_OVERFLOW: [431, `headers may have ${MAX_HEADER_BYTES} bytes`],
  ERR_HTTP_REQUEST_TIMEOUT: [408, `a request must have come after ${REQUEST_TIMEOUT_MS / 1000} s`],
};

/** Says so and closes the connection; a client that breaks off is its own business. */
function refuseUnread(error: NodeJS.ErrnoException, socket: Duplex): void {
  // On a connection with an answer these bytes could stand in the middle of another one.
  if (!(socket instanceof Socket) || !socket.writable || error.code === "ECONNRESET" || socket.bytesWritten > 0) {
    socket.destroy();
    return;
  }
  const [status, message] = UNREAD[error.code ?? ""] ?? [400, "this is no HTTP request"];
  socket.end(rawError(status, "REQUEST_INVALID", message));
  // To close while bytes are unread takes the answer back (RST); what comes now is not read, and not for long.
  socket.pause();
  setTimeout(() => socket.destroy(), LINGER_MS);
}

/** Reads the body within bounds, then answers. */
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
    sendError(response, 413, "REQUEST_INVALID", `a body may have ${MAX_BODY_BYTES} bytes`);
  });
  request.on("error", () => response.destroy());
  request.on("end", () => {
    if (bytes <= MAX_BODY_BYTES) answer(Buffer.concat(chunks).toString("utf8"));
  });
}

class Front {
  readonly #controller: ControllerHandle;
  readonly #admit: FrontOptions["admit"];
  readonly #routes: ReturnType<typeof compileRoutes>;
  readonly #connections: Connections;

  constructor({ controller, routes, admit }: FrontOptions, connections: Connections) {
    this.#controller = controller;
    this.#admit = admit;
    this.#routes = compileRoutes(routes);
    this.#connections = connections;
  }

  dispatch(request: IncomingMessage, response: ServerResponse, body: string): void {
    const url = parseUrl(request.url ?? "/");
    if (url === undefined) {
      sendError(response, 400, "REQUEST_INVALID", "the request target is no path");
      return;
    }
    if ((request.headersDistinct["host"] ?? []).length > 1) {
      sendError(response, 400, "REQUEST_INVALID", "a request has one Host");
      return;
    }
    const found = matchRoutes(this.#routes, url.pathname);
    const method = request.method === "HEAD" ? "GET" : request.method;
    const hit = found.find(({ route }) => route.method === method);
    const admission = this.#admit(request, hit?.route);
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
      sendError(response, 405, "REQUEST_INVALID", `${url.pathname} does not take ${request.method}`);
    } else if (request.method === "HEAD" && hit.route.isStream === true) {
      response.writeHead(200, { "content-type": "text/event-stream" }).end();
    } else if (!this.#connections.answer(request.socket, response, hit.route.isStream === true)) {
      sendError(response, 429, "REQUEST_REFUSED", `${MAX_STREAMS} clients follow events or logs already`);
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
      route.handle({
        controller: this.#controller,
        request,
        response,
        query: url.searchParams,
        segment,
        body,
        caller,
      });
    } catch (error) {
      if (error instanceof ControllerError) sendFailure(response, error);
      else throw error;
    }
  }
}

function parseUrl(target: string): URL | undefined {
  // Not relative to a base: "//v1" would be the name of another host then.
  return target.startsWith("/") ? (URL.parse(`http://controller${target}`) ?? undefined) : undefined;
}
