/** Faults behind Envoy fail only unavoidable requests: killed workers and proxies, successors that never become ready. */
import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest, eventually, isAlive, PROCESSBIN } from "../support/controller.ts";
import { startLoad } from "../support/load.ts";
import { describeLoad } from "../support/loadReport.ts";
import {
  assertNoneFailed,
  command,
  commandOk,
  envoyPid,
  proxyPool,
  readyRange,
  readyWorkers,
  underTraffic,
} from "../support/traffic.ts";
import { eventsOf, happened, statusCode } from "../support/watch.ts";

/** After this time no request may go to a worker that was killed. */
const NOTICED_MS = 100;

test("kill -9 of a worker fails only requests that it had received, and it is restarted [E1]", async () => {
  const { workers, target } = await proxyPool({ replicas: 4 });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const requests = [{ path: "/sleep?ms=50" }];
  const pid = await controller.pidOf("web-1");
  let killedAt = 0;
  const reports = await underTraffic(
    target,
    async () => {
      killedAt = performance.timeOrigin + performance.now();
      process.kill(pid, "SIGKILL");
      await happened(controller, "ready", ({ slot, incarnation }) => slot === 1 && incarnation === 2);
    },
    { requests, keptAlive: 16, fresh: 4, workerHeader: "x-worker-pid" },
  );
  const failures = [...reports.keptAlive.failures, ...reports.fresh.failures];
  for (const report of Object.values(reports)) {
    const { ok, serverError } = report.counts;
    assert.equal(ok + serverError, report.requests, `Envoy answers for its worker: ${describeLoad(report)}`);
    for (const { sentAt } of report.failures)
      assert.ok(sentAt < killedAt + NOTICED_MS, `sent ${sentAt - killedAt} ms after the kill: ${describeLoad(report)}`);
  }
  // Twenty connections over four workers: a fourth of them and, on a busy machine, some more, but never all.
  assert.ok(failures.length <= 15, `${failures.length} requests failed`);
  const successor = await controller.pidOf("web-1");
  assert.ok((reports.keptAlive.workers[String(successor)] ?? 0) > 0, "the successor takes requests");
});

test("a worker that dies while the controller is suspended costs at most 3 of 1,000 requests and is restarted later", async () => {
  const { workers, target } = await proxyPool({ replicas: 6 });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const pid = await controller.pidOf("web-1");
  process.kill(controller.pid, "SIGSTOP");
  try {
    process.kill(pid, "SIGKILL");
    using load = startLoad({ target, connections: 8, isConnectionPerRequest: true, maxRequests: 1000 });
    const report = await load.finished;
    assert.equal(report.requests, 1000);
    assert.ok(report.failed <= 3, describeLoad(report));
  } finally {
    process.kill(controller.pid, "SIGCONT");
  }
  await happened(controller, "ready", ({ slot, incarnation }) => slot === 1 && incarnation === 2);
});

test("Envoy killed with SIGKILL is restarted within a second, and workers keep running [E7]", async () => {
  const { workers, target } = await proxyPool({ replicas: 3 });
  assert.ok("port" in target);
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const pids = await Promise.all(["web-0", "web-1", "web-2"].map((id) => controller.pidOf(id)));
  for (let turn = 0; turn < 2; turn++) {
    const envoy = envoyPid(controller);
    assert.ok(envoy !== undefined);
    const killedAt = performance.now();
    process.kill(envoy, "SIGKILL");
    await eventually(() => {
      const pid = envoyPid(controller);
      return pid !== undefined && pid !== envoy ? true : undefined;
    }, "another Envoy runs");
    assert.ok(performance.now() - killedAt < 1000, "it is started at once");
    await eventually(
      async () => ((await statusCode(target.port, "/").catch(() => 0)) === 200 ? true : undefined),
      "it serves",
    );
  }
  assert.deepEqual(await Promise.all(["web-0", "web-1", "web-2"].map((id) => controller.pidOf(id))), pids);
  assertNoneFailed(await underTraffic(target, async () => void (await commandOk(controller, "restart", "web"))));
});

