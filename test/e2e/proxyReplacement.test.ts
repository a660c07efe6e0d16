/** Behind Envoy, planned changes of workers fail no request on new or kept-alive connections. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, PROCESSBIN } from "../support/controller.ts";
import {
  assertNoneFailed,
  command,
  commandOk,
  envoyPid,
  proxyPool,
  readyRange,
  readyWorkers,
  replaced,
  underTraffic,
} from "../support/traffic.ts";
import { eventsOf, happened } from "../support/watch.ts";

test("replacement by lifespan behind Envoy fails no request, and all replicas stay ready [R1]", async () => {
  const { workers, target } = await proxyPool({
    replicas: 4,
    more: { limits: { lifespan: "2s", jitter_ratio: 0.5 } },
  });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  assertNoneFailed(await underTraffic(target, () => replaced(controller, 8)));
  const { least, most } = readyRange(controller);
  assert.ok(least >= 4, `${least} were ready`);
  assert.ok(most <= 5, `${most} were ready`);
  assert.deepEqual(eventsOf(controller, "pool_degraded"), []);
});

for (const standby of [0, 1])
  test(`a successor counts only when Envoy's own check of it has succeeded, with ${standby} standby workers`, async () => {
    const { workers, target } = await proxyPool({
      replicas: 1,
      server: { health_check_path: "/sleep?ms=300" },
      more: { standby },
    });
    await using controller = await ControllerUnderTest.start({ workers });
    await controller.ready();
    // Requests start immediately, because ready means that requests are answered.
    const reports = await underTraffic(target, async () => {
      for (let turn = 0; turn < 3; turn++) await commandOk(controller, "restart", "web");
    });
    assertNoneFailed(reports);
    assert.equal(eventsOf(controller, "operation_finished").length, 3);
  });

test("scaling up works while new workers behind Envoy wait for startup_wait_time", async () => {
  const { workers } = await proxyPool({ replicas: 1, more: { startup_wait_time: "100ms" } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  await commandOk(controller, "scale", "web", "4");
  assert.equal((await readyWorkers(controller)).length, 4);
});

test("replacement by number of requests behind Envoy fails no request", async () => {
  const { workers, target } = await proxyPool({
    replicas: 3,
    more: { limits: { requests: 300, jitter_ratio: 0.3 } },
  });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  assertNoneFailed(await underTraffic(target, () => replaced(controller, 8)));
  const due = eventsOf(controller, "limit_reached");
  assert.ok(due.length >= 8 && due.every(({ limit }) => limit === "requests"));
  assert.equal(new Set(due.map(({ slot, incarnation }) => `${slot}/${incarnation}`)).size, due.length);
  const served = due.map(({ reason }) => Number(/^served (\d+) requests$/u.exec(reason)?.[1]));
  // Eight even picks of a range of 180 lie within 20 once in a million runs; what is counted late only spreads them more.
  assert.ok(Math.min(...served) >= 210, `${served}`);
  assert.ok(Math.max(...served) - Math.min(...served) > 20, `${served}`);
});

test("three rolling restarts in a row fail no request [R1]", async () => {
  const { workers, target } = await proxyPool({ replicas: 4 });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const before = await Promise.all((await readyWorkers(controller)).map((id) => controller.pidOf(id)));
  const envoy = envoyPid(controller);
  const reports = await underTraffic(target, async () => {
    for (let turn = 0; turn < 3; turn++) await commandOk(controller, "restart", "web");
  });
  assertNoneFailed(reports);
  assert.equal(eventsOf(controller, "operation_finished").length, 3);
  assert.ok(readyRange(controller).least >= 4);
  const after = await Promise.all((await readyWorkers(controller)).map((id) => controller.pidOf(id)));
  assert.equal(after.length, 4);
  assert.ok(!after.some((pid) => before.includes(pid)));
  assert.equal(envoyPid(controller), envoy, "Envoy is not restarted with its workers");
});

test("a rolling restart of workers on Unix sockets fails no request", async () => {
  const { workers, target } = await proxyPool({ replicas: 3, onUnixSockets: true });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  assertNoneFailed(await underTraffic(target, async () => void (await commandOk(controller, "restart", "web"))));
});

/** A server that ends like a crash, `seconds` after its start, once `marker` exists. */
function brittleServer(context: TestContext, seconds: number): { readonly exec: string; readonly marker: string } {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-test-"));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  const [exec, marker] = [join(directory, "server"), join(directory, "broken")];
  const lines = ["#!/bin/sh", `[ -e ${marker} ] && (sleep ${seconds}; kill -9 $$) &`, `exec ${PROCESSBIN} "$@"`];
  writeFileSync(exec, lines.join("\n"), { mode: 0o755 });
  return { exec, marker };
}

