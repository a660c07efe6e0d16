import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type LoadOptions, type LoadTarget, startLoad } from "./load.ts";
import { describeLoad, type LoadReport, type Outcome, quantile } from "./loadReport.ts";

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-worker-id: web-0\r\n\r\nok";

/** A raw server that calls `answer` for each request (each chunk that completes a head), numbered from 0 per connection. */
async function rawServer(
  context: TestContext,
  answer: (socket: Socket, nth: number, connection: number) => void,
  path?: string,
): Promise<LoadTarget> {
  let connections = 0;
  const server = createServer((socket) => {
    const connection = connections++;
    let nth = 0;
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      if (chunk.toString("latin1").includes("\r\n\r\n")) answer(socket, nth++, connection);
    });
  });
  return listen(context, server, path);
}

async function listen(context: TestContext, server: Server, path?: string): Promise<LoadTarget> {
  if (path === undefined) server.listen(0, "127.0.0.1");
  else server.listen(path);
  await once(server, "listening");
  context.after(() => server.close());
  const address = server.address();
  if (typeof address === "string") return { socketPath: address };
  assert.ok(address !== null);
  return { port: address.port };
}

function countsOf(report: LoadReport): Partial<Record<Outcome, number>> {
  return Object.fromEntries(Object.entries(report.counts).filter(([, count]) => count > 0));
}

async function run(target: LoadTarget, options: Partial<LoadOptions> = {}): Promise<LoadReport> {
  return startLoad({ target, connections: 1, maxRequests: 4, ...options }).finished;
}

test("answers on kept-alive connections are counted, with their latency and worker", async (context) => {
  const target = await rawServer(context, (socket) => socket.write(OK));
  const report = await run(target, { connections: 3, maxRequests: 300 });
  assert.deepEqual(countsOf(report), { ok: 300 });
  assert.deepEqual(report.workers, { "web-0": 300 });
  assert.equal(report.connectionsOpened, 3);
  assert.equal(report.latency.count, 300);
  assert.ok(report.latency.p50 > 0 && report.latency.p50 <= report.latency.p99);
  assert.ok(report.latency.p99 <= report.latency.p999 && report.latency.p999 <= report.latency.max);
  assert.ok(Math.abs(report.requestsPerSecond - 300_000 / report.durationMs) < 1e-6);
});

test("with isConnectionPerRequest each request has its own connection", async (context) => {
  const heads: string[] = [];
  const server = createServer((socket) => {
    socket.on("data", (chunk) => {
      heads.push(chunk.toString("latin1"));
      socket.end(OK);
    });
  });
  const report = await run(await listen(context, server), { isConnectionPerRequest: true, maxRequests: 20 });
  assert.deepEqual(countsOf(report), { ok: 20 });
  assert.equal(report.connectionsOpened, 20);
  assert.ok(heads.every((head) => head.includes("connection: close\r\n")));
});

test("the load can use a Unix socket, and workerPattern finds the worker in the body", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "load-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "http.sock");
  const target = await rawServer(context, (socket) => socket.write(OK), path);
  const report = await run(target, { workerPattern: "^(o)k$" });
  assert.deepEqual(countsOf(report), { ok: 4 });
  assert.deepEqual(report.workers, { o: 4 });
  assert.deepEqual(countsOf(await run({ socketPath: join(directory, "missing.sock") })), { refused: 4 });
});

test("requests to a port without a listener are counted as refused", async (context) => {
  const server = createServer();
  const target = await listen(context, server);
  server.close();
  await once(server, "close");
  const report = await run(target);
  assert.deepEqual(countsOf(report), { refused: 4 });
  assert.equal(report.failures[0]?.detail, "ECONNREFUSED");
  assert.equal(report.connectionsOpened, 0);
});

