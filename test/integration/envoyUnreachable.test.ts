/**
 * A real Envoy before workers that it cannot reach and of which the controller has told it nothing, as while the
 * controller is suspended: other workers serve, no request runs twice, and recovered workers serve at once.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import type { ProxySettings, Upstream } from "../../src/envoy/resources/settings.ts";
import { ProxyUnderTest, StubWorker } from "../support/envoy.ts";
import { type LoadOptions, startLoad } from "../support/load.ts";
import { describeLoad } from "../support/loadReport.ts";

/** Of 1,000 requests so many may fail while one worker is dead. */
const ALLOWED_FAILURES = 3;

/** Time of one request; with it all live workers are busy and a dead one is the idlest. */
const RESPONSE_MS = 3;

type Handle = NonNullable<Parameters<typeof StubWorker.start>[1]>;

const respond: Handle = (_, response) => void setTimeout(() => response.end(), RESPONSE_MS);

/** Workers that end with the test. */
class Workers implements AsyncDisposable {
  readonly all: readonly StubWorker[];

  private constructor(all: readonly StubWorker[]) {
    this.all = all;
  }

  static async start(count: number, handle: Handle = respond): Promise<Workers> {
    return new Workers(
      await Promise.all(Array.from({ length: count }, (_, slot) => StubWorker.start(`web-${slot}`, handle))),
    );
  }

  get first(): StubWorker {
    const [first] = this.all;
    assert.ok(first !== undefined);
    return first;
  }

  /** One state for each of the first workers; the others serve. */
  upstreams(...states: readonly Upstream["state"][]): Upstream[] {
    return this.all.map((worker, slot) => worker.upstream(slot, states[slot]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((worker) => worker[Symbol.asyncDispose]()));
  }
}

function die(worker: StubWorker): void {
  worker.server.close();
  worker.server.closeAllConnections();
}

async function comeBack(worker: StubWorker): Promise<void> {
  worker.server.listen(worker.port, "127.0.0.1");
  await once(worker.server, "listening");
}

async function load(under: ProxyUnderTest, options: Partial<LoadOptions> = {}) {
  const target = { port: under.settings.listenerPort };
  using running = startLoad({ target, connections: 16, maxRequests: 1000, ...options });
  return await running.finished;
}

async function ejections(under: ProxyUnderTest, name: "active" | "enforced_total"): Promise<number> {
  const text = await under.admin(`/stats?filter=^cluster.workers.outlier_detection.ejections_${name}$`);
  return Number(text.slice(text.lastIndexOf(" ")));
}

for (const [count, protocol, algorithm] of [
  [2, "http", "LEAST_REQUEST"],
  [6, "http", "LEAST_REQUEST"],
  [6, "http", "ROUND_ROBIN"],
  [2, "tcp", "LEAST_REQUEST"],
  [6, "tcp", "LEAST_REQUEST"],
] satisfies readonly (readonly [number, ProxySettings["protocol"], ProxySettings["algorithm"]])[]) {
  test(`a dead worker among ${count} does not attract requests (${protocol}, ${algorithm})`, async () => {
    await using workers = await Workers.start(count);
    await using under = await ProxyUnderTest.start(workers.upstreams(), { protocol, algorithm });
    die(workers.first);
    const report = await load(under, { isConnectionPerRequest: protocol === "tcp" });
    assert.ok(report.failed <= ALLOWED_FAILURES, describeLoad(report));
    const received = workers.all.reduce((sum, { requests }) => sum + requests.length, 0);
    assert.equal(received, report.counts.ok, "each answered request reached a worker once");
  });
}

for (const count of [1, 2, 6]) {
  test(`${count} of ${count} dead workers serve at once when they return, and none stays ejected`, async () => {
    await using workers = await Workers.start(count);
    await using under = await ProxyUnderTest.start(workers.upstreams());
    for (const worker of workers.all) die(worker);
    const dark = await load(under, { maxRequests: 100 });
    assert.equal(dark.failed, 100);
    assert.ok((await ejections(under, "active")) < count, "one worker stays eligible");
    for (const worker of workers.all) await comeBack(worker);
    const report = await load(under, { maxRequests: 300 });
    assert.equal(report.failed, 0, describeLoad(report));
    while ((await ejections(under, "active")) > 0);
    await load(under, { maxRequests: 300 });
    for (const { name, requests } of workers.all) assert.ok(requests.length > 0, `${name} serves again`);
  });
}

test("a successor at the address of an ejected worker serves as soon as Envoy knows it", async () => {
  await using workers = await Workers.start(2);
  await using under = await ProxyUnderTest.start(workers.upstreams());
  const { first, all } = workers;
  die(first);
  while ((await ejections(under, "active")) === 0) await load(under, { maxRequests: 20 });
  await comeBack(first);
  under.proxy.update(all.map((worker, slot) => worker.upstream(slot, "serving", slot === 0 ? 2 : 1)));
  await under.until(() => under.activated.includes("0/2"), "Envoy balances over the successor");
  assert.equal(await ejections(under, "active"), 0);
});

test("the only serving worker is not ejected, however many workers drain or are on standby", async () => {
  await using workers = await Workers.start(3, ({ url, socket }, response) => {
    if (url === "/reset") setTimeout(() => socket.destroy(), 20);
    else response.end();
  });
  await using under = await ProxyUnderTest.start(workers.upstreams());
  const { first } = workers;
  under.proxy.update(workers.upstreams("serving", "draining", "standby"));
  await under.told("drained");
  const lost = await Promise.all(Array.from({ length: 20 }, () => under.get("/reset")));
  assert.deepEqual(new Set(lost.map(({ status }) => status)), new Set([503]));
  assert.equal((await under.get()).status, 200);
  assert.equal(first.requests.length, 21);
  assert.equal(await ejections(under, "enforced_total"), 0);
});

test("responses with status 500 eject no worker", async () => {
  await using workers = await Workers.start(2, (_, response) => void response.writeHead(500).end());
  await using under = await ProxyUnderTest.start(workers.upstreams());
  const report = await load(under, { maxRequests: 200 });
  assert.equal(report.counts.serverError, 200);
  assert.equal(await ejections(under, "enforced_total"), 0);
});
