/** Properties of /metrics that Prometheus relies on. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, poolOf } from "../support/controller.ts";
import { assertNeverDown, assertPromtool, monotonicSeries, parseSeries } from "../support/exposition.ts";

const QUICK = { startup_wait_time: "0s", restart: { backoff: { initial: "1ms", max: "1ms", jitter: 0 } } };

function shell(name: string, script: string, more: Readonly<Record<string, unknown>> = {}): string {
  return poolOf({ name, replicas: 1, exec: "/bin/sh", args: ["-c", script], ...QUICK, ...more });
}

/** Rules that promtool also checks, for machines without it. */
function lint(text: string): void {
  const seen = new Set<string>();
  let current = "";
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const help = /^# HELP ((?:monoceros|process)_[a-z0-9_]+) (\S.*)$/u.exec(line);
    if (help !== null) {
      current = help[1] ?? "";
      assert.ok(!seen.has(current), `${current} is declared twice`);
      seen.add(current);
      continue;
    }
    if (line.startsWith("#")) {
      const [, name, type] = /^# TYPE (\S+) (counter|gauge|histogram)$/u.exec(line) ?? [];
      assert.equal(name, current, line);
      assert.ok(type !== "counter" || current.endsWith("_total"), line);
      continue;
    }
    assert.match(
      line,
      /^[a-z0-9_]+(\{[a-z_]+="([^"\\\n]|\\.)*"(,[a-z_]+="([^"\\\n]|\\.)*")*\})? (\+Inf|-?[0-9.e+-]+)$/u,
    );
    assert.ok(line.startsWith(current), line);
  }
}