test("a hanging Envoy is replaced, and the controller is not ready until then [E7]", async () => {
  const { workers, target } = await proxyPool({ replicas: 2 });
  assert.ok("port" in target);
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const envoy = envoyPid(controller);
  assert.ok(envoy !== undefined);
  process.kill(envoy, "SIGSTOP");
  const unready = await happened(controller, "unready", ({ pool }) => pool === "web-proxy");
  assert.match(unready.reason, /liveness failed 3 times in a row: GET \S+ on \S+: no answer within 3s; .*stopped/u);
  assert.ok((await controller.status()).pools.some(({ name, healthy }) => name === "web-proxy" && !healthy));
  // It is deaf to a signal that it has to handle.
  const stopping = await happened(controller, "stopping", ({ pool }) => pool === "web-proxy");
  assert.deepEqual([stopping.signal, stopping.cause], ["SIGKILL", "liveness"]);
  await happened(controller, "ready", ({ pool, incarnation }) => pool === "web-proxy" && incarnation === 2);
  assert.equal(await statusCode(target.port, "/"), 200);
  assert.equal(isAlive(envoy), false);
  assert.deepEqual(
    eventsOf(controller, "exited").map(({ pool }) => pool),
    ["web-proxy"],
    "no worker was touched",
  );
});

/** A pool of processbin whose further processes misbehave once `break` was called; a start must be done within 2 s. */
async function breakablePool(directory: string, misbehaviour: string) {
  const marker = join(directory, "broken");
  const exec = join(directory, "server");
  writeFileSync(exec, `#!/bin/sh\nif [ -e ${marker} ]; then ${misbehaviour}; fi\nexec ${PROCESSBIN} "$@"\n`);
  chmodSync(exec, 0o755);
  const pool = await proxyPool({
    replicas: 3,
    more: { exec, probes: { startup: { tcp: {}, period: "100ms", timeout: "1s", failure_threshold: 20 } } },
  });
  return { ...pool, break: () => writeFileSync(marker, "") };
}

for (const [what, misbehaviour] of [
  ["never becomes ready [R2]", "exec sleep 1000"],
  ["crashes at its start [R7]", "exit 7"],
] as const) {
  test(`a rolling restart whose successor ${what} is aborted, and the predecessors keep serving`, async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-broken-"));
    const pool = await breakablePool(directory.path, misbehaviour);
    const { workers, target } = pool;
    await using controller = await ControllerUnderTest.start({ workers });
    await controller.ready();
    const ids = await readyWorkers(controller);
    const pids = await Promise.all(ids.map((id) => controller.pidOf(id)));
    pool.break();
    const reports = await underTraffic(target, async () => {
      const { code, stdout, stderr } = await command(controller, "restart", "web");
      assert.equal(code, 1, `${stdout}${stderr}`);
      assert.notEqual(stderr, "");
    });
    assertNoneFailed(reports);
    const [aborted] = eventsOf(controller, "rollout_aborted");
    assert.ok(aborted !== undefined && aborted.reason.length > 0);
    assert.deepEqual(eventsOf(controller, "rollout_finished"), []);
    assert.deepEqual(await Promise.all(ids.map((id) => controller.pidOf(id))), pids);
    assert.ok(readyRange(controller).least >= 3);
    assert.equal(await controller.metric('monoceros_pool_rollouts_total{pool="web",result="aborted"}'), 1);
  });
}

test("a request that exceeds the drain limit is cut off and reported, and others are unaffected [R6]", async () => {
  const { workers, target } = await proxyPool({ replicas: 2, more: { signal_timeout: "1s" } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  using endless = startLoad({
    target,
    connections: 1,
    maxRequests: 1,
    requests: [{ path: "/sleep?ms=100000" }],
    timeoutMs: 60_000,
  });
  const reports = await underTraffic(target, async () => void (await commandOk(controller, "restart", "web")), {
    requests: [{ path: "/sleep?ms=20" }],
  });
  assertNoneFailed(reports);
  const cut = await endless.finished;
  assert.equal(cut.counts.ok, 0);
  assert.equal(cut.failed, 1, describeLoad(cut));
  const told = controller.events.filter(({ message }) => /\b1 request/u.test(message));
  assert.ok(told.length > 0, "an event says that one request was cut");
});

test("requests that coincide with the end of a worker's keep-alive never fail [E5]", async () => {
  const { workers, target } = await proxyPool({ replicas: 2, args: ["--keepalive", "2s"] });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  // The pauses lie around the two seconds after which a worker closes; Envoy must have let the connection go by then.
  using load = startLoad({ target, connections: 150, pauseMs: [1900, 2100], durationMs: 18_000 });
  const report = await load.finished;
  assert.equal(report.failed, 0, describeLoad(report));
  assert.ok(report.counts.ok > 800, describeLoad(report));
});
