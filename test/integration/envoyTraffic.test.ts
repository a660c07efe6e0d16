/** What a real Envoy with our configuration does to traffic: it passes as it is, and is balanced as promised. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { type ClientHttp2Session, connect, createServer as createHttp2Server } from "node:http2";
import { createServer as createTcpServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { TEST_CERTIFICATE, TEST_KEY } from "../support/certificate.ts";
import { ProxyUnderTest, StubWorker } from "../support/envoy.ts";
import { freePort } from "../support/ports.ts";

/** Reads from a socket until the text is there. */
async function readUntil(socket: Socket, text: string): Promise<string> {
  let seen = "";
  while (!seen.includes(text)) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) await once(socket, "readable");
    else seen += chunk.toString("latin1");
  }
  return seen;
}

/** Asks over HTTP/2. */
async function ask(session: ClientHttp2Session, path: string): Promise<{ status: number; body: string }> {
  const stream = session.request({ ":path": path });
  stream.setEncoding("utf8");
  let body = "";
  stream.on("data", (chunk: string) => {
    body += chunk;
  });
  const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
  await once(stream, "close");
  return { status: Number(headers[":status"]), body };
}

test("headers keep their case, order and values, and only x-forwarded-for and x-forwarded-proto are added [E10]", async () => {
  await using a = await StubWorker.start("a", (_, response) => {
    response.sendDate = false;
    response.writeHead(200, "Fine By Me", [
      "X-OwN",
      "1",
      "set-COOKIE",
      "a=b",
      "set-COOKIE",
      "c=d",
      "Server",
      "mine/1.0",
    ]);
    response.end("a");
  });
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const socket = await under.connect();
  socket.write(
    "GET /a//b/../c%2Fd?x=1 HTTP/1.1\r\nHost: Some.Host\r\nX-FoO: BaR\r\naccept: x\r\nX-Request-ID: mine\r\n\r\n",
  );
  const answer = await readUntil(socket, "\r\n\r\n");
  socket.destroy();
  const [seen] = a.requests;
  assert.equal(seen?.url, "/a//b/../c%2Fd?x=1");
  const headers = (seen?.rawHeaders ?? []).join("\n");
  assert.match(
    headers,
    /^Host\nSome\.Host\nX-FoO\nBaR\naccept\nx\nX-Request-ID\nmine\nx-forwarded-proto\nhttp\nx-forwarded-for\n127\.0\.0\.1$/u,
  );
  assert.match(answer, /^HTTP\/1\.1 200 Fine By Me\r\n/u);
  for (const line of ["X-OwN: 1", "set-COOKIE: a=b", "set-COOKIE: c=d", "Server: mine/1.0"])
    assert.ok(answer.includes(`${line}\r\n`), answer);
  assert.doesNotMatch(answer, /x-envoy/iu);
});

for (const [trustedHops, proto] of [
  [0, "http"],
  [1, "https"],
  [2, "https"],
] as const)
  test(`x-forwarded-for is extended, and x-forwarded-proto is ${proto} with ${trustedHops} trusted hops`, async () => {
    await using a = await StubWorker.start("a");
    await using under = await ProxyUnderTest.start([a.upstream(0)], { trustedHops });
    await under.get("/", { "x-forwarded-for": "198.51.100.7", "x-forwarded-proto": "https" });
    await under.get();
    assert.equal(a.requests[0]?.headers["x-forwarded-proto"], proto);
    assert.equal(a.requests[0]?.headers["x-forwarded-for"], "198.51.100.7,127.0.0.1");
    assert.equal(a.requests[1]?.headers["x-forwarded-for"], "127.0.0.1");
    assert.deepEqual(
      Object.keys(a.requests[0]?.headers ?? {}).filter((name) => name.startsWith("x-envoy")),
      [],
    );
  });

