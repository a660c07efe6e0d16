import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../config/load.ts";
import { proxyPlaces, proxySettings } from "./proxySettings.ts";

function pool(server: string) {
  const parsed = parseConfig(`supervisor: {workers: [{name: web, exec: x, server: {${server}}}]}`, "c.yaml", {});
  assert.ok(parsed.ok);
  const [found] = parsed.config.supervisor.pools;
  assert.ok(found?.server !== undefined);
  return { found, server: found.server };
}

test("an absent concurrency limit is undefined, and a replaced listener drains for drain_timeout", () => {
  const { found, server } = pool("socket_arg: {name: -u}");
  const settings = proxySettings(found, server, "1.40.0");
  assert.equal(settings.pool, "web");
  assert.equal(settings.maxConcurrentPerWorker, undefined);
  assert.deepEqual([settings.drainTimeSeconds, settings.replacedDrainSeconds], [3, 30]);
  assert.equal(settings.listenerPort, 10_000);
});

test("the drain time is at least one second because Envoy exits with 0", () => {
  const { found, server } = pool("socket_arg: {name: -u}, drain_timeout: 100ms, max_concurrent_per_worker: 3");
  const settings = proxySettings(found, server, "1.40.0");
  assert.deepEqual([settings.drainTimeSeconds, settings.replacedDrainSeconds], [1, 1]);
  assert.equal(settings.maxConcurrentPerWorker, 3);
});

test("Envoy's admin interface is a Unix socket, or admin_port if that is set", () => {
  const socket = pool("socket_arg: {name: -u}").server;
  assert.deepEqual(proxyPlaces(socket, "/run/m/web"), {
    directory: "/run/m/web",
    admin: { socketPath: "/run/m/web/admin/sock" },
    user: undefined,
  });
  const port = pool("socket_arg: {name: -u}, admin_port: 8080").server;
  assert.deepEqual(proxyPlaces(port, "/run/m/web").admin, { port: 8080 });
});