test("a version that crashes seconds after its probe passes fails the rollout before an old worker stops", async (context) => {
  const { exec, marker } = brittleServer(context, 2);
  const { workers, target } = await proxyPool({ replicas: 3, more: { exec } });
  await using controller = await ControllerUnderTest.start({ workers, hasDefaultMinReady: true });
  await controller.ready();
  const before = await controller.pids();
  writeFileSync(marker, "");
  const restart = await command(controller, "restart", "web");
  assert.equal(restart.code, 1, restart.stdout);
  assert.match(restart.stderr, /web-\d .*killed by SIGKILL/u);
  assert.deepEqual(await controller.pids(), before);
  const file = controller.configFile;
  writeFileSync(file, readFileSync(file, "utf8").replace('"replicas":3', '"replicas":3,"env":{"VERSION":"2"}'));
  const reload = await command(controller, "reload");
  assert.equal(reload.code, 1, reload.stdout);
  assert.deepEqual(await controller.pids(), before);
  assert.equal((await controller.status()).healthy, true);
  rmSync(marker);
  assertNoneFailed(await underTraffic(target, async () => void (await commandOk(controller, "restart", "web"))));
});

test("a pool whose workers pass their probe and crash repeatedly is degraded", async (context) => {
  const { exec, marker } = brittleServer(context, 1);
  writeFileSync(marker, "");
  const { workers } = await proxyPool({ replicas: 2, more: { exec } });
  await using controller = await ControllerUnderTest.start({ workers });
  const { seq } = await controller.event(
    (event) => event.kind === "backing_off" && event.reason.includes("crash 3 in a row"),
  );
  await controller.event((event) => event.kind === "backing_off" && event.reason.includes("crash 5 in a row"));
  const recovered = controller.events.filter((event) => event.kind === "pool_recovered" && event.seq > seq);
  assert.deepEqual(recovered, []);
  assert.equal((await controller.status()).healthy, false);
});

test("max_surge 0 replaces in place without a failed request", async () => {
  const { workers, target } = await proxyPool({
    replicas: 3,
    more: { rolling: { max_surge: 0, max_unavailable: 1 } },
  });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  assertNoneFailed(await underTraffic(target, async () => void (await commandOk(controller, "restart", "web"))));
  const { least, most } = readyRange(controller);
  assert.deepEqual([least, most], [2, 3]);
});

test("twenty replacements, four at a time, fail no request", async () => {
  const { workers, target } = await proxyPool({ replicas: 4, more: { rolling: { max_surge: 4 } } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const reports = await underTraffic(target, async () => {
    for (let turn = 0; turn < 5; turn++) await commandOk(controller, "restart", "web");
  });
  assertNoneFailed(reports);
  assert.ok(eventsOf(controller, "stopped").length >= 20);
});

test("scaling 4 → 8 → 2 fails no request, and new workers take their share", async () => {
  const { workers, target } = await proxyPool({ replicas: 4 });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  let atEight: readonly string[] = [];
  const reports = await underTraffic(target, async () => {
    await commandOk(controller, "scale", "web", "8");
    atEight = await eventually(async () => {
      const ids = await readyWorkers(controller);
      return ids.length === 8 ? ids : undefined;
    }, "eight workers are ready");
    await new Promise((wake) => setTimeout(wake, 300));
    await commandOk(controller, "scale", "web", "2");
    await eventually(
      async () => ((await readyWorkers(controller)).length === 2 ? true : undefined),
      "two workers are left",
    );
  });
  assertNoneFailed(reports);
  assert.equal(atEight.length, 8);
  assert.equal(Object.keys(reports.keptAlive.workers).length, 8, "all eight have answered");
});

test("stopping one worker and starting it again fails no request", async () => {
  const { workers, target } = await proxyPool({ replicas: 4, more: { desired_healthy_percentage: 50 } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const reports = await underTraffic(target, async () => {
    await commandOk(controller, "stop", "web-1");
    assert.deepEqual(await readyWorkers(controller), ["web-0", "web-2", "web-3"]);
    const stopped = await underTraffic(target, async () => {}, { keptAlive: 4, fresh: 4 });
    assert.equal(stopped.keptAlive.workers["web-1"], undefined, "a stopped worker is asked nothing");
    await commandOk(controller, "start", "web-1");
    await happened(controller, "ready", ({ slot, incarnation }) => slot === 1 && incarnation === 2);
  });
  assertNoneFailed(reports);
});

test("a reload of settings that leave the listener alone fails no request", async () => {
  const { workers, target } = await proxyPool({ replicas: 3, server: { load_balancer_algorithm: "ROUND_ROBIN" } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const envoy = envoyPid(controller);
  const file = join(controller.directory, "config.yaml");
  const text = readFileSync(file, "utf8");
  assert.ok(text.includes("ROUND_ROBIN"));
  const reports = await underTraffic(target, async () => {
    writeFileSync(file, text.replace("ROUND_ROBIN", "RANDOM"));
    await commandOk(controller, "reload");
    writeFileSync(file, text.replace("ROUND_ROBIN", "LEAST_REQUEST"));
    await commandOk(controller, "reload");
  });
  assertNoneFailed(reports);
  assert.equal(envoyPid(controller), envoy, "Envoy is the same process");
});