for (const trustedHops of [0, 1, 2])
  test(`hash_on: source_ip uses the address that trusted hop ${trustedHops} saw`, async () => {
    const workers = await Promise.all(["a", "b", "c"].map((name) => StubWorker.start(name)));
    await using under = await ProxyUnderTest.start(
      workers.map((worker, slot) => worker.upstream(slot)),
      { algorithm: "MAGLEV", hashOn: "source_ip", trustedHops },
    );
    // How many workers serve clients that differ in one of the two addresses.
    const spread = async (addresses: (client: number) => string) => {
      const bodies = new Set<string>();
      for (let client = 1; client <= 40; client++)
        bodies.add((await under.get("/", { "x-forwarded-for": addresses(client) })).body);
      return bodies.size;
    };
    assert.equal(await spread((client) => `198.51.100.9, 198.51.100.${client}`), trustedHops === 1 ? 3 : 1);
    assert.equal(await spread((client) => `198.51.100.${client}, 203.0.113.1`), trustedHops === 2 ? 3 : 1);
    for (const worker of workers) await worker[Symbol.asyncDispose]();
  });

test("too many or too large headers get 431, those of a worker 502", async () => {
  const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`x-${index}`, "1"]));
  await using a = await StubWorker.start("a", (incoming, response) => {
    if (incoming.url === "/many") response.writeHead(200, many(60));
    if (incoming.url === "/large") response.writeHead(200, { "x-large": "l".repeat(80_000) });
    response.end("a");
  });
  await using under = await ProxyUnderTest.start([a.upstream(0)], { maxHeaders: 50, maxHeaderBytes: 70_000 });
  assert.equal((await under.get("/", many(40))).status, 200);
  assert.equal((await under.get("/", many(60))).status, 431);
  assert.equal((await under.get("/", { "x-large": "l".repeat(80_000) })).status, 431);
  assert.equal((await under.get(`/${"l".repeat(80_000)}`)).status, 431);
  assert.equal((await under.get("/many")).status, 502);
  assert.equal((await under.get("/large")).status, 502);
  assert.equal(a.requests.length, 3);
});

