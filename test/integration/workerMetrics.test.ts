/** /metrics/workers of the real executable, which merges the metrics of the workers. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, PROCESSBIN, poolOf } from "../support/controller.ts";
import { assertNeverDown, assertPromtool, monotonicSeries, parseSeries } from "../support/exposition.ts";
import { startLoad } from "../support/load.ts";
import { freePorts } from "../support/ports.ts";
import { commandOk, proxyPool } from "../support/traffic.ts";
import { happened } from "../support/watch.ts";

async function scrape(controller: ControllerUnderTest): Promise<string> {
  const { status, body } = await controller.call("GET", "/metrics/workers");
  assert.equal(status, 200);
  return body;
}

/** A pool of processbin that serves at each worker's metrics port. */
function measuredPool(name: string, port: number, more: Readonly<Record<string, unknown>> = {}): string {
  return poolOf({
    name,
    exec: "/bin/sh",
    args: ["-c", `exec ${PROCESSBIN} --host 127.0.0.1 --port "$MONOCEROS_METRICS_PORT"`],
    startup_wait_time: "0s",
    metrics: { port },
    ...more,
  });
}

const uptime = (pool: string, slot: number) => `processbin_uptime_seconds{pool="${pool}",worker="${pool}-${slot}"}`;

test("worker counters never decrease while workers are killed and replaced [M1]", async (t: TestContext) => {
  const { workers, target } = await proxyPool({ replicas: 3, more: { metrics: {} } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const load = startLoad({ target, connections: 6, requests: [{ path: "/sleep?ms=5" }] });
  let before = new Map<string, number>();
  let scrapes = 0;
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      const now = monotonicSeries(await scrape(controller));
      assertNeverDown(before, now);
      before = now;
      scrapes++;
      await new Promise((wake) => setTimeout(wake, 50));
    }
  })();
  await load.reached(300);
  process.kill(await controller.pidOf("web-1"), "SIGKILL");
  await happened(controller, "ready", ({ pool, slot, incarnation }) => pool === "web" && slot === 1 && incarnation > 1);
  await commandOk(controller, "restart", "web");
  await commandOk(controller, "restart", "web");
  await load.reached(load.report.requests + 300);
  await load.stop();
  await eventually(() => scrapes > 5 || undefined, "several scrapes");
  isOver = true;
  await watching;
  const text = await eventually(async () => {
    const now = await scrape(controller);
    const total = parseSeries(now).get('processbin_requests_total{pool="web",method="other"}') ?? 0;
    // Only requests between the last scrape of a worker and its SIGKILL are lost.
    const gauges = [...parseSeries(now).keys()].filter((series) => series.startsWith("processbin_uptime"));
    // A worker that started after the last scrape, up to a second ago, has no gauge yet.
    const isWhole = total > load.report.requests * 0.5 && total <= load.report.requests + 6 && gauges.length === 3;
    return isWhole ? now : undefined;
  }, "the workers' requests are summed, and each live worker has its gauge");
  assertPromtool(t, text);
});

test("a scrape succeeds and leaves out suspended and crashed workers [M2]", async () => {
  const ports = await freePorts(4);
  await using controller = await ControllerUnderTest.start({
    workers: measuredPool("web", ports, { replicas: 3, restart: { backoff: { initial: "20s", max: "20s" } } }),
  });
  await controller.ready();
  await eventually(
    async () => (parseSeries(await scrape(controller)).size === 5 ? true : undefined),
    "all workers listen",
  );
  const suspended = await controller.pidOf("web-0");
  process.kill(suspended, "SIGSTOP");
  process.kill(await controller.pidOf("web-1"), "SIGKILL");
  const second = await happened(controller, "spawned", ({ slot, incarnation }) => slot === 1 && incarnation === 2);
  process.kill(second.pid, "SIGKILL");
  await happened(controller, "backing_off", ({ delayMs }) => delayMs > 0);
  try {
    const series = await eventually(async () => {
      const now = parseSeries(await scrape(controller));
      return now.has(uptime("web", 0)) ? undefined : now;
    }, "the suspended worker is left out");
    assert.deepEqual([...series.keys()].sort(), [
      'processbin_requests_total{pool="web",method="POST"}',
      'processbin_requests_total{pool="web",method="other"}',
      uptime("web", 2),
    ]);
    assert.ok((await controller.metric('monoceros_worker_metrics_scrapes_total{pool="web",result="timeout"}')) >= 1);
  } finally {
    process.kill(suspended, "SIGCONT");
  }
});

