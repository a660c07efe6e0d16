/** A real Envoy goes by other settings while it serves, and clients notice only what they must. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { proxyFiles } from "../../src/envoy/resources/files.ts";
import type { ProxySettings } from "../../src/envoy/resources/settings.ts";
import { ProxyUnderTest, StubWorker } from "../support/envoy.ts";
import { type Load, startLoad } from "../support/load.ts";
import { freePort } from "../support/ports.ts";

/** Clients that keep their connections, and some that do not. */
class Clients implements Disposable {
  readonly #loads: readonly Load[];

  constructor(port: number) {
    const target = { port };
    const requests = [{ path: "/" }, { path: "/post", method: "POST", body: "x" }];
    this.#loads = [
      startLoad({ target, connections: 8, requests }),
      startLoad({ target, connections: 2, requests, isConnectionPerRequest: true }),
    ];
  }

  /** Waits until each of the loads has received that many further responses. */
  async ask(requests: number): Promise<void> {
    await Promise.all(this.#loads.map((load) => load.reached(load.report.requests + requests)));
  }

  /** Ends the load after some more requests; every request must have received its response. */
  async end(): Promise<void> {
    await this.ask(20);
    for (const report of await Promise.all(this.#loads.map((load) => load.stop()))) {
      assert.deepEqual(report.failures, []);
    }
  }

  [Symbol.dispose](): void {
    for (const load of this.#loads) load[Symbol.dispose]();
  }
}

/** Workers that take a few milliseconds, answer their checks, and end with the test. */
async function slowWorkers(count: number, stack: AsyncDisposableStack): Promise<StubWorker[]> {
  const start = (name: string) =>
    StubWorker.start(name, (_, response) => setTimeout(() => response.end(name), 1 + Math.random() * 5));
  const workers = await Promise.all(Array.from({ length: count }, (_, slot) => start(String(slot))));
  for (const worker of workers) stack.use(worker);
  return workers;
}

/** Everything Envoy balances and listens by. */
async function configOf(under: ProxyUnderTest): Promise<string> {
  return (await under.admin("/config_dump")).replaceAll(/\s/gu, "");
}

function filesOf(under: ProxyUnderTest): string[] {
  const { listeners, clusters, routes } = proxyFiles(under.location);
  return [listeners, clusters, routes].map((file) => readFileSync(file, "utf8"));
}

/** A port somebody else listens on. */
async function takenPort(stack: AsyncDisposableStack): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => void server.close());
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return address.port;
}

async function isRefused(port: number): Promise<boolean> {
  const load = startLoad({ target: { port }, connections: 1, maxRequests: 1 });
  return (await load.finished).counts.refused === 1;
}

