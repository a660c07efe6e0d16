/** How a real Envoy sends its clients away, and that it has patience with long requests. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, get, type IncomingMessage } from "node:http";
import { test } from "node:test";
import { ProxyUnderTest, StubWorker } from "../support/envoy.ts";

test("a listener without clients drains at once", async () => {
  await using under = await ProxyUnderTest.start([]);
  under.proxy.drainListeners();
  assert.deepEqual(
    under.news.map(({ name }) => name),
    ["ready"],
  );
  await under.told("listenersDrained");
});

test("without Envoy the listener drains at once", async () => {
  await using under = await ProxyUnderTest.create();
  under.proxy.drainListeners();
  assert.deepEqual(under.news, []);
  await under.told("listenersDrained");
});

test("a drain requested while Envoy starts begins when Envoy serves", async () => {
  await using under = await ProxyUnderTest.create();
  under.spawn(1);
  under.proxy.drainListeners();
  await under.told("listenersDrained");
  assert.deepEqual(
    under.news.map(({ name }) => name),
    ["ready", "listenersDrained"],
  );
});

test("clients with keep-alive connections are asked to close them, and are served until then", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = async (): Promise<IncomingMessage> => {
    const call = get({ host: "127.0.0.1", port: under.settings.listenerPort, agent });
    const [response] = (await once(call, "response")) as [IncomingMessage];
    response.resume();
    await once(response, "end");
    return response;
  };
  assert.notEqual((await ask()).headers.connection, "close");
  under.proxy.drainListeners();
  let response = await ask();
  // The order to drain and this client are on different connections.
  while (response.headers.connection !== "close") response = await ask();
  assert.equal(response.statusCode, 200);
  await under.told("listenersDrained");
  agent.destroy();
});

test("after the drain time Envoy refuses new connections and completes the request in flight [E14]", async () => {
  await using a = await StubWorker.start("a");
  await using under = await ProxyUnderTest.start([a.upstream(0)], { drainTimeSeconds: 1 });
  const answer = under.get("/hold");
  await a.holds(1);
  under.proxy.drainListeners();
  let isRefused = false;
  while (!isRefused)
    await under.get().catch((error: NodeJS.ErrnoException) => {
      // One that the kernel had taken for Envoy when it stopped is reset.
      assert.match(error.code ?? "", /^ECONN(?:REFUSED|RESET)$/u);
      isRefused = error.code === "ECONNREFUSED";
    });
  assert.equal(under.isEnvoyAlive, true);
  assert.deepEqual(
    under.news.map(({ name }) => name),
    ["ready"],
  );
  a.release();
  assert.equal((await answer).body, "a");
  await under.told("listenersDrained");
  assert.match(await under.admin("/ready"), /LIVE/u);
});

test("an idle connection does not extend the drain beyond its time", async () => {
  await using under = await ProxyUnderTest.start([], { drainTimeSeconds: 1 });
  const socket = await under.connect();
  socket.on("error", () => {});
  await under.until(() => true, "connected");
  under.proxy.drainListeners();
  await under.told("listenersDrained");
  socket.destroy();
});

test("a request may take longer than Envoy's default timeout of 15 s [E9]", async () => {
  await using a = await StubWorker.start("a", (_, response) => setTimeout(() => response.end("late"), 15_500));
  await using under = await ProxyUnderTest.start([a.upstream(0)]);
  assert.equal((await under.get()).body, "late");
});
