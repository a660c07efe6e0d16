/** /metrics of pools behind a real Envoy are correct, monotonic and bounded, whatever happens to workers and Envoy. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually } from "../support/controller.ts";
import { assertNeverDown, assertPromtool, monotonicSeries, parseSeries } from "../support/exposition.ts";
import { startLoad } from "../support/load.ts";
import { commandOk, envoyPid, proxyPool } from "../support/traffic.ts";
import { happened } from "../support/watch.ts";

/** Sum of the series of one metric. */
function sumOf(text: string, name: string): number {
  const values = [...parseSeries(text)].filter(([series]) => series.split("{")[0] === name).map(([, value]) => value);
  return values.reduce((sum, value) => sum + value, 0);
}

test("every request is counted once for the pool, for its worker and in the durations", async (t: TestContext) => {
  const { workers, target } = await proxyPool({ replicas: 3 });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  assert.equal(await controller.metric("monoceros_supervisor_proxy_mode"), 1);
  const load = startLoad({ target, connections: 6, requests: [{ path: "/sleep?ms=2" }] });
  await load.reached(500);
  const report = await load.stop();
  assert.equal(report.failed, 0);
  const text = await eventually(async () => {
    const now = await controller.metrics();
    return sumOf(now, "monoceros_proxy_requests_total") >= report.requests ? now : undefined;
  }, "Envoy has reported all requests");
  assert.equal(sumOf(text, "monoceros_proxy_worker_failed_requests_total"), 0);
  const given = await eventually(async () => {
    const now = await controller.metrics();
    const sum = sumOf(now, "monoceros_proxy_worker_requests_total");
    return sum >= report.requests && sumOf(now, "monoceros_proxy_request_duration_seconds_count") === sum
      ? now
      : undefined;
  }, "workers and durations are up to date");
  // Requests aborted at the end of the load are counted too.
  assert.ok(sumOf(given, "monoceros_proxy_worker_requests_total") <= report.requests + 6);
  const series = parseSeries(given);
  for (const slot of [0, 1, 2])
    assert.ok((series.get(`monoceros_proxy_worker_requests_total{pool="web",worker="web-${slot}"}`) ?? 0) > 0);
  assert.equal(series.get('monoceros_proxy_server_errors_total{pool="web"}'), 0);
  assert.ok((series.get('monoceros_proxy_updates_total{pool="web",result="applied"}') ?? 0) > 0);
  assert.equal(series.get('monoceros_proxy_updates_total{pool="web",result="refused"}'), 0);
  assert.ok((series.get('monoceros_proxy_request_duration_seconds_sum{pool="web"}') ?? 0) > 0.5);
  const rss = 'monoceros_workerpool_process_resident_memory_bytes{pool="web-proxy",worker="web-proxy-0"}';
  assert.ok((series.get(rss) ?? 0) > 10_000_000, "Envoy's process is there");
  assertPromtool(t, given);
});

test("counters never decrease and no series is added while workers restart, crash and Envoy is killed [M1] [M3]", async (t: TestContext) => {
  const { workers, target } = await proxyPool({ replicas: 2 });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const load = startLoad({ target, connections: 4, requests: [{ path: "/sleep?ms=5" }] });
  let before = monotonicSeries(await controller.metrics());
  let isOver = false;
  let looks = 0;
  const watching = (async () => {
    while (!isOver) {
      const now = monotonicSeries(await controller.metrics());
      assertNeverDown(before, now);
      before = now;
      looks++;
    }
  })();
  await load.reached(100);
  await commandOk(controller, "restart", "web");
  process.kill(await controller.pidOf("web-0").catch(() => controller.pidOf("web-1")), "SIGKILL");
  await happened(controller, "backing_off", ({ pool }) => pool === "web");
  const envoy = envoyPid(controller);
  assert.ok(envoy !== undefined);
  process.kill(envoy, "SIGKILL");
  await happened(controller, "ready", ({ pool, incarnation }) => pool === "web-proxy" && incarnation === 2);
  const served = load.report.counts.ok;
  await load.reached(load.report.requests + 200);
  await load.stop();
  assert.ok(load.report.counts.ok > served, "requests are answered again");
  await commandOk(controller, "restart", "web");
  isOver = true;
  await watching;
  assert.ok(looks > 10);
  const text = await controller.metrics();
  const series = parseSeries(text);
  assert.equal(series.get('monoceros_workerpool_restarts_total{pool="web",worker_type="proxy"}'), 1);
  assert.equal(series.get('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}'), 1);
  assert.equal(series.get('monoceros_pool_operations_total{pool="web",operation="restart",result="finished"}'), 2);
  assert.ok((series.get('monoceros_pool_drain_duration_seconds_count{pool="web"}') ?? 0) >= 4);
  assert.ok((series.get('monoceros_probe_attempts_total{pool="web",probe="startup",result="success"}') ?? 0) >= 4);
  const ids = new Set([...text.matchAll(/worker="([^"]+)"/gu)].map(([, id]) => id ?? ""));
  // Two slots and the surge slot.
  assert.deepEqual([...ids].sort(), ["web-0", "web-1", "web-2", "web-proxy-0"]);
  assertPromtool(t, text);
});