test("an early response arrives if the worker reads the rest of the body before it closes", async () => {
  const server = createTcpServer((socket) => {
    socket.on("error", () => {});
    // Only after the answer is out is the rest read, and thrown away.
    socket.once("data", () => {
      socket.end("HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig\n");
      socket.resume();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  const upstream = { slot: 0, incarnation: 1, state: "serving", address: { port: address.port } } as const;
  await using under = await ProxyUnderTest.start([upstream]);
  for (let round = 0; round < 20; round++) {
    const socket = await under.connect();
    socket.on("error", () => {});
    socket.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n");
    socket.write(Buffer.alloc(20_000_000));
    assert.match(await readUntil(socket, "big\n"), /^HTTP\/1\.1 413 Too Large/u);
    socket.destroy();
  }
  server.close();
});

test("a WebSocket works in both directions [E10]", async () => {
  await using a = await StubWorker.start("a");
  a.server.on("upgrade", (_, socket: Socket) => {
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    socket.on("data", (data) => socket.write(`<${data}>`));
  });
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const socket = await under.connect();
  socket.write(
    "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  assert.match(await readUntil(socket, "\r\n\r\n"), /^HTTP\/1\.1 101 /u);
  socket.write("one");
  assert.equal(await readUntil(socket, "<one>"), "<one>");
  socket.write("two");
  assert.equal(await readUntil(socket, "<two>"), "<two>");
  assert.equal(await under.admin("/clusters").then((text) => /rq_active::(\d+)/u.exec(text)?.[1]), "1");
  socket.destroy();
});

test("server-sent events arrive one by one, not at the end [E10]", async () => {
  await using a = await StubWorker.start("a", (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: 1\n\n");
  });
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const socket = await under.connect();
  socket.write("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
  await readUntil(socket, "data: 1");
  assert.equal(a.requests.length, 1);
  socket.destroy();
});

test("HTTP/1.0 without a host gets a response [E10]", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const socket = await under.connect();
  const ended = once(socket, "end");
  socket.write("GET / HTTP/1.0\r\n\r\n");
  assert.match(await readUntil(socket, "\r\n\r\na"), /^HTTP\/1\.0 200 OK/u);
  await ended;
});

test("trailers are passed in both directions [E10]", async () => {
  await using a = await StubWorker.start("a", (incoming, response) => {
    incoming.resume().on("end", () => {
      response.writeHead(200, { trailer: "x-sum" });
      response.write("body");
      response.addTrailers({ "x-sum": `got ${incoming.trailers["x-client-sum"]}` });
      response.end();
    });
  });
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const socket = await under.connect();
  socket.write(
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: x-client-sum\r\n\r\n3\r\nabc\r\n0\r\nx-client-sum: 42\r\n\r\n",
  );
  assert.match(await readUntil(socket, "x-sum: got 42"), /body/u);
  socket.destroy();
});

test("the worker itself decides on Expect: 100-continue [E10]", async () => {
  await using a = await StubWorker.start("a");
  const asked: string[] = [];
  a.server.on("checkContinue", (incoming, response) => {
    asked.push(incoming.url ?? "");
    if (incoming.url === "/no") response.writeHead(417).end();
    else {
      response.writeContinue();
      incoming.resume().on("end", () => response.end("taken"));
    }
  });
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const yes = await under.connect();
  yes.write("POST /yes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  await readUntil(yes, "HTTP/1.1 100 Continue\r\n\r\n");
  yes.write("abc");
  await readUntil(yes, "taken");
  const no = await under.connect();
  no.write("POST /no HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  assert.match(await readUntil(no, "\r\n\r\n"), /^HTTP\/1\.1 417/u);
  assert.deepEqual(asked, ["/yes", "/no"]);
  yes.destroy();
  no.destroy();
});

test("a body of 64 MB arrives unchanged in both directions [E10]", async () => {
  await using a = await StubWorker.start("a", (incoming, response) => incoming.pipe(response));
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const part = Buffer.alloc(1024 * 1024, "0123456789abcde");
  const sent = createHash("sha256");
  const received = createHash("sha256");
  const call = request({ host: "127.0.0.1", port: under.settings.listenerPort, method: "POST", agent: false });
  const answered = once(call, "response");
  for (let index = 0; index < 64; index++) {
    part.writeUInt32LE(index);
    sent.update(part);
    if (!call.write(Buffer.from(part))) await Promise.race([once(call, "drain"), answered.then(([r]) => r.resume())]);
    if (index === 0) {
      const [response] = await answered;
      response.on("data", (chunk: Buffer) => received.update(chunk));
    }
  }
  call.end();
  const [response] = await answered;
  await once(response, "end");
  assert.equal(received.digest("hex"), sent.digest("hex"));
});

test("HTTP/2 with prior knowledge reaches a worker that speaks HTTP/1.1", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const session = connect(`http://127.0.0.1:${under.settings.listenerPort}`);
  const answers = await Promise.all(Array.from({ length: 10 }, () => ask(session, "/")));
  assert.deepEqual(new Set(answers.map(({ body }) => body)), new Set(["a"]));
  assert.equal(a.requests[0]?.httpVersion, "1.1");
  session.close();
});

test("Envoy terminates TLS and negotiates HTTP/2", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.create();
  const tls = { cert: join(under.directory, "cert.pem"), key: join(under.directory, "key.pem") };
  writeFileSync(tls.cert, TEST_CERTIFICATE);
  writeFileSync(tls.key, TEST_KEY);
  Object.assign(under.settings, { tls });
  under.proxy.update([a.upstream(0)]);
  under.spawn(1);
  await under.told("ready");
  const session = connect(`https://127.0.0.1:${under.settings.listenerPort}`, { ca: TEST_CERTIFICATE });
  assert.deepEqual(await ask(session, "/"), { status: 200, body: "a" });
  assert.equal(session.alpnProtocol, "h2");
  assert.equal(a.requests[0]?.headers["x-forwarded-proto"], "https");
  session.close();
});

test("gRPC reaches workers over HTTP/2 with its trailers", async () => {
  const server = createHttp2Server((_, response) => {
    response.addTrailers({ "grpc-status": "0" });
    response.writeHead(200, { "content-type": "application/grpc" });
    response.end("reply");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  const upstream = { slot: 0, incarnation: 1, state: "serving", address: { port: address.port } } as const;
  await using under = await ProxyUnderTest.start([upstream], { protocol: "grpc", maxConcurrentPerWorker: 2 });
  const session = connect(`http://127.0.0.1:${under.settings.listenerPort}`);
  const stream = session.request({ ":path": "/x.Y/Z", ":method": "POST", te: "trailers" });
  stream.resume().end();
  const [trailers] = (await once(stream, "trailers")) as [Record<string, unknown>];
  assert.equal(trailers["grpc-status"], "0");
  session.destroy();
  server.close();
});

test("plain TCP works, and a worker is drained when its last connection is closed", async () => {
  const server = createTcpServer((socket) => socket.on("data", (data) => socket.write(`<${data}>`)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  const upstream = { slot: 0, incarnation: 1, address: { port: address.port } };
  await using under = await ProxyUnderTest.start([{ ...upstream, state: "serving" }], { protocol: "tcp" });
  const socket = await under.connect();
  socket.write("ping");
  await readUntil(socket, "<ping>");
  await under.apply([{ ...upstream, state: "draining" }]);
  await under.until(() => under.proxy.inFlight(0) === 1, "the connection is seen");
  socket.write("again");
  await readUntil(socket, "<again>");
  assert.deepEqual(
    under.news.map(({ name }) => name),
    ["ready"],
  );
  socket.destroy();
  await under.told("drained");
  server.close();
});

test("a TCP worker never has more connections than its limit, and the next connection waits", async () => {
  const open = new Set<Socket>();
  let most = 0;
  const server = createTcpServer((socket) => {
    open.add(socket);
    most = Math.max(most, open.size);
    socket.on("error", () => {});
    socket.on("close", () => open.delete(socket));
    socket.on("data", (data) => socket.write(`<${data}>`));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  const upstream = { slot: 0, incarnation: 1, state: "serving", address: { port: address.port } } as const;
  await using under = await ProxyUnderTest.start([upstream], { protocol: "tcp", maxConcurrentPerWorker: 1 });
  const sockets = await Promise.all([under.connect(), under.connect(), under.connect()]);
  const answers = sockets.map(async (socket, index) => {
    socket.write(`hello ${index}`);
    const answer = await readUntil(socket, `<hello ${index}>`);
    socket.destroy();
    return answer;
  });
  await Promise.all(answers);
  assert.equal(most, 1);
  server.close();
});

test("a request that reached a worker is not retried on another [E6]", async () => {
  const broken = (incoming: { socket: Socket; on(name: "data", then: () => void): unknown }) =>
    incoming.on("data", () => incoming.socket.destroy());
  await using a = await StubWorker.start("a", broken);
  await using b = await StubWorker.start("b", broken);
  await using under = await ProxyUnderTest.start([a.upstream(0), b.upstream(1)]);
  for (let round = 1; round <= 10; round++) {
    const call = request({ host: "127.0.0.1", port: under.settings.listenerPort, method: "POST", agent: false });
    call.end("order one");
    const [response] = await once(call, "response");
    response.resume();
    assert.equal(response.statusCode, 503);
    assert.equal(a.requests.length + b.requests.length, round);
  }
});

test("a request to an unreachable worker is retried on another", async () => {
  await using a = await StubWorker.start("a");
  const gone = { slot: 1, incarnation: 1, state: "serving", address: { port: await freePort() } } as const;
  await using under = await ProxyUnderTest.start([a.upstream(0), gone], { algorithm: "ROUND_ROBIN" });
  for (let round = 0; round < 20; round++) assert.equal((await under.get("/", {}, "POST")).status, 200);
  // After three retries Envoy ejects the worker.
  await under.until(() => under.proxy.readings().retriesTotal >= 3, "retries are counted");
});

test("with as many requests as workers each worker gets one [E11]", async () => {
  const workers = await Promise.all(Array.from({ length: 8 }, (_, slot) => StubWorker.start(String(slot))));
  await using under = await ProxyUnderTest.start(workers.map((worker, slot) => worker.upstream(slot)));
  for (let round = 0; round < 5; round++) {
    const answers = workers.map(() => under.get("/hold"));
    await Promise.all(workers.map((worker) => worker.holds(1)));
    for (const worker of workers) worker.release();
    await Promise.all(answers);
  }
  assert.deepEqual(
    workers.map(({ mostAtOnce }) => mostAtOnce),
    workers.map(() => 1),
  );
  for (const worker of workers) await worker[Symbol.asyncDispose]();
});

test("a worker never exceeds its limit; waiting requests are spread, and refused beyond the queue", async () => {
  await using a = await StubWorker.start("a");
  await using b = await StubWorker.start("b");
  await using under = await ProxyUnderTest.start([a.upstream(0), b.upstream(1)], {
    maxConcurrentPerWorker: 1,
    maxQueue: 2,
  });
  const first = [under.get("/hold"), under.get("/hold")];
  await Promise.all([a.holds(1), b.holds(1)]);
  const waiting = [under.get("/hold"), under.get("/hold")];
  await under.until(() => under.proxy.readings().queued === 2, "two wait");
  assert.equal((await under.get("/hold")).status, 503);
  for (let round = 0; round < 2; round++) {
    await Promise.all([a.holds(1), b.holds(1)]);
    a.release();
    b.release();
  }
  assert.deepEqual(
    (await Promise.all([...first, ...waiting])).map(({ status }) => status),
    [200, 200, 200, 200],
  );
  assert.deepEqual([a.mostAtOnce, b.mostAtOnce], [1, 1]);
  await under.until(() => under.proxy.readings().queueOverflowTotal === 1, "the refusal is counted");
});

for (const algorithm of ["RING_HASH", "MAGLEV"] as const) {
  test(`${algorithm} sends equal values to one worker and different ones to all`, async () => {
    const workers = await Promise.all(["a", "b", "c"].map((name) => StubWorker.start(name)));
    await using under = await ProxyUnderTest.start(
      workers.map((worker, slot) => worker.upstream(slot)),
      { algorithm, hashOn: "header:x-user" },
    );
    const all = new Set<string>();
    for (let user = 0; user < 40; user++) {
      const ask = async () => (await under.get("/", { "x-user": String(user) })).body;
      const first = await ask();
      assert.equal(await ask(), first);
      all.add(first);
    }
    assert.equal(all.size, 3);
    for (const worker of workers) await worker[Symbol.asyncDispose]();
  });
}

test("a request that takes longer than request_timeout gets 504", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)], { requestTimeoutMs: 100 });
  assert.equal((await under.get("/hold")).status, 504);
});

test("Envoy's health check sends the host localhost, or the configured one, before a worker gets traffic", async () => {
  const hosts: string[] = [];
  await using a = await StubWorker.start("a", (incoming, response) => {
    hosts.push(`${incoming.headers.host} ${incoming.url}`);
    response.end("a");
  });
  await using under = await ProxyUnderTest.start([a.upstream(0)], { healthCheckPath: "/healthz" });
  assert.equal(hosts[0], "localhost /healthz");
  assert.equal((await under.get()).body, "a");
  hosts.length = 0;
  const changes = { healthCheckPath: "/healthz", healthCheckHost: "app.example" };
  await using _ = await ProxyUnderTest.start([a.upstream(0)], changes);
  assert.ok(hosts.includes("app.example /healthz"), hosts.join());
});

test("Envoy has the configured number of worker threads [E12]", async () => {
  for (const concurrency of [1, 3]) {
    await using under = await ProxyUnderTest.start([], { concurrency });
    const tasks = `/proc/${under.child?.pid}/task`;
    const names = readdirSync(tasks).map((task) => readFileSync(`${tasks}/${task}/comm`, "utf8").trim());
    assert.equal(names.filter((name) => name.startsWith("wrk:")).length, concurrency);
  }
});

test("the access log has a JSON line for each request", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)], { accessLog: true });
  await under.get("/logged?x=1");
  await under.until(() => under.output.includes("\n"), "a line is written");
  const record = JSON.parse(under.output.split("\n")[0] ?? "") as Record<string, unknown>;
  assert.equal(record["path"], "/logged?x=1");
  assert.equal(record["status"], 200);
  assert.equal(record["upstream"], `127.0.0.1:${a.port}`);
});

test("traffic statistics are read once a second and continue across a restart of Envoy", async () => {
  await using a = await StubWorker.start("a", (incoming, response) =>
    response.writeHead(incoming.url === "/fail" ? 500 : 200).end(),
  );
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const round = async (run: number) => {
    for (let index = 0; index < 3; index++) await under.get();
    await under.get("/fail");
    await under.until(() => under.proxy.readings().requestTimeMs?.count === 4 * run, `the histogram of run ${run}`);
    const readings = under.proxy.readings();
    assert.equal(readings.downstreamRequestsTotal, 4 * run);
    assert.equal(readings.downstream5xxTotal, run);
    assert.deepEqual(readings.workers.get(0), {
      requestsTotal: 4 * run,
      failedTotal: run,
      inFlight: 0,
      failedActiveCheck: false,
    });
    assert.equal(readings.requestTimeMs?.buckets.at(-1)?.count, 4 * run);
    assert.ok(readings.updatesAppliedTotal >= run);
  };
  await round(1);
  await under.kill();
  under.spawn(2);
  await under.told("ready", 2);
  await round(2);
});
