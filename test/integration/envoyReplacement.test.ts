/** Workers behind a real Envoy are replaced one after another under load, and no client notices. */
import assert from "node:assert/strict";
import { Agent, get } from "node:http";
import { test } from "node:test";
import type { Upstream } from "../../src/envoy/resources/settings.ts";
import { ProxyUnderTest, StubWorker } from "../support/envoy.ts";

const CLIENTS = 16;
const WORKERS = 4;
const REPLACEMENTS = 40;

/** Asks until told to stop; returns how often, and what went wrong. */
async function ask(
  port: number,
  agent: Agent | false,
  stop: AbortSignal,
): Promise<{ asked: number; failed: string[] }> {
  const failed: string[] = [];
  let asked = 0;
  while (!stop.aborted) {
    asked += 1;
    await new Promise<void>((done) => {
      const call = get({ host: "127.0.0.1", port, agent, path: "/" }, (response) => {
        if (response.statusCode !== 200) failed.push(`status ${response.statusCode}`);
        response.resume().on("end", done);
        response.on("error", (error) => {
          failed.push(String(error));
          done();
        });
      });
      call.on("error", (error) => {
        failed.push(String(error));
        done();
      });
    });
  }
  return { asked, failed };
}

for (const concurrency of [1, 2]) {
  test(`workers that exit as soon as they are drained drop no request, with ${concurrency} Envoy threads`, async () => {
    const slow = (name: string) =>
      StubWorker.start(name, (_, response) => setTimeout(() => response.end(name), 1 + (Math.random() * 10) ** 1.3));
    const workers = await Promise.all(Array.from({ length: WORKERS }, (_, slot) => slow(`${slot}/1`)));
    const incarnations = workers.map(() => 1);
    const upstreams = (draining?: number): Upstream[] =>
      workers.map((worker, slot) =>
        worker.upstream(slot, slot === draining ? "draining" : "serving", incarnations[slot] ?? 1),
      );
    await using under = await ProxyUnderTest.start(upstreams(), { concurrency });
    const stop = new AbortController();
    using _ = { [Symbol.dispose]: () => stop.abort() };
    const agent = new Agent({ keepAlive: true });
    const port = under.settings.listenerPort;
    const clients = Array.from({ length: CLIENTS }, (_, index) => ask(port, index % 2 === 0 && agent, stop.signal));
    for (let round = 1; round <= REPLACEMENTS; round++) {
      const slot = round % WORKERS;
      const old = workers[slot];
      assert.ok(old !== undefined);
      under.proxy.update(upstreams(slot));
      const { args } = await under.told("drained", round);
      assert.deepEqual(args, [slot, incarnations[slot]]);
      // As a process that is gone: kept connections are reset, what would be in flight is lost.
      await old[Symbol.asyncDispose]();
      under.proxy.update(upstreams().filter((upstream) => upstream.slot !== slot));
      const incarnation = (incarnations[slot] ?? 1) + 1;
      incarnations[slot] = incarnation;
      workers[slot] = await slow(`${slot}/${incarnation}`);
      under.proxy.update(upstreams());
    }
    stop.abort();
    const results = await Promise.all(clients);
    agent.destroy();
    for (const worker of workers) await worker[Symbol.asyncDispose]();
    assert.deepEqual(
      results.flatMap(({ failed }) => failed),
      [],
    );
    const asked = results.reduce((sum, client) => sum + client.asked, 0);
    assert.ok(asked > REPLACEMENTS * 10, `only ${asked} requests were made`);
    assert.deepEqual(
      under.news.filter(({ name }) => name !== "drained" && name !== "ready"),
      [],
    );
  });
}

test("killing a worker fails only the requests in flight on it", async () => {
  const workers = await Promise.all(["a", "b", "c"].map((name) => StubWorker.start(name)));
  const [a, b, c] = workers;
  assert.ok(a !== undefined && b !== undefined && c !== undefined);
  await using under = await ProxyUnderTest.start(workers.map((worker, slot) => worker.upstream(slot)));
  const held = [under.get("/hold"), under.get("/hold"), under.get("/hold")];
  await Promise.all(workers.map((worker) => worker.holds(1)));
  a.held.length = 0;
  await a[Symbol.asyncDispose]();
  under.proxy.update([b.upstream(1), c.upstream(2)]);
  for (let round = 0; round < 30; round++) assert.equal((await under.get("/", {}, "POST")).status, 200);
  b.release();
  c.release();
  assert.deepEqual((await Promise.all(held)).map(({ status }) => status).sort(), [200, 200, 503]);
  for (const worker of [b, c]) await worker[Symbol.asyncDispose]();
});