/** Changes one after another, and what Envoy shows of each. */
const CHANGES: readonly [Partial<ProxySettings>, RegExp][] = [
  [{ algorithm: "ROUND_ROBIN" }, /policies\.round_robin/u],
  [{ algorithm: "RING_HASH", hashOn: "header:x-user" }, /policies\.ring_hash.*"header_name":"x-user"/u],
  [{ algorithm: "LEAST_REQUEST", hashOn: undefined }, /policies\.least_request/u],
  [{ maxQueue: 77 }, /"max_pending_requests":77/u],
  [{ maxConcurrentPerWorker: 4 }, /"per_host_thresholds":\[\{"max_connections":4/u],
  [{ requestTimeoutMs: 9000 }, /"timeout":"9s"/u],
  [{ workerKeepaliveMs: 2500 }, /"idle_timeout":"2\.500s"/u],
  [{ healthCheckPath: "/healthz" }, /"path":"\/healthz"/u],
  [{ healthCheckPath: "/other" }, /"path":"\/other"/u],
  [{ accessLog: true }, /loggers\.stdout/u],
  [{ healthCheckPath: undefined, accessLog: false, maxQueue: 500, requestTimeoutMs: 0 }, /"max_pending_requests":500/u],
];

for (const concurrency of [1, 2]) {
  test(`each change under load takes effect and drops no request, with ${concurrency} Envoy threads`, async () => {
    await using stack = new AsyncDisposableStack();
    const workers = await slowWorkers(3, stack);
    await using under = await ProxyUnderTest.start(
      workers.map((worker, slot) => worker.upstream(slot)),
      { concurrency },
    );
    using clients = new Clients(under.settings.listenerPort);
    let settings = under.settings;
    for (const [change, shown] of CHANGES) {
      settings = { ...settings, ...change };
      const tookMs = performance.now();
      assert.equal(await under.proxy.reconfigure(settings), undefined, JSON.stringify(change));
      assert.ok(performance.now() - tookMs < 5000);
      assert.match(await configOf(under), shown);
      await clients.ask(30);
    }
    await clients.end();
    assert.deepEqual(
      under.news.map(({ name }) => name),
      ["ready"],
    );
  });
}

test("equal settings change nothing", async () => {
  await using under = await ProxyUnderTest.start([]);
  const files = filesOf(under);
  assert.equal(await under.proxy.reconfigure({ ...under.settings, drainTimeSeconds: 1 }), undefined);
  assert.deepEqual(filesOf(under), files);
  assert.match(await under.admin("/stats"), /cluster_manager\.cds\.update_success: 1\n/u);
});

test("endpoint changes during and after a cluster replacement are all applied", async () => {
  await using stack = new AsyncDisposableStack();
  const workers = await slowWorkers(6, stack);
  const upstreams = workers.map((worker, slot) => worker.upstream(slot));
  await using under = await ProxyUnderTest.start(upstreams.slice(0, 3));
  using clients = new Clients(under.settings.listenerPort);
  for (let round = 1; round <= 20; round++) {
    const changed = under.proxy.reconfigure({ ...under.settings, maxQueue: 1000 + round });
    const wanted = upstreams.slice(round % 3, (round % 3) + 2);
    for (let turn = 0; turn < round % 4; turn++) await new Promise((next) => setImmediate(next));
    under.proxy.update(wanted);
    assert.equal(await changed, undefined);
    await under.apply(wanted);
    await clients.ask(10);
  }
  await clients.end();
  assert.deepEqual(
    under.news.map(({ name }) => name),
    ["ready"],
  );
});

for (const protocol of ["http", "tcp"] as const) {
  test(`a worker with a request from before a cluster replacement is not drained until it finishes (${protocol})`, async () => {
    await using a = await StubWorker.start("a");
    await using b = await StubWorker.start("b");
    await using under = await ProxyUnderTest.start([a.upstream(0), b.upstream(1)], {
      protocol,
      algorithm: "ROUND_ROBIN",
      maxConcurrentPerWorker: 1,
    });
    // The second pair waits for the first one.
    const answers = Array.from({ length: 4 }, () => under.get("/hold"));
    await Promise.all([a.holds(1), b.holds(1)]);
    assert.equal(await under.proxy.reconfigure({ ...under.settings, maxQueue: 5, algorithm: "RANDOM" }), undefined);
    await under.apply([a.upstream(0, "draining"), b.upstream(1)]);
    // Looks at it go on: enough of them that it would have been told.
    for (let asked = 0; asked < 50; asked++) await under.admin("/clusters?format=json");
    assert.deepEqual(
      under.news.map(({ name }) => name),
      ["ready"],
    );
    const released = [a, b].map(async (worker) => {
      worker.release();
      await worker.holds(1);
      worker.release();
    });
    await Promise.all(released);
    assert.deepEqual((await Promise.all(answers)).map(({ body }) => body).sort(), ["a", "a", "b", "b"]);
    assert.deepEqual((await under.told("drained")).args, [0, 1]);
  });
}

test("requests are counted once for their worker across cluster replacements", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  let sent = 0;
  for (let round = 0; round < 5; round++) {
    for (let index = 0; index < 7 + round; index++) {
      await under.get();
      sent += 1;
    }
    assert.equal(await under.proxy.reconfigure({ ...under.settings, maxQueue: 10 + round }), undefined);
  }
  await under.get();
  sent += 1;
  await under.until(() => (under.counted.get("0/1") ?? 0) >= sent, `${sent} requests are counted`);
  assert.equal(under.counted.get("0/1"), sent);
  assert.equal(under.proxy.readings().workers.get(0)?.requestsTotal, sent);
});

test("a new port serves at once; the old one stops listening, and its requests finish", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)], { drainTimeSeconds: 1, replacedDrainSeconds: 4 });
  const held = under.get("/hold");
  await a.holds(1);
  const port = await freePort();
  assert.equal(await under.proxy.reconfigure({ ...under.settings, listenerPort: port }), undefined);
  using clients = new Clients(port);
  await clients.ask(20);
  assert.equal(await isRefused(under.settings.listenerPort), true);
  // Longer than the farewell of a shutdown, shorter than the drain.
  const heldSince = performance.now();
  while (performance.now() - heldSince < 1500) await clients.ask(20);
  a.release();
  assert.equal((await held).body, "a");
  await clients.end();
});

