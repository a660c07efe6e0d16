/** The control of a real Envoy: endpoints that change, drains, and an Envoy that vanishes in the midst of them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { renameSync, rmSync, watch } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { proxyFiles } from "../../src/envoy/resources/files.ts";
import { ProxyUnderTest, StubWorker } from "../support/envoy.ts";
import { freePort } from "../support/ports.ts";

test("Envoy balances over workers by port and by Unix socket, and follows each change", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  assert.deepEqual((await under.told("ready")).args, [1]);
  assert.equal((await under.get()).body, "a");
  const path = join(under.directory, "b.sock");
  await using b = new StubWorker("b");
  await new Promise<void>((listening) => b.server.listen(path, listening));
  await under.apply([{ slot: 1, incarnation: 1, state: "serving", address: { path } }]);
  assert.equal((await under.get()).body, "b");
});

/** Reads the endpoints as fast as it can until the version that ends the test; tells what it saw. */
const READER = `
  const { readFileSync } = require("node:fs");
  const [file, last] = process.argv.slice(1);
  const versions = new Set();
  const broken = [];
  for (let text = ""; ; ) {
    try { text = readFileSync(file, "utf8"); } catch (error) { broken.push(String(error)); continue; }
    try { versions.add(JSON.parse(text).version_info); } catch { broken.push(text); }
    if (versions.has(last)) break;
  }
  process.stdout.write(JSON.stringify({ versions: versions.size, broken }));
`;

test("a reader of the endpoints never sees an incomplete file, and each change is a rename [E2]", async () => {
  await using under = await ProxyUnderTest.create();
  under.proxy.prepare();
  const { endpoints } = proxyFiles(under.location);
  const events: string[] = [];
  const watcher = watch(dirname(endpoints), (event, name) => events.push(`${event} ${name}`));
  const updates = 2000;
  const reader = spawn(process.execPath, ["-e", READER, endpoints, String(updates + 1)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let report = "";
  reader.stdout.setEncoding("utf8").on("data", (text: string) => {
    report += text;
  });
  const ended = once(reader, "close");
  for (let round = 0; round < updates; round++) {
    const upstreams = Array.from({ length: 1 + (round % 200) }, (_, slot) => ({
      slot,
      incarnation: 1,
      state: "serving" as const,
      address: { port: 20_000 + slot + (round % 7) },
    }));
    under.proxy.update(upstreams);
    await new Promise((turn) => setImmediate(turn));
  }
  await ended;
  watcher.close();
  const { versions, broken } = JSON.parse(report) as { versions: number; broken: string[] };
  assert.deepEqual(broken, []);
  assert.ok(versions > 1, `the reader saw ${versions} versions`);
  assert.deepEqual(
    events.filter((event) => event === "change eds.json"),
    [],
  );
  assert.ok(events.includes("rename eds.json"));
});

test("a rejected update keeps the previous endpoints and is reported [E3]", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  // No socket can have so long a path, so Envoy must refuse it.
  const path = `/tmp/${"x".repeat(200)}.sock`;
  under.proxy.update([{ slot: 1, incarnation: 1, state: "serving", address: { path } }]);
  const { args } = await under.told("updateRefused");
  assert.match(args[0], /rejected version \d+ of the endpoints/u);
  assert.equal((await under.get()).body, "a");
  await using b = await StubWorker.start("b");
  await under.apply([b.upstream(1)]);
  assert.equal((await under.get()).body, "b");
  assert.equal(under.news.filter(({ name }) => name === "updateRefused").length, 1);
});

test("an update that Envoy did not notice is reported once and rewritten until it is applied [E3]", async () => {
  await using a = await StubWorker.start("a");
  await using b = await StubWorker.start("b");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const { endpoints } = proxyFiles(under.location);
  const directory = dirname(endpoints);
  // Envoy watches the directory it was started with, not its name; then that comes back.
  renameSync(directory, `${directory}.away`);
  under.proxy.update([b.upstream(1)]);
  await under.told("writeFailed");
  await under.told("updateLate");
  assert.equal((await under.get()).body, "a");
  renameSync(`${directory}.away`, directory);
  await under.apply([b.upstream(1)]);
  assert.equal((await under.get()).body, "b");
  assert.equal(under.news.filter(({ name }) => name === "updateLate").length, 1);
});

test("draining workers get no new requests even if one of four workers is left [E4]", async () => {
  await using a = await StubWorker.start("a");
  await using b = await StubWorker.start("b");
  await using c = await StubWorker.start("c");
  await using d = await StubWorker.start("d");
  const ill = [b, c, d];
  const all = [a.upstream(0), ...ill.map((worker, index) => worker.upstream(index + 1))];
  await using under = await ProxyUnderTest.start(all);
  await under.apply([a.upstream(0), ...ill.map((worker, index) => worker.upstream(index + 1, "draining"))]);
  await under.told("drained", 3);
  for (let round = 0; round < 50; round++) assert.equal((await under.get()).body, "a");
  assert.deepEqual(
    ill.map(({ requests }) => requests.length),
    [0, 0, 0],
  );
});

test("if every worker drains, requests are refused instead of sent to one of them", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  await under.apply([a.upstream(0, "draining")]);
  await under.told("drained");
  assert.equal((await under.get()).status, 503);
  assert.equal(a.requests.length, 0);
});

