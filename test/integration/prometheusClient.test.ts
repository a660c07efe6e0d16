/** Metrics of workers that use prometheus_client in its multiprocess mode, as shown at /metrics/workers. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ControllerUnderTest, eventually, PYTHON, poolOf, untilGone } from "../support/controller.ts";
import { assertNeverDown, monotonicSeries, parseSeries } from "../support/exposition.ts";
import { freePorts } from "../support/ports.ts";
import { happened } from "../support/watch.ts";

const skip = existsSync(PYTHON) ? false : "the Python packages could not be installed";

/** Serves at MONOCEROS_METRICS_PORT; files are named by MULTIPROCESS_WORKER_ID, or by pid if BY_PID is set. */
const PROGRAM = `
import http.server, os
from prometheus_client import values
if "BY_PID" not in os.environ:
    values.ValueClass = values.MultiProcessValue(lambda: os.environ["MULTIPROCESS_WORKER_ID"])
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
requests = Counter("app_requests", "Requests", ["path"])
seconds = Histogram("app_seconds", "Durations", buckets=[0.1, 1])
Gauge("app_slot", "Slot and ten", multiprocess_mode="all").set(10 + int(os.environ["MONOCEROS_SLOT"]))
Gauge("app_open", "Live workers", multiprocess_mode="livesum").set(1)
Gauge("app_alive", "Live workers, each", multiprocess_mode="liveall").set(1)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"hello"
        if self.path == "/metrics":
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            body = generate_latest(registry)
        else:
            requests.labels(self.path).inc()
            seconds.observe(0.5)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["MONOCEROS_METRICS_PORT"])), Handler).serve_forever()
`;

const scratch = mkdtempSync(join(tmpdir(), "monoceros-prometheus-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const program = join(scratch, "app.py");
writeFileSync(program, PROGRAM);

interface Keys {
  readonly replicas: number;
  readonly metrics: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string>>;
}

function webPool(port: number, { replicas, metrics, env = {} }: Keys): string {
  return poolOf({ name: "web", exec: PYTHON, args: [program], replicas, metrics: { port, ...metrics }, env });
}

/** Sends a GET to a worker; undefined if it does not answer. */
async function ask(port: number, path = "/a"): Promise<string | undefined> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: "close" } });
    return await response.text();
  } catch {
    return undefined;
  }
}

/** Waits until the workers of all slots answer, then sends `each` requests to each. */
async function send(port: number, replicas: number, each: number): Promise<void> {
  for (let slot = 0; slot < replicas; slot++) {
    await eventually(() => ask(port + slot, "/metrics"), `worker ${slot} serves`);
    for (let request = 0; request < each; request++) assert.equal(await ask(port + slot), "hello");
  }
}

/** Waits until `isRight` accepts the series of /metrics/workers, because a scrape is shared for a second. */
function seriesWhen(
  controller: ControllerUnderTest,
  isRight: (series: ReadonlyMap<string, number>) => boolean,
  what: string,
): Promise<ReadonlyMap<string, number>> {
  return eventually(async () => {
    const series = parseSeries((await controller.call("GET", "/metrics/workers")).body);
    return isRight(series) ? series : undefined;
  }, what);
}

const REQUESTS = 'app_requests_total{pool="web",path="/a"}';

test("with multiproc, requests to three workers are counted once, and the pool has its own directory", {
  skip,
}, async () => {
  const port = await freePorts(5);
  await using controller = await ControllerUnderTest.start({
    workers: webPool(port, { replicas: 3, metrics: { multiproc: true } }),
    env: { PROMETHEUS_MULTIPROC_DIR: join(scratch, "somewhere-else") },
  });
  await send(port, 3, 10);
  const series = await seriesWhen(controller, (all) => all.get(REQUESTS) === 30, "all requests are counted");
  assert.equal(series.get('app_seconds_count{pool="web"}'), 30);
  assert.equal(series.get('app_open{pool="web"}'), 3);
  for (const slot of [0, 1, 2]) assert.equal(series.get(`app_slot{pool="web",pid="web-${slot}"}`), 10 + slot);
  // Further scrapes do not change it.
  await seriesWhen(controller, (all) => all.get(REQUESTS) === 30, "totals are not summed per worker");
  const directory = environmentOf(await controller.pidOf("web-0"))["PROMETHEUS_MULTIPROC_DIR"] ?? "";
  assert.equal(environmentOf(await controller.pidOf("web-2"))["PROMETHEUS_MULTIPROC_DIR"], directory);
  assert.equal(statSync(directory).mode & 0o777, 0o700);
  assert.equal(existsSync(join(scratch, "somewhere-else")), false);
  assert.ok(readdirSync(directory).includes("counter_web-0.db"));
});

