/** The routes of processbin: greeting, health that can flap, answers that take long or misbehave on demand. */

import type { IncomingMessage, ServerResponse } from "node:http";
import { makeEcho } from "./echo.ts";
import { readEnvironment } from "./environment.ts";
import type { Flags } from "./flags.ts";
import { block, grow, hang, spin } from "./strain.ts";

export type Route = (request: IncomingMessage, response: ServerResponse, query: URLSearchParams) => void;

/** With --mixed, one request of this many is slow. */
const MIXED_SLOW_EVERY = 20;
const MIXED_SLOW_MS = 200;
const MIXED_FAST_MS = 5;
/** Paths of probes and metrics, which do not count as traffic. */
const NO_TRAFFIC: ReadonlySet<string> = new Set(["/healthz", "/readyz", "/count", "/metrics"]);

/** How much traffic this process has seen. */
export interface Traffic {
  /** Counts a request unless a probe sent it; returns whether it was counted. */
  count(method: string | undefined, path: string): boolean;
  readonly requests: number;
  readonly posts: number;
}

/** A counter at zero. */
export function makeTraffic(): Traffic {
  let requests = 0;
  let posts = 0;
  return {
    count: (method, path) => {
      if (NO_TRAFFIC.has(path)) return false;
      requests++;
      if (method === "POST") posts++;
      return true;
    },
    get requests() {
      return requests;
    },
    get posts() {
      return posts;
    },
  };
}

/** The routes for these flags. Call when the process begins to listen, because times count from here. */
export function makeRoutes(flags: Flags, traffic: Traffic): ReadonlyMap<string, Route> {
  const health = makeHealth(flags);
  // The workers of a pool must not have their slow requests at the same time.
  let mixed = process.pid;
  return new Map<string, Route>([
    [
      "/",
      (_request, response) => {
        if (flags.mixed) block(mixed++ % MIXED_SLOW_EVERY === 0 ? MIXED_SLOW_MS : MIXED_FAST_MS);
        else if (flags.blockMs > 0) block(flags.blockMs);
        response.end("hello from processbin\n");
      },
    ],
    ["/healthz", health],
    ["/readyz", health],
    ["/count", (_request, response) => sendJson(response, { requests: traffic.requests, posts: traffic.posts })],
    ["/metrics", metrics(traffic)],
    [
      "/pid",
      (_request, response) =>
        sendJson(response, { pid: process.pid, worker_id: process.env["MULTIPROCESS_WORKER_ID"] }),
    ],
    ["/env", (_request, response) => sendJson(response, readEnvironment())],
    ["/headers", (request, response) => sendJson(response, { http: request.httpVersion, headers: request.rawHeaders })],
    [
      "/sleep",
      (_request, response, query) => {
        const ms = Number(query.get("ms") ?? 0);
        setTimeout(() => response.end(`slept ${ms} ms\n`), ms);
      },
    ],
    [
      "/block",
      (_request, response, query) => {
        const ms = Number(query.get("ms") ?? 0);
        block(ms);
        response.end(`blocked ${ms} ms\n`);
      },
    ],
    ["/upload", upload],
    ["/echo", makeEcho(flags.ledgerPath)],
    [
      "/grow",
      (_request, response, query) => {
        const mb = Number(query.get("mb") ?? 0);
        grow(mb * 1e6);
        response.end(`grew by ${mb} MB\n`);
      },
    ],
    ["/sse", sendEvents],
    ["/trailers", sendTrailers],
    ["/hang", () => hang()],
    ["/spin", () => spin()],
    ["/exit", (_request, _response, query) => process.exit(Number(query.get("code") ?? 1))],
  ]);
}

function makeHealth(flags: Flags): Route {
  const bornAt = performance.now();
  let attempts = 0;
  return (_request, response) => {
    const isEarly = flags.neverReady || performance.now() - bornAt < flags.readyAfterMs;
    const isFlapping = flags.flapEvery > 0 && Math.floor(attempts++ / flags.flapEvery) % 2 === 1;
    if (isEarly) response.writeHead(503).end("not ready\n");
    else if (isFlapping) response.writeHead(503).end("flapping\n");
    else response.end("ok\n");
  };
}

/** Metrics like those of an application. */
function metrics(traffic: Traffic): Route {
  const bornAt = performance.now();
  return (_request, response) => {
    const { requests, posts } = traffic;
    const uptime = ((performance.now() - bornAt) / 1000).toFixed(3);
    response.setHeader("content-type", "text/plain; version=0.0.4").end(
      `# HELP processbin_requests_total Requests.
# TYPE processbin_requests_total counter
processbin_requests_total{method="POST"} ${posts}
processbin_requests_total{method="other"} ${requests - posts}
# HELP processbin_uptime_seconds Time since it listens.
# TYPE processbin_uptime_seconds gauge
processbin_uptime_seconds ${uptime}
`,
    );
  };
}

/** Counts the bytes of the body. */
function upload(request: IncomingMessage, response: ServerResponse): void {
  let bytes = 0;
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  request.on("end", () => sendJson(response, { bytes }));
}

/** Server-sent events: `n` of them, one each `ms`. */
function sendEvents(_request: IncomingMessage, response: ServerResponse, query: URLSearchParams): void {
  const count = Number(query.get("n") ?? 10);
  const everyMs = Number(query.get("ms") ?? 100);
  response.setHeader("content-type", "text/event-stream");
  response.flushHeaders();
  let next = 0;
  const timer = setInterval(() => {
    if (next < count) response.write(`id: ${next}\ndata: event ${next}\n\n`);
    if (++next < count) return;
    clearInterval(timer);
    response.end();
  }, everyMs);
  response.on("close", () => clearInterval(timer));
}

/** A chunked body whose length follows it as a trailer. */
function sendTrailers(_request: IncomingMessage, response: ServerResponse): void {
  const text = "hello with trailers\n";
  response.setHeader("trailer", "x-bytes");
  response.write(text);
  response.addTrailers({ "x-bytes": String(text.length) });
  response.end();
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.setHeader("content-type", "application/json").end(`${JSON.stringify(value)}\n`);
}