test("a worker is drained when its last request has finished, not before", async () => {
  await using a = await StubWorker.start("a");
  await using b = await StubWorker.start("b");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const answers = [under.get("/hold"), under.get("/hold")];
  await a.holds(2);
  await under.apply([a.upstream(0, "draining"), b.upstream(1)]);
  assert.equal((await under.get()).body, "b");
  await under.until(() => under.proxy.inFlight(0) === 2, "two requests are in flight");
  assert.deepEqual(
    under.news.filter(({ name }) => name === "drained"),
    [],
  );
  a.release();
  assert.deepEqual((await under.told("drained")).args, [0, 1]);
  assert.deepEqual(
    (await Promise.all(answers)).map(({ body }) => body),
    ["a", "a"],
  );
  // Repeating the wish tells nothing twice.
  under.proxy.update([a.upstream(0, "draining"), b.upstream(1)]);
  await under.apply([b.upstream(1)]);
  assert.equal(under.news.filter(({ name }) => name === "drained").length, 1);
});

test("requests that wait for a connection to a worker count while it drains", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)], { maxConcurrentPerWorker: 1 });
  const answers = [under.get("/hold/1"), under.get("/hold/2"), under.get("/hold/3")];
  await a.holds(1);
  assert.equal(a.mostAtOnce, 1);
  await under.apply([a.upstream(0, "draining")]);
  for (let round = 0; round < 3; round++) {
    await a.holds(1);
    assert.deepEqual(
      under.news.filter(({ name }) => name === "drained"),
      [],
    );
    a.release();
  }
  await under.told("drained");
  assert.deepEqual(
    (await Promise.all(answers)).map(({ status }) => status),
    [200, 200, 200],
  );
  assert.equal(a.mostAtOnce, 1);
});

test("a successor on the same port is a new worker for Envoy, and its counts start at 0", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  for (let round = 0; round < 5; round++) await under.get();
  await under.until(() => under.counted.get("0/1") === 5, "five requests are counted");
  // Straight from one incarnation to the next.
  under.proxy.update([a.upstream(0, "serving", 2)]);
  await under.until(() => under.counted.get("0/2") === 0, "the successor is counted");
  for (let round = 0; round < 3; round++) await under.get();
  await under.until(() => under.counted.get("0/2") === 3, "three requests are counted");
  assert.equal(under.proxy.readings().workers.get(0)?.requestsTotal, 8);
});