test("a port in use is refused with the reason; the old listener, its clients and the files stay", async () => {
  await using stack = new AsyncDisposableStack();
  const workers = await slowWorkers(2, stack);
  await using under = await ProxyUnderTest.start(workers.map((worker, slot) => worker.upstream(slot)));
  const listenerPort = await takenPort(stack);
  using clients = new Clients(under.settings.listenerPort);
  const files = filesOf(under);
  // All or nothing: the route and the cluster are not changed either.
  for (const change of [{}, { requestTimeoutMs: 5000, maxQueue: 300 }]) {
    const reason = await under.proxy.reconfigure({ ...under.settings, ...change, listenerPort });
    assert.match(reason ?? "", /cannot bind '127\.0\.0\.1:\d+': Address already in use/u);
    assert.deepEqual(filesOf(under), files);
    await clients.ask(20);
  }
  assert.doesNotMatch(await configOf(under), /"max_pending_requests":300\b/u);
  assert.equal(await under.proxy.reconfigure({ ...under.settings, maxQueue: 400 }), undefined);
  assert.match(await configOf(under), /"max_pending_requests":400\b/u);
  await clients.end();
  assert.equal(await under.proxy.reconfigure({ ...under.settings, listenerPort: await freePort() }), undefined);
});

test("a missing certificate and changes that need a restart of Envoy are refused", async () => {
  await using under = await ProxyUnderTest.start([]);
  const tls = { cert: join(under.directory, "no.pem"), key: join(under.directory, "no.key") };
  assert.match((await under.proxy.reconfigure({ ...under.settings, tls })) ?? "", /no\.key/u);
  assert.match((await under.proxy.reconfigure({ ...under.settings, concurrency: 2 })) ?? "", /start/u);
});

test("concurrent changes are applied one after another, and the last one stays", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const changes = [1, 2, 3].map((maxQueue) => under.proxy.reconfigure({ ...under.settings, maxQueue }));
  assert.deepEqual(await Promise.all(changes), [undefined, undefined, undefined]);
  assert.match(await configOf(under), /"max_pending_requests":3\b/u);
});

test("without Envoy only the files change, and before the first start not even the files", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.create();
  assert.equal(await under.proxy.reconfigure({ ...under.settings, maxQueue: 8 }), undefined);
  under.proxy.update([a.upstream(0)]);
  under.spawn(1);
  await under.told("ready");
  assert.match(await configOf(under), /"max_pending_requests":8\b/u);
  await under.kill();
  assert.equal(await under.proxy.reconfigure({ ...under.settings, maxQueue: 9 }), undefined);
  assert.match(filesOf(under)[1] ?? "", /"max_pending_requests":9\b/u);
  under.spawn(2);
  // While it starts.
  assert.equal(await under.proxy.reconfigure({ ...under.settings, maxQueue: 10 }), undefined);
  await under.told("ready", 2);
  assert.match(await configOf(under), /"max_pending_requests":10\b/u);
  assert.equal((await under.get()).body, "a");
});

test("if Envoy is killed during a change, the next Envoy uses the new settings", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  for (let round = 1; round <= 12; round++) {
    const maxQueue = 100 + round;
    const changed = under.proxy.reconfigure({ ...under.settings, maxQueue, requestTimeoutMs: 1000 * round });
    for (let turn = 0; turn < round * 2; turn++) await new Promise((next) => setImmediate(next));
    await under.kill();
    assert.equal(await changed, undefined);
    under.spawn(round + 1);
    await under.told("ready", round + 1);
    assert.match(await configOf(under), new RegExp(`"max_pending_requests":${maxQueue}\\b`, "u"));
    assert.match(await configOf(under), new RegExp(`"timeout":"${round}s"`, "u"));
    assert.equal((await under.get()).body, "a");
  }
});