test("counters of a multiproc pool never decrease when workers are killed, and their live gauges vanish", {
  skip,
}, async () => {
  for (const env of [{}, { BY_PID: "1" }]) {
    const port = await freePorts(5);
    await using controller = await ControllerUnderTest.start({
      workers: webPool(port, { replicas: 3, metrics: { multiproc: true }, env }),
    });
    await send(port, 3, 4);
    let before = monotonicSeries(await workers(controller));
    const dead = await controller.pidOf("web-0");
    process.kill(dead, "SIGKILL");
    await happened(controller, "spawned", ({ slot, incarnation }) => slot === 0 && incarnation === 2);
    await untilGone(dead);
    await send(port, 1, 3);
    const series = await seriesWhen(
      controller,
      (all) => {
        const now = new Map([...before.keys()].map((name) => [name, all.get(name) ?? Number.NaN]));
        assertNeverDown(before, now);
        before = now;
        return all.get(REQUESTS) === 15 && all.get('app_open{pool="web"}') === 3;
      },
      "the requests of the killed worker are counted, and its live gauge has vanished",
    );
    const alive = [...series.keys()].filter((name) => name.startsWith("app_alive{"));
    assert.equal(alive.length, 3);
    assert.ok(!alive.some((name) => name.includes(`"${dead}"`)));
  }
});

test("with scope pool one worker is scraped for the pool, and another one if it hangs", { skip }, async () => {
  const port = await freePorts(4);
  const directory = mkdtempSync(join(scratch, "shared-"));
  await using controller = await ControllerUnderTest.start({
    workers: webPool(port, { replicas: 2, metrics: { scope: "pool" }, env: { PROMETHEUS_MULTIPROC_DIR: directory } }),
  });
  await send(port, 2, 5);
  await seriesWhen(controller, (all) => all.get(REQUESTS) === 10, "all requests are counted once");
  const answered = 'monoceros_worker_metrics_scrapes_total{pool="web",result="success"}';
  const before = await controller.metric(answered);
  await eventually(async () => {
    await workers(controller);
    const now = await controller.metric(answered);
    assert.ok(now - before <= 1, "one worker is scraped");
    return now > before ? true : undefined;
  }, "another scrape");
  for (const slot of [0, 1]) {
    const pid = await controller.pidOf(`web-${slot}`);
    process.kill(pid, "SIGSTOP");
    try {
      await seriesWhen(
        controller,
        (all) => all.has('app_open{pool="web"}') && all.get(REQUESTS) === 10,
        "the other worker answers",
      );
    } finally {
      process.kill(pid, "SIGCONT");
    }
  }
});

test("the default MULTIPROCESS_WORKER_ID keeps gauges of workers apart, and the original's form merges them", {
  skip,
}, async () => {
  const gauges = async (env: Readonly<Record<string, string>>) => {
    const port = await freePorts(4);
    await using controller = await ControllerUnderTest.start({
      workers: webPool(port, { replicas: 2, metrics: { multiproc: true }, env }),
    });
    await send(port, 2, 1);
    const series = await seriesWhen(controller, (all) => all.get(REQUESTS) === 2, "both workers are counted");
    return [...series].filter(([name]) => name.startsWith("app_slot{"));
  };
  assert.deepEqual(await gauges({}), [
    ['app_slot{pool="web",pid="web-0"}', 10],
    ['app_slot{pool="web",pid="web-1"}', 11],
  ]);
  const merged = await gauges({ MULTIPROCESS_WORKER_ID: "{{.Pool}}_{{.WorkerID}}" });
  assert.equal(merged.length, 1, "env overrides the default, and with the original's form the gauges are merged");
});

async function workers(controller: ControllerUnderTest): Promise<string> {
  return (await controller.call("GET", "/metrics/workers")).body;
}

/** The environment of a process. */
function environmentOf(pid: number): Readonly<Record<string, string>> {
  const entries = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
  return Object.fromEntries(entries.map((entry) => entry.split(/=(.*)/su).slice(0, 2)));
}
