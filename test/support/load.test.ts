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

/** A server that calls `answer` for each request (each chunk that ends a head), numbered from 0 on its connection. */
async function misbehave(
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

test("answers are counted with latency and worker, on connections that are kept alive", async (context) => {
  const target = await misbehave(context, (socket) => socket.write(OK));
  const report = await run(target, { connections: 3, maxRequests: 300 });
  assert.deepEqual(countsOf(report), { ok: 300 });
  assert.deepEqual(report.workers, { "web-0": 300 });
  assert.equal(report.connectionsOpened, 3);
  assert.equal(report.latency.count, 300);
  assert.ok(report.latency.p50 > 0 && report.latency.p50 <= report.latency.p99);
  assert.ok(report.latency.p99 <= report.latency.p999 && report.latency.p999 <= report.latency.max);
  assert.ok(Math.abs(report.requestsPerSecond - 300_000 / report.durationMs) < 1e-6);
});

test("a new connection for each request is what was asked for", async (context) => {
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

test("Unix sockets are asked as TCP is, and the worker may be named by the body", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "load-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "http.sock");
  const target = await misbehave(context, (socket) => socket.write(OK), path);
  const report = await run(target, { workerPattern: "^(o)k$" });
  assert.deepEqual(countsOf(report), { ok: 4 });
  assert.deepEqual(report.workers, { o: 4 });
  assert.deepEqual(countsOf(await run({ socketPath: join(directory, "nobody.sock") })), { refused: 4 });
});

test("a port nobody listens on refuses", async (context) => {
  const server = createServer();
  const target = await listen(context, server);
  server.close();
  await once(server, "close");
  const report = await run(target);
  assert.deepEqual(countsOf(report), { refused: 4 });
  assert.equal(report.failures[0]?.detail, "ECONNREFUSED");
  assert.equal(report.connectionsOpened, 0);
});

test("RST and FIN before, and RST and FIN within a response are told apart", async (context) => {
  const part = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
  const ways: readonly (readonly [Outcome, (socket: Socket) => void])[] = [
    ["resetBeforeResponse", (socket) => socket.resetAndDestroy()],
    ["closedBeforeResponse", (socket) => socket.end()],
    // The reset must not overtake the bytes: it follows once the client can have read them.
    ["resetMidResponse", (socket) => socket.write(part, () => setTimeout(() => socket.resetAndDestroy(), 20))],
    ["shortBody", (socket) => socket.end(part)],
    ["shortBody", (socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-le")],
    ["shortBody", (socket) => socket.end("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")],
  ];
  for (const [outcome, answer] of ways) {
    const report = await run(await misbehave(context, answer));
    assert.deepEqual(countsOf(report), { [outcome]: 4 }, describeLoad(report));
    assert.equal(report.failures[0]?.isReused, false);
    assert.ok((report.failures[0]?.failedAt ?? 0) >= (report.failures[0]?.sentAt ?? Number.POSITIVE_INFINITY));
  }
});

test("a request sent on a reused connection that is closed instead of answered is a failure, and is not sent again", async (context) => {
  let requests = 0;
  const target = await misbehave(context, (socket, nth) => {
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

test("connections that the server closes while idle, or announces to close, are no failure", async (context) => {
  // Closed while the client pauses, before it has sent anything.
  const idle = await run(await misbehave(context, (socket) => socket.write(OK, () => socket.end())), {
    pauseMs: [30, 30],
  });
  assert.deepEqual(countsOf(idle), { ok: 4 });
  // The load ends with the last answer, so the FIN after it is seen by nobody.
  assert.equal(idle.idleCloses, 3);
  const announced = await run(
    await misbehave(context, (socket) => socket.end(OK.replace("\r\n\r\n", "\r\nConnection: Close\r\n\r\n"))),
  );
  assert.deepEqual(countsOf(announced), { ok: 4 });
  assert.equal(announced.connectionsOpened, 4);
  // HTTP/1.0 closes unless it says otherwise, and a body without length ends with the connection.
  const old = await run(await misbehave(context, (socket) => socket.end("HTTP/1.0 200 OK\r\n\r\nuntil the end")));
  assert.deepEqual(countsOf(old), { ok: 4 });
});

test("a response that does not come, or does not end, in time is a timeout", async (context) => {
  const before = await run(await misbehave(context, () => {}), { timeoutMs: 50, maxRequests: 2 });
  assert.deepEqual(countsOf(before), { timeout: 2 });
  assert.equal(before.failures[0]?.detail, "no response");
  const within = await run(await misbehave(context, (socket) => socket.write(OK.slice(0, -1))), {
    timeoutMs: 50,
    maxRequests: 2,
  });
  assert.deepEqual(countsOf(within), { timeout: 2 });
  assert.equal(within.failures[0]?.detail, "response begun");
});

test("5xx, 4xx and nonsense are failures of their own, with what was said", async (context) => {
  const overloaded =
    "HTTP/1.1 503 Service Unavailable\r\nx-envoy-overloaded: true\r\ncontent-length: 8\r\n\r\noverflow";
  const server = await run(await misbehave(context, (socket) => socket.write(overloaded)));
  assert.deepEqual(countsOf(server), { serverError: 4 });
  assert.match(server.failures[0]?.detail ?? "", /503 Service.*x-envoy-overloaded: true.*overflow/u);
  // The connection is as good as before.
  assert.equal(server.connectionsOpened, 1);
  const missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
  assert.deepEqual(countsOf(await run(await misbehave(context, (socket) => socket.write(missing)))), {
    otherStatus: 4,
  });
  assert.deepEqual(countsOf(await run(await misbehave(context, (socket) => socket.write("hello\r\n\r\n")))), {
    malformed: 4,
  });
  // More than was announced: the next response would be read in the wrong place.
  assert.deepEqual(countsOf(await run(await misbehave(context, (socket) => socket.write(`${OK}!`)))), { malformed: 4 });
});

test("responses are read whole however they are cut, chunked, with trailers and after 100 Continue", async (context) => {
  const texts = [
    OK,
    `HTTP/1.1 100 Continue\r\n\r\n${OK}`,
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;name=value\r\nhello\r\nA\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n",
  ];
  const target = await misbehave(context, (socket, nth) => {
    for (const char of texts[nth] ?? "") socket.write(char);
  });
  const report = await run(target);
  assert.deepEqual(countsOf(report), { ok: 4 }, describeLoad(report));
  assert.equal(report.connectionsOpened, 1);
});

test("kinds of requests are drawn by weight and reported by label", async (context) => {
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

test("stop begins nothing more, lets requests in flight end, and ends a pause", async (context) => {
  const waiting: Socket[] = [];
  let arrived: () => void = () => {};
  const allArrived = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const target = await misbehave(context, (socket) => {
    waiting.push(socket);
    if (waiting.length === 3) arrived();
  });
  const load = startLoad({ target, connections: 3 });
  await allArrived;
  const stopped = load.stop();
  for (const socket of waiting) socket.write(OK);
  assert.deepEqual(countsOf(await stopped), { ok: 3 });

  const pausing = startLoad({
    target: await misbehave(context, (socket) => socket.write(OK)),
    connections: 2,
    pauseMs: [1e6, 1e6],
  });
  await pausing.reached(2);
  assert.deepEqual(countsOf(await pausing.stop()), { ok: 2 });
});

test("a load that is disposed of breaks off what is in flight and ends", async (context) => {
  const target = await misbehave(context, () => {});
  let finished: Promise<LoadReport>;
  {
    using load = startLoad({ target, connections: 2 });
    finished = load.finished;
  }
  assert.deepEqual(countsOf(await finished), {});
});

test("it is a program too, which prints the report at SIGTERM", async (context) => {
  let asked: () => void = () => {};
  const wasAsked = new Promise<void>((resolve) => {
    asked = resolve;
  });
  const target = await misbehave(context, (socket) => {
    asked();
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
  await wasAsked;
  child.kill("SIGTERM");
  await once(child, "close");
  const report = JSON.parse(text) as LoadReport;
  assert.deepEqual(countsOf(report), { ok: report.requests });
  assert.ok(report.requests > 0);
});

test("a quantile is the nearest rank", () => {
  const sorted = Float64Array.from({ length: 100 }, (_, index) => index + 1);
  assert.deepEqual(
    [0, 0.001, 0.5, 0.9, 0.99, 0.999, 1].map((ratio) => quantile(sorted, ratio)),
    [1, 1, 50, 90, 99, 100, 100],
  );
  assert.equal(quantile([], 0.5), 0);
});
