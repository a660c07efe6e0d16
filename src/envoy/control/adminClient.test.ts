import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { AdminClient } from "./adminClient.ts";

/** Plays Envoy's admin interface on a Unix socket. */
class FakeAdmin implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), "monoceros-admin-"));
  readonly client: AdminClient;
  readonly server: Server;
  readonly asked: string[] = [];
  connections = 0;

  private constructor(answer: RequestListener, timeoutMs: number) {
    this.server = createServer((request, response) => {
      this.asked.push(`${request.method} ${request.url}`);
      answer(request, response);
    });
    this.server.on("connection", () => {
      this.connections += 1;
    });
    this.client = new AdminClient({ socketPath: join(this.directory, "admin.sock") }, timeoutMs);
  }

  static async start(answer: RequestListener, timeoutMs = 5000): Promise<FakeAdmin> {
    const fake = new FakeAdmin(answer, timeoutMs);
    fake.server.listen(join(fake.directory, "admin.sock"));
    await once(fake.server, "listening");
    return fake;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client[Symbol.dispose]();
    this.server.close();
    this.server.closeAllConnections();
    rmSync(this.directory, { recursive: true });
  }
}

test("all requests use one connection, one after another", async () => {
  await using fake = await FakeAdmin.start((_, response) => response.end("a: 1\n"));
  const { client } = fake;
  await Promise.all([client.isReady(), client.stats("^x y$"), client.clusters(), client.histograms("h")]);
  await client.drainListeners();
  await client.stopListeners();
  await client.quit();
  assert.deepEqual(fake.asked, [
    "GET /ready",
    "GET /stats?filter=%5Ex%20y%24",
    "GET /clusters?format=json",
    "GET /stats/prometheus?filter=h",
    "POST /drain_listeners?graceful&skip_exit",
    "POST /drain_listeners",
    "POST /quitquitquit",
  ]);
  assert.equal(fake.connections, 1);
});

test("an unreachable Envoy is not ready, and other requests are rejected", async () => {
  using client = new AdminClient({ socketPath: "/no/such.sock" });
  assert.equal(await client.isReady(), false);
  await assert.rejects(client.clusters(), /ENOENT/u);
});

test("an initializing Envoy is not ready, and an error status is an error", async () => {
  await using fake = await FakeAdmin.start((_, response) => response.writeHead(503).end("PRE_INITIALIZING"));
  assert.equal(await fake.client.isReady(), false);
  await assert.rejects(fake.client.stats("x"), /Envoy responded with 503 to \/stats\?filter=x/u);
  await assert.rejects(fake.client.drainListeners(), /Envoy responded with 503/u);
});

test("a request without a complete response ends at its time limit", async () => {
  await using fake = await FakeAdmin.start((request, response) => {
    if (request.url?.startsWith("/stats") === true) response.write("half");
  }, 50);
  await assert.rejects(fake.client.clusters(), /Envoy did not respond to \/clusters\?format=json within 50 ms/u);
  await assert.rejects(fake.client.stats("x"));
});

test("if Envoy exits during a response, the request is rejected and the next one reconnects", async () => {
  let isBroken = true;
  await using fake = await FakeAdmin.start((request, response) => {
    if (!isBroken) response.end("a: 1\n");
    else response.write("a: 1", () => request.socket.destroy());
  });
  await assert.rejects(fake.client.stats("x"));
  isBroken = false;
  assert.deepEqual([...(await fake.client.stats("x"))], [["a", 1]]);
});

test("a listener is active once it is bound and the threads run; a rejected one has its reason", async () => {
  let stats = "listener_manager.total_listeners_active: 1\nlistener_manager.workers_started: 0\n";
  await using fake = await FakeAdmin.start((request, response) =>
    response.end(
      request.url?.startsWith("/config_dump") === true
        ? JSON.stringify({ configs: [{ error_state: { details: "cannot bind" } }] })
        : stats,
    ),
  );
  assert.deepEqual(await fake.client.listeners(), { active: 0, failures: 0, reason: undefined });
  stats = "listener_manager.total_listeners_active: 1\nlistener_manager.workers_started: 1\n";
  assert.deepEqual(await fake.client.listeners(), { active: 1, failures: 0, reason: undefined });
  stats = "listener_manager.total_listeners_active: 0\nlistener_manager.lds.update_rejected: 1\n";
  assert.deepEqual(await fake.client.listeners(), { active: 0, failures: 1, reason: "cannot bind" });
});

test("a closed client rejects pending requests", async () => {
  await using fake = await FakeAdmin.start(() => {});
  const asked = assert.rejects(fake.client.clusters());
  await once(fake.server, "request");
  fake.client[Symbol.dispose]();
  await asked;
});