test("metrics of two pools, on ports and Unix sockets, are kept apart, and a pool without metrics is not scraped", async () => {
  const ports = await freePorts(4);
  const { workers } = await proxyPool({ replicas: 2, onUnixSockets: true, more: { metrics: {} } });
  await using controller = await ControllerUnderTest.start({
    workers: [
      workers,
      measuredPool("jobs", ports, { replicas: 2 }),
      poolOf({ name: "quiet", exec: "sleep", args: [100000] }),
    ].join("\n"),
  });
  await controller.ready();
  const series = await eventually(async () => {
    const now = parseSeries(await scrape(controller));
    return now.size === 8 ? now : undefined;
  }, "all workers are scraped");
  for (const pool of ["web", "jobs"]) {
    assert.equal(series.get(`processbin_requests_total{pool="${pool}",method="other"}`), 0);
    for (const slot of [0, 1]) assert.ok((series.get(uptime(pool, slot)) ?? 0) > 0);
  }
  assert.equal(await controller.metric('monoceros_worker_metrics_series{pool="jobs"}'), 4);
  assert.doesNotMatch(await controller.metrics(), /worker_metrics_series\{pool="quiet"\}/u);
});

test("a planned replacement loses no counts, because workers are scraped once more before they stop", async () => {
  const { workers, target } = await proxyPool({ replicas: 2, more: { metrics: {} } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  await scrape(controller);
  const load = startLoad({ target, connections: 4, requests: [{ path: "/" }] });
  await load.reached(200);
  const { counts } = await load.stop();
  await commandOk(controller, "restart", "web");
  await eventually(async () => {
    const total = parseSeries(await scrape(controller)).get('processbin_requests_total{pool="web",method="other"}');
    return (total ?? 0) >= counts.ok ? true : undefined;
  }, `all ${counts.ok} requests are summed`);
});

test("concurrent scrapes share one scrape of each worker per second", async () => {
  const ports = await freePorts(3);
  await using controller = await ControllerUnderTest.start({ workers: measuredPool("web", ports, { replicas: 2 }) });
  await controller.ready();
  const workerScrapes = async () => {
    const counts = parseSeries(await controller.metrics());
    return ["success", "failure", "timeout"]
      .map((result) => counts.get(`monoceros_worker_metrics_scrapes_total{pool="web",result="${result}"}`) ?? 0)
      .reduce((sum, count) => sum + count, 0);
  };
  const start = performance.now();
  let scrapes = 0;
  while (scrapes < 200) {
    await Promise.all(Array.from({ length: 20 }, () => scrape(controller)));
    scrapes += 20;
  }
  const seconds = (performance.now() - start) / 1000;
  const count = await workerScrapes();
  assert.ok(count >= 2 && count <= 2 * (1 + Math.ceil(seconds)), `${count} scrapes of workers in ${seconds} s`);
});

test("without pools that have metrics the answer is empty in both formats", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ name: "web", exec: "sleep", args: [100000] }),
  });
  assert.equal(await scrape(controller), "");
  const open = await controller.call("GET", "/metrics/workers", {
    accept: "application/openmetrics-text; version=1.0.0",
  });
  assert.equal(open.body, "# EOF\n");
});

test("a foreign process at a worker's metrics port is not scraped, and a warning names it", async (t) => {
  const port = await freePorts(1);
  const workers = poolOf({ name: "web", exec: "sleep", args: [1000], metrics: { port } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  let isAsked = false;
  const foreign = createServer((_, response) => {
    isAsked = true;
    response.end("# TYPE foreign_total counter\nforeign_total 1\n");
  });
  t.after(() => foreign.close());
  foreign.listen(port, "127.0.0.1");
  await once(foreign, "listening");
  const shown = await scrape(controller);
  assert.ok(!shown.includes("foreign_total"), shown);
  assert.equal(isAsked, false);
  assert.equal(await controller.metric('monoceros_worker_metrics_scrapes_total{pool="web",result="foreign"}'), 1);
  const warning = await eventually(
    () => Promise.resolve(controller.stderr.find((line) => line.includes('cannot scrape worker \\"web-0\\"'))),
    "the warning is logged",
  );
  assert.ok(warning.includes(`pid ${process.pid} (`) && warning.includes(`port ${port}`), warning);
});