describe("metrics", () => {
  test("counters never decrease across restarts [M1]", async () => {
    const script =
      'echo "line"; echo "{}"; echo oops >&2; sleep 0.01; [ $MONOCEROS_INCARNATION -lt 40 ] || exec sleep 100000';
    await using controller = await ControllerUnderTest.start({ workers: shell("web", script, { replicas: 2 }) });
    let before = monotonicSeries(await controller.metrics());
    await eventually(async () => {
      const now = monotonicSeries(await controller.metrics());
      assertNeverDown(before, now);
      before = now;
      return (now.get('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}') ?? 0) >= 78
        ? now
        : undefined;
    }, "all restarts");
    const lines = 'monoceros_log_lines_total{pool="web",stream="stdout",format="text"}';
    await eventually(async () => ((await controller.metric(lines)) === 80 ? true : undefined), "80 lines are counted");
    assert.equal(await controller.metric('monoceros_pool_spawns_total{pool="web"}'), 80);
    assert.equal(await controller.metric('monoceros_pool_exits_total{pool="web",reason="unplanned",status="0"}'), 78);
  });

  test("scrapes succeed while workers are suspended, crashed or stopped [M2]", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shell("web", "exec sleep 100000", { replicas: 4, restart: { backoff: { initial: "10s", max: "10s" } } }),
    });
    await controller.ready();
    const cpu = (id: string) => `monoceros_workerpool_process_cpu_seconds_total{pool="web",worker="${id}"}`;
    assert.ok(parseSeries(await controller.metrics()).has(cpu("web-0")));

    process.kill(await controller.pidOf("web-0"), "SIGSTOP");
    const crashed = controller.event((event) => event.kind === "backing_off" && event.delayMs > 0);
    process.kill(await controller.pidOf("web-1"), "SIGKILL");
    const second = await controller.event(
      (event) => event.kind === "spawned" && event.slot === 1 && event.incarnation === 2,
    );
    assert.ok(second.kind === "spawned");
    process.kill(second.pid, "SIGKILL");
    await crashed;
    assert.equal((await controller.call("POST", "/v1/workers/web-2/stop")).status, 202);
    await controller.event((event) => event.kind === "stopped" && event.slot === 2);

    // /metrics does not contact workers, so many concurrent scrapes are all answered.
    const scrapes = await Promise.all(Array.from({ length: 20 }, () => controller.call("GET", "/metrics")));
    for (const scrape of scrapes) {
      assert.equal(scrape.status, 200);
      const series = parseSeries(scrape.body);
      assert.deepEqual(
        ["web-0", "web-1", "web-2", "web-3"].filter((id) => series.has(cpu(id))),
        ["web-0", "web-3"],
      );
      assert.equal(series.get('monoceros_pool_workers{pool="web",phase="backoff"}'), 1);
      assert.equal(series.get('monoceros_pool_workers{pool="web",phase="down"}'), 1);
    }
    process.kill(await controller.pidOf("web-0"), "SIGCONT");
  });

  test("1,000 restarts add no series [M3]", async () => {
    const script = "[ $MONOCEROS_INCARNATION -gt 501 ] && exec sleep 100000; exit 7";
    await using controller = await ControllerUnderTest.start({ workers: shell("web", script, { replicas: 2 }) });
    await controller.event((event) => event.kind === "spawned" && event.incarnation === 3);
    const early = parseSeries(await controller.metrics());
    for (const slot of [0, 1]) {
      await controller.event((event) => event.kind === "ready" && event.slot === slot && event.incarnation === 502);
    }
    const late = parseSeries(await controller.metrics());
    assert.ok((late.get('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}') ?? 0) >= 1000);
    const isOfProcess = (series: string) => series.startsWith("monoceros_workerpool_process_");
    const names = (series: ReadonlyMap<string, number>) =>
      [...series.keys()].filter((each) => !isOfProcess(each) && !each.startsWith("monoceros_worker_tree_")).sort();
    assert.deepEqual(names(late), names(early));
    // Series of processes exist only while a process runs: at most one set for each slot.
    const ofProcesses = [...late.keys()].filter(isOfProcess);
    assert.deepEqual(
      new Set(ofProcesses.map((each) => /worker="([^"]+)"/u.exec(each)?.[1])),
      new Set(["web-0", "web-1"]),
    );
    assert.equal(ofProcesses.length, 2 * 7);
  });

  test("promtool accepts the metrics after starts, crashes, kills and stops [M4]", async (t: TestContext) => {
    await using controller = await ControllerUnderTest.start({
      workers: [
        shell("web", "echo hello; exec sleep 100000", { replicas: 2 }),
        shell("crash-1", "[ $MONOCEROS_INCARNATION -gt 3 ] && exec sleep 100000; exit 9"),
        shell("stubborn", "trap '' TERM; while :; do sleep 0.05; done", { signal_timeout: "50ms" }),
      ].join("\n"),
    });
    await controller.event((event) => event.kind === "ready" && event.pool === "crash-1" && event.incarnation === 4);
    assert.equal((await controller.call("POST", "/v1/workers/stubborn-0/stop")).status, 202);
    await controller.event((event) => event.kind === "killed");
    await controller.event((event) => event.kind === "stopped" && event.pool === "stubborn");
    const text = await controller.metrics();
    lint(text);
    assertPromtool(t, text);
  });

  test("/metrics uses OpenMetrics if the Accept header requests it, and the Prometheus text format otherwise", async () => {
    await using controller = await ControllerUnderTest.start({ workers: shell("web", "exec sleep 100000") });
    const scraper =
      "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    const open = await controller.call("GET", "/metrics", { accept: scraper });
    assert.ok(open.body.endsWith("\n# EOF\n"));
    assert.match(open.body, /^# TYPE monoceros_pool_spawns counter$/mu);
    assert.match(open.body, /^monoceros_pool_spawns_total\{pool="web"\} 1$/mu);
    for (const accept of ["", "text/plain", "*/*"]) {
      const plain = await controller.call("GET", "/metrics", accept === "" ? {} : { accept });
      assert.ok(!plain.body.includes("# EOF"));
      assert.match(plain.body, /^# TYPE monoceros_pool_spawns_total counter$/mu);
    }
  });
});