test("RST and FIN, before and within a response, have different outcomes", async (context) => {
  const part = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
  const ways: readonly (readonly [Outcome, (socket: Socket) => void])[] = [
    ["resetBeforeResponse", (socket) => socket.resetAndDestroy()],
    ["closedBeforeResponse", (socket) => socket.end()],
    // The reset must not overtake the bytes, so it is delayed until the client can have read them.
    ["resetMidResponse", (socket) => socket.write(part, () => setTimeout(() => socket.resetAndDestroy(), 20))],
    ["shortBody", (socket) => socket.end(part)],
    ["shortBody", (socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-le")],
    ["shortBody", (socket) => socket.end("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")],
  ];
  for (const [outcome, answer] of ways) {
    const report = await run(await rawServer(context, answer));
    assert.deepEqual(countsOf(report), { [outcome]: 4 }, describeLoad(report));
    assert.equal(report.failures[0]?.isReused, false);
    assert.ok((report.failures[0]?.failedAt ?? 0) >= (report.failures[0]?.sentAt ?? Number.POSITIVE_INFINITY));
  }
});

test("a request on a reused connection that the server closes fails and is not retried", async (context) => {
  let requests = 0;
  const target = await rawServer(context, (socket, nth) => {
    requests++;
    if (nth === 0) socket.write(OK);
    else socket.end();
  });
  const report = await run(target);
  assert.deepEqual(countsOf(report), { ok: 2, closedBeforeResponse: 2 });
  assert.deepEqual(
    report.failures.map(({ isReused }) => isReused),
    [true, true],
  );
  assert.equal(requests, 4);
});

test("connections that the server closes while idle, or after Connection: close, are not failures", async (context) => {
  // The server closes while the client pauses, before the next request.
  const idle = await run(await rawServer(context, (socket) => socket.write(OK, () => socket.end())), {
    pauseMs: [30, 30],
  });
  assert.deepEqual(countsOf(idle), { ok: 4 });
  // The load ends with the last answer, so the FIN after it is not counted.
  assert.equal(idle.idleCloses, 3);
  const announced = await run(
    await rawServer(context, (socket) => socket.end(OK.replace("\r\n\r\n", "\r\nConnection: Close\r\n\r\n"))),
  );
  assert.deepEqual(countsOf(announced), { ok: 4 });
  assert.equal(announced.connectionsOpened, 4);
  // HTTP/1.0 closes unless it says otherwise, and a body without length ends with the connection.
  const old = await run(await rawServer(context, (socket) => socket.end("HTTP/1.0 200 OK\r\n\r\nuntil the end")));
  assert.deepEqual(countsOf(old), { ok: 4 });
});

test("a response that does not begin or end in time is a timeout", async (context) => {
  const before = await run(await rawServer(context, () => {}), { timeoutMs: 50, maxRequests: 2 });
  assert.deepEqual(countsOf(before), { timeout: 2 });
  assert.equal(before.failures[0]?.detail, "no response");
  const within = await run(await rawServer(context, (socket) => socket.write(OK.slice(0, -1))), {
    timeoutMs: 50,
    maxRequests: 2,
  });
  assert.deepEqual(countsOf(within), { timeout: 2 });
  assert.equal(within.failures[0]?.detail, "response begun");
});

test("5xx, 4xx and malformed responses are separate failures with details", async (context) => {
  const overloaded =
    "HTTP/1.1 503 Service Unavailable\r\nx-envoy-overloaded: true\r\ncontent-length: 8\r\n\r\noverflow";
  const server = await run(await rawServer(context, (socket) => socket.write(overloaded)));
  assert.deepEqual(countsOf(server), { serverError: 4 });
  assert.match(server.failures[0]?.detail ?? "", /503 Service.*x-envoy-overloaded: true.*overflow/u);
  // The connection can be reused.
  assert.equal(server.connectionsOpened, 1);
  const missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
  assert.deepEqual(countsOf(await run(await rawServer(context, (socket) => socket.write(missing)))), {
    otherStatus: 4,
  });
  assert.deepEqual(countsOf(await run(await rawServer(context, (socket) => socket.write("hello\r\n\r\n")))), {
    malformed: 4,
  });
  // The body is longer than announced, so the next response would be misread.
  assert.deepEqual(countsOf(await run(await rawServer(context, (socket) => socket.write(`${OK}!`)))), { malformed: 4 });
});

test("responses that arrive byte by byte, chunked, with trailers or after 100 Continue are read completely", async (context) => {
  const texts = [
    OK,
    `HTTP/1.1 100 Continue\r\n\r\n${OK}`,
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;name=value\r\nhello\r\nA\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n",
  ];
  const target = await rawServer(context, (socket, nth) => {
    for (const char of texts[nth] ?? "") socket.write(char);
  });
  const report = await run(target);
  assert.deepEqual(countsOf(report), { ok: 4 }, describeLoad(report));
  assert.equal(report.connectionsOpened, 1);
});

test("kinds of requests are chosen by weight and reported by label", async (context) => {
  const server = createHttpServer((request, response) => response.end(request.url));
  const target = await listen(context, server);
  context.after(() => server.closeAllConnections());
  const report = await run(target, {
    connections: 4,
    maxRequests: 2000,
    withDistribution: true,
    requests: [
      { path: "/slow", weight: 1, label: "slow" },
      { path: "/fast", weight: 19, label: "fast", method: "POST", body: "x" },
    ],
  });
  assert.equal(report.counts.ok, 2000);
  const slow = report.latencyByLabel["slow"];
  assert.ok(slow !== undefined && slow.count > 60 && slow.count < 140, String(slow?.count));
  assert.equal(slow.count + (report.latencyByLabel["fast"]?.count ?? 0), 2000);
  assert.equal(slow.perMille?.length, 1001);
  assert.equal(slow.perMille?.[1000], slow.max);
});

test("stop sends no further request, waits for requests in flight and interrupts pauses", async (context) => {
  const waiting: Socket[] = [];
  let arrived: () => void = () => {};
  const allArrived = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const target = await rawServer(context, (socket) => {
    waiting.push(socket);
    if (waiting.length === 3) arrived();
  });
  const load = startLoad({ target, connections: 3 });
  await allArrived;
  const stopped = load.stop();
  for (const socket of waiting) socket.write(OK);
  assert.deepEqual(countsOf(await stopped), { ok: 3 });

  const pausing = startLoad({
    target: await rawServer(context, (socket) => socket.write(OK)),
    connections: 2,
    pauseMs: [1e6, 1e6],
  });
  await pausing.reached(2);
  assert.deepEqual(countsOf(await pausing.stop()), { ok: 2 });
});

test("disposing of a load aborts its requests in flight", async (context) => {
  const target = await rawServer(context, () => {});
  let finished: Promise<LoadReport>;
  {
    using load = startLoad({ target, connections: 2 });
    finished = load.finished;
  }
  assert.deepEqual(countsOf(await finished), {});
});

test("load.ts as a program prints its report at SIGTERM", async (context) => {
  let received: () => void = () => {};
  const firstRequest = new Promise<void>((resolve) => {
    received = resolve;
  });
  const target = await rawServer(context, (socket) => {
    received();
    socket.write(OK);
  });
  const options: LoadOptions = { target, connections: 2 };
  const file = join(import.meta.dirname, "load.ts");
  const child = spawn(process.execPath, ["--no-warnings", file, JSON.stringify(options)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  context.after(() => child.kill("SIGKILL"));
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  await firstRequest;
  child.kill("SIGTERM");
  await once(child, "close");
  const report = JSON.parse(text) as LoadReport;
  assert.deepEqual(countsOf(report), { ok: report.requests });
  assert.ok(report.requests > 0);
});

test("quantile returns the value at the nearest rank", () => {
  const sorted = Float64Array.from({ length: 100 }, (_, index) => index + 1);
  assert.deepEqual(
    [0, 0.001, 0.5, 0.9, 0.99, 0.999, 1].map((ratio) => quantile(sorted, ratio)),
    [1, 1, 50, 90, 99, 100, 100],
  );
  assert.equal(quantile([], 0.5), 0);
});