test("if Envoy is killed while a worker drains, the worker is drained at once", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const cut = assert.rejects(under.get("/hold"));
  await a.holds(1);
  await under.apply([a.upstream(0, "draining")]);
  await under.until(() => under.proxy.inFlight(0) === 1, "it is seen");
  await under.kill();
  assert.deepEqual((await under.told("drained")).args, [0, 1]);
  await cut;
});

test("a worker that drains while no Envoy runs is drained at once", async () => {
  await using under = await ProxyUnderTest.create();
  const upstream = { slot: 3, incarnation: 7, address: { port: 1 }, state: "draining" } as const;
  under.proxy.update([upstream]);
  assert.deepEqual(under.news, []);
  assert.deepEqual((await under.told("drained")).args, [3, 7]);
});

test("an Envoy killed while it starts, serves, updates or drains restarts with the desired endpoints", async () => {
  await using a = await StubWorker.start("a");
  await using b = await StubWorker.start("b");
  await using under = await ProxyUnderTest.create();
  under.proxy.update([a.upstream(0)]);
  under.spawn(1);
  await under.kill();
  under.spawn(2);
  assert.deepEqual((await under.told("ready")).args, [2]);
  for (let round = 0; round < 4; round++) assert.equal((await under.get()).body, "a");
  await under.until(() => under.counted.get("0/1") === 4, "they are counted");
  await under.kill();
  assert.equal(under.proxy.inFlight(0), 0);
  under.spawn(3);
  assert.deepEqual((await under.told("ready", 2)).args, [3]);
  under.proxy.update([b.upstream(1)]);
  await under.kill();
  under.spawn(4);
  assert.deepEqual((await under.told("ready", 3)).args, [4]);
  assert.equal((await under.get()).body, "b");
  await under.until(() => under.counted.get("1/1") === 1, "it is counted");
  assert.equal(under.proxy.readings().workers.get(0)?.requestsTotal, 4);
  under.proxy.drainListeners();
  await under.kill();
  await under.told("listenersDrained");
  assert.deepEqual(
    under.news.map(({ name }) => name).filter((name) => name !== "ready"),
    ["listenersDrained"],
  );
});

test("an Envoy that exits at once causes no notification", async () => {
  await using under = await ProxyUnderTest.create();
  under.proxy.prepare();
  under.proxy.spawned(1);
  under.proxy.ended();
  under.proxy.spawned(2);
  under.proxy[Symbol.dispose]();
  await new Promise((turn) => setImmediate(turn));
  assert.deepEqual(under.news, []);
});

test("a port in use is reported as the reason for Envoy's failure [E8]", async () => {
  await using taken = await StubWorker.start("other");
  await using under = await ProxyUnderTest.create({ listenerPort: taken.port });
  under.spawn(1);
  const { args } = await under.told("failed");
  assert.equal(args[0], 1);
  assert.match(args[1], new RegExp(`cannot bind '127\\.0\\.0\\.1:${taken.port}': Address already in use`, "u"));
});

test("two Envoys cannot share a port unnoticed", async () => {
  await using first = await ProxyUnderTest.start([]);
  await using second = await ProxyUnderTest.create({ listenerPort: first.settings.listenerPort });
  second.spawn(1);
  assert.match((await second.told("failed")).args[1], /Address already in use/u);
});

test("a stale admin socket does not prevent Envoy from starting", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  await under.kill();
  under.spawn(2);
  await under.told("ready", 2);
  assert.equal((await under.get()).body, "a");
});

test("removed files of Envoy are written again before it starts", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  await under.kill();
  rmSync(under.location.directory, { recursive: true });
  under.spawn(2);
  await under.told("ready", 2);
  assert.equal((await under.get()).body, "a");
});

test("Envoy's admin interface can listen on a loopback port", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.create();
  Object.assign(under.location, { admin: { port: await freePort() } });
  under.proxy.update([a.upstream(0)]);
  under.spawn(1);
  await under.told("ready");
  assert.equal((await under.get()).body, "a");
});
