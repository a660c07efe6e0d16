import assert from "node:assert/strict";
import { test } from "node:test";
import { controllerView, poolView, workerView } from "../../test/support/view.ts";
import type { ProcessReading, ProxyReadings } from "../base/readings.ts";
import { instant } from "../base/time.ts";
import type { WorkerLifecycleEvent } from "../core/event.ts";
import { EMPTY_TALLY, type PoolTally, tallyEvent } from "../core/tally.ts";
import { PHASES, type PoolView } from "../core/view.ts";
import { CATALOG } from "./catalog.ts";
import { formatMetrics } from "./exposition.ts";
import type { CatalogMetric, Scrape } from "./scrape.ts";

const READING: ProcessReading = {
  cpuSeconds: 1.5,
  openFds: 7,
  maxFds: 1024,
  residentBytes: 4096,
  virtualBytes: 8192,
  virtualMaxBytes: Number.POSITIVE_INFINITY,
  startTimeSeconds: 1_700_000_000.25,
};

function scrapeOf(pool: Partial<PoolView> = {}, changes: Partial<Scrape> = {}): Scrape {
  const web = poolView(pool.workers ?? [], { readyCount: 1, healthy: false, ...pool });
  return {
    view: controllerView([web]),
    readings: new Map(),
    ownReading: undefined,
    trees: new Map(),
    logs: [{ pool: "web", stream: "stdout", bytes: 90, jsonLines: 2, textLines: 3, parts: 1 }],
    logFiles: [
      {
        pool: "web",
        writtenBytes: 70,
        blockedSeconds: 1.5,
        discardedBytes: 7,
        rotations: 2,
        errors: 3,
        isFailing: true,
      },
    ],
    sinks: [{ stream: "stdout", bytesWritten: 80, blockedSeconds: 0.5, discardedBytes: 4 }],
    orphansReaped: 5,
    oomKills: 6,
    build: { version: "1.2.3", revision: "abc", runtime: "v26" },
    proxies: new Map(),
    balances: new Map(),
    probes: [],
    operations: [],
    workerMetrics: [],
    ...changes,
  };
}

/** The same with the proxy of `web` as a pool of its own. */
function withProxy(scrape: Scrape, proxy: Partial<PoolView> = {}): Scrape {
  const [web] = scrape.view.pools;
  assert.ok(web !== undefined);
  const workers = web.workers.map((each) => ({ ...each, id: `web-proxy-${each.slot}`, pool: "web-proxy" }));
  const envoy: PoolView = { ...web, name: "web-proxy", role: "proxy", fronts: "web", replicas: 1, workers, ...proxy };
  return { ...scrape, view: { ...scrape.view, pools: [web, envoy] } };
}

const PROXY_TOTALS: ProxyReadings = {
  workers: new Map([
    [0, { requestsTotal: 90, failedTotal: 2, inFlight: 3, failedActiveCheck: false }],
    [7, { requestsTotal: 10, failedTotal: 0, inFlight: 0, failedActiveCheck: true }],
  ]),
  downstreamRequestsTotal: 101,
  downstreamRequestsActive: 4,
  downstreamConnectionsActive: 5,
  downstream5xxTotal: 6,
  queueOverflowTotal: 7,
  queued: 8,
  retriesTotal: 9,
  updatesAppliedTotal: 10,
  updatesRefusedTotal: 11,
  requestTimeMs: {
    buckets: [
      { upperBound: 0.5, count: 1 },
      { upperBound: 25, count: 40 },
      { upperBound: 100, count: 90 },
      { upperBound: 3_600_000, count: 99 },
    ],
    sum: 12_500,
    count: 100,
  },
};

function linesOf(scrape: Scrape): string[] {
  const text = formatMetrics(CATALOG, scrape, "prometheus");
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}

function has(scrape: Scrape, ...expected: readonly string[]): void {
  const lines = new Set(linesOf(scrape));
  for (const line of expected) assert.ok(lines.has(line), `"${line}" is not among\n${[...lines].join("\n")}`);
}

const of = { pool: "web", slot: 0, incarnation: 1 } as const;
const LIFE: readonly WorkerLifecycleEvent[] = [
  { ...of, kind: "spawned", pid: 7, revision: 1 },
  { ...of, kind: "spawn_failed", reason: "" },
  { ...of, kind: "ready", afterMs: 300, evidence: "probe" },
  { ...of, kind: "exited", pid: 7, status: { kind: "signal", signal: "SIGSEGV" }, planned: false, uptimeMs: 1 },
  { ...of, kind: "backing_off", delayMs: 0, reason: "" },
  { ...of, kind: "limit_reached", limit: "lifespan", reason: "" },
  { ...of, kind: "killed", pid: 7, reason: "" },
  { ...of, kind: "exited", pid: 7, status: { kind: "code", code: 0 }, planned: true, uptimeMs: 1 },
  { ...of, kind: "stopped", durationMs: 10_500, next: "respawn" },
  { ...of, kind: "gave_up", reason: "" },
];

test("lifecycle totals have the names of the predecessor and the new names", () => {
  const tally: PoolTally = { ...LIFE.reduce(tallyEvent, EMPTY_TALLY), rollouts: { finished: 2, aborted: 1 } };
  has(
    scrapeOf({ tally }),
    'monoceros_workerpool_restarts_total{pool="web",worker_type="worker"} 1',
    'monoceros_workerpool_sigkill_total{pool="web"} 1',
    'monoceros_workerpool_limits_events_total{pool="web",limit_event="time"} 1',
    'monoceros_workerpool_limits_events_total{pool="web",limit_event="memory"} 0',
    'monoceros_pool_spawns_total{pool="web"} 1',
    'monoceros_pool_spawn_failures_total{pool="web"} 1',
    'monoceros_pool_given_up_total{pool="web"} 1',
    'monoceros_pool_exits_total{pool="web",reason="unplanned",status="SIGSEGV"} 1',
    'monoceros_pool_exits_total{pool="web",reason="planned",status="0"} 1',
    'monoceros_pool_rollouts_total{pool="web",result="finished"} 2',
    'monoceros_pool_rollouts_total{pool="web",result="aborted"} 1',
    'monoceros_pool_time_to_ready_seconds_bucket{pool="web",le="0.1"} 0',
    'monoceros_pool_time_to_ready_seconds_bucket{pool="web",le="0.5"} 1',
    'monoceros_pool_time_to_ready_seconds_sum{pool="web"} 0.3',
    'monoceros_pool_stop_duration_seconds_bucket{pool="web",le="10"} 0',
    'monoceros_pool_stop_duration_seconds_bucket{pool="web",le="+Inf"} 1',
    'monoceros_pool_stop_duration_seconds_count{pool="web"} 1',
  );
});

test("no counter or bucket decreases while events arrive", () => {
  const isCounter = (line: string) => /^[a-z_]+(?:_total|_bucket|_count|_sum)(?:\{| )/u.test(line);
  let tally = EMPTY_TALLY;
  let before = new Map<string, number>();
  for (const event of [...LIFE, ...LIFE, ...LIFE]) {
    tally = tallyEvent(tally, event);
    const now = new Map<string, number>();
    for (const line of linesOf(scrapeOf({ tally })).filter(isCounter)) {
      const space = line.lastIndexOf(" ");
      now.set(line.slice(0, space), Number(line.slice(space + 1)));
    }
    for (const [series, value] of before) {
      assert.ok((now.get(series) ?? Number.NaN) >= value, `${series} after ${event.kind}`);
    }
    before = now;
  }
});

test("workers are counted in each phase and in the predecessor's states, including empty ones", () => {
  const workers = (["ready", "ready", "backoff", "starting", "stopping"] as const).map((phase, slot) =>
    workerView(slot, phase),
  );
  has(
    scrapeOf({ workers }),
    'monoceros_pool_workers{pool="web",phase="ready"} 2',
    'monoceros_pool_workers{pool="web",phase="down"} 0',
    // A worker that boots has a process already.
    'monoceros_workerpool_worker_state{pool="web",state="prepared"} 1',
    'monoceros_workerpool_worker_state{pool="web",state="running"} 4',
    'monoceros_workerpool_worker_state{pool="web",state="terminated"} 0',
    'monoceros_pool_replicas{pool="web"} 2',
    'monoceros_pool_ready_workers{pool="web"} 1',
    'monoceros_pool_healthy{pool="web"} 0',
  );
});

test("the controller exposes its build, phase, mode and shutdown requests", () => {
  const scrape = withProxy(scrapeOf());
  const leaving = { ...scrape, view: { ...scrape.view, phase: "leaving", shutdownRequests: 2 } } as const;
  has(
    leaving,
    'monoceros_build_info{version="1.2.3",revision="abc",runtime="v26"} 1',
    'monoceros_controller_phase{phase="leaving"} 1',
    'monoceros_controller_phase{phase="running"} 0',
    "monoceros_controller_shutdown_requests_total 2",
    "monoceros_controller_orphans_reaped_total 5",
    "monoceros_supervisor_sigterm_received 1",
    "monoceros_supervisor_proxy_mode 1",
  );
  has(scrapeOf(), "monoceros_supervisor_sigterm_received 0", "monoceros_supervisor_proxy_mode 0");
});

test("the proxy's totals are exposed for the pool and for each worker", () => {
  has(
    scrapeOf({}, { proxies: new Map([["web", PROXY_TOTALS]]) }),
    'monoceros_proxy_worker_requests_total{pool="web",worker="web-0"} 90',
    'monoceros_proxy_worker_failed_requests_total{pool="web",worker="web-0"} 2',
    'monoceros_proxy_worker_requests_in_flight{pool="web",worker="web-0"} 3',
    'monoceros_proxy_worker_check_failed{pool="web",worker="web-0"} 0',
    'monoceros_proxy_worker_check_failed{pool="web",worker="web-7"} 1',
    'monoceros_proxy_requests_total{pool="web"} 101',
    'monoceros_proxy_requests_in_flight{pool="web"} 4',
    'monoceros_proxy_connections{pool="web"} 5',
    'monoceros_proxy_server_errors_total{pool="web"} 6',
    'monoceros_proxy_queue_overflows_total{pool="web"} 7',
    'monoceros_proxy_queued_requests{pool="web"} 8',
    'monoceros_proxy_retries_total{pool="web"} 9',
    'monoceros_proxy_updates_total{pool="web",result="applied"} 10',
    'monoceros_proxy_updates_total{pool="web",result="refused"} 11',
  );
});

test("Envoy's cumulative buckets in ms become seconds, even if some bounds are missing", () => {
  const bucket = (le: string) => `monoceros_proxy_request_duration_seconds_bucket{pool="web",le="${le}"}`;
  const scrape = scrapeOf({}, { proxies: new Map([["web", PROXY_TOTALS]]) });
  has(
    scrape,
    `${bucket("0.0005")} 1`,
    `${bucket("0.01")} 1`,
    `${bucket("0.025")} 40`,
    `${bucket("0.05")} 40`,
    `${bucket("0.1")} 90`,
    `${bucket("3600")} 99`,
    `${bucket("+Inf")} 100`,
    'monoceros_proxy_request_duration_seconds_sum{pool="web"} 12.5',
    'monoceros_proxy_request_duration_seconds_count{pool="web"} 100',
  );
  const unused = { ...PROXY_TOTALS, requestTimeMs: undefined };
  const text = linesOf(scrapeOf({}, { proxies: new Map([["web", unused]]) })).join("\n");
  assert.doesNotMatch(text, /request_duration/u);
});

test("restarts of Envoy carry the name of its pool; elsewhere Envoy is a pool of its own", () => {
  const tally = LIFE.reduce(tallyEvent, EMPTY_TALLY);
  const scrape = withProxy(scrapeOf(), {
    tally,
    workers: [workerView(0, "ready", { id: "web-proxy-0", pool: "web-proxy" })],
  });
  const readings = new Map([[100, READING]]);
  has(
    { ...scrape, readings },
    'monoceros_workerpool_restarts_total{pool="web",worker_type="worker"} 0',
    'monoceros_workerpool_restarts_total{pool="web",worker_type="proxy"} 1',
    'monoceros_workerpool_process_resident_memory_bytes{pool="web-proxy",worker="web-proxy-0"} 4096',
    'monoceros_pool_spawns_total{pool="web-proxy"} 1',
  );
  const text = linesOf(scrape).join("\n");
  assert.doesNotMatch(text, /(?:rollouts_total|limits_events_total|requests_cut_total)\{pool="web-proxy"/u);
});

test("drains, operations, probes and the spread of a pool are exposed", () => {
  const drained = { ...of, kind: "drained", afterMs: 700, cut: 3 } as const;
  const operation = {
    id: "op-1",
    what: "restart",
    done: 0,
    total: 2,
    startedAt: instant(0),
  } as const;
  has(
    scrapeOf(
      { tally: tallyEvent(EMPTY_TALLY, drained), operations: [operation] },
      {
        balances: new Map([["web", { workers: [], cpuSpread: 1.5, requestsSpread: undefined }]]),
        probes: [{ pool: "web", purpose: "liveness", result: "failure", count: 4 }],
        operations: [{ pool: "web", what: "scale", result: "failed", count: 2 }],
        workerMetrics: [
          {
            pool: "web",
            answers: { success: 5, failure: 6, timeout: 7, foreign: 8 },
            dropped: { malformed: 1, limit: 2, unsupported: 3, conflict: 4 },
            lines: 99,
          },
        ],
      },
    ),
    'monoceros_pool_requests_cut_total{pool="web"} 3',
    'monoceros_pool_drain_duration_seconds_bucket{pool="web",le="0.5"} 0',
    'monoceros_pool_drain_duration_seconds_bucket{pool="web",le="1"} 1',
    'monoceros_pool_operations_total{pool="web",operation="scale",result="failed"} 2',
    'monoceros_pool_operations_running{pool="web"} 1',
    'monoceros_probe_attempts_total{pool="web",probe="liveness",result="failure"} 4',
    'monoceros_pool_cpu_spread_ratio{pool="web"} 1.5',
    'monoceros_worker_metrics_scrapes_total{pool="web",result="timeout"} 7',
    'monoceros_worker_metrics_scrapes_total{pool="web",result="foreign"} 8',
    'monoceros_worker_metrics_dropped_samples_total{pool="web",reason="conflict"} 4',
    'monoceros_worker_metrics_series{pool="web"} 99',
  );
  const text = linesOf(scrapeOf()).join("\n");
  assert.doesNotMatch(text, /spread_ratio/u);
});

test("log totals are exposed per pool and stream, outputs per stream", () => {
  has(
    scrapeOf(),
    'monoceros_log_bytes_total{pool="web",stream="stdout"} 90',
    'monoceros_log_lines_total{pool="web",stream="stdout",format="json"} 2',
    'monoceros_log_lines_total{pool="web",stream="stdout",format="text"} 3',
    'monoceros_log_parts_total{pool="web",stream="stdout"} 1',
    'monoceros_log_written_bytes_total{stream="stdout"} 80',
    'monoceros_log_blocked_seconds_total{stream="stdout"} 0.5',
    'monoceros_log_discarded_bytes_total{stream="stdout"} 4',
    "monoceros_workerpool_failed_to_parse_log_json_total 0",
  );
});

test("process metrics exist only for live workers that could be read", () => {
  const workers = [workerView(0, "ready"), workerView(1, "ready"), workerView(2, "down"), workerView(3, "ready")];
  const hidden = { ...READING, openFds: undefined };
  const scrape = scrapeOf(
    { workers },
    {
      readings: new Map([
        [100, READING],
        [103, hidden],
      ]),
    },
  );
  const labels = '{pool="web",worker="web-0"}';
  has(
    scrape,
    `monoceros_workerpool_process_cpu_seconds_total${labels} 1.5`,
    `monoceros_workerpool_process_open_fds${labels} 7`,
    `monoceros_workerpool_process_max_fds${labels} 1024`,
    `monoceros_workerpool_process_resident_memory_bytes${labels} 4096`,
    `monoceros_workerpool_process_virtual_memory_bytes${labels} 8192`,
    `monoceros_workerpool_process_virtual_memory_max_bytes${labels} 18446744073709552000`,
    `monoceros_workerpool_process_start_time_seconds${labels} 1700000000.25`,
    'monoceros_workerpool_process_cpu_seconds_total{pool="web",worker="web-3"} 1.5',
  );
  const text = linesOf(scrape).join("\n");
  assert.doesNotMatch(text, /web-1|web-2|open_fds\{pool="web",worker="web-3"\}/u);
});

test("the controller's own process has the standard names of Prometheus clients", () => {
  has(
    scrapeOf({}, { ownReading: READING }),
    "process_cpu_seconds_total 1.5",
    "process_open_fds 7",
    "process_max_fds 1024",
    "process_resident_memory_bytes 4096",
    "process_virtual_memory_bytes 8192",
    "process_virtual_memory_max_bytes 18446744073709552000",
    "process_start_time_seconds 1700000000.25",
  );
  assert.doesNotMatch(linesOf(scrapeOf()).join("\n"), /^process_/mu);
});

test("the process tree of a worker has separate metrics from its leader", () => {
  const trees = new Map([[100, { cpuSeconds: 7.5, residentBytes: 12_288, processCount: 3 }]]);
  const scrape = scrapeOf(
    { workers: [workerView(0, "ready"), workerView(1, "ready"), workerView(2, "down")] },
    { readings: new Map([[100, READING]]), trees },
  );
  const labels = '{pool="web",worker="web-0"}';
  has(
    scrape,
    `monoceros_workerpool_process_cpu_seconds_total${labels} 1.5`,
    `monoceros_workerpool_process_resident_memory_bytes${labels} 4096`,
    `monoceros_worker_tree_cpu_seconds_total${labels} 7.5`,
    `monoceros_worker_tree_resident_memory_bytes${labels} 12288`,
    `monoceros_worker_tree_processes${labels} 3`,
  );
  assert.doesNotMatch(linesOf(scrape).join("\n"), /web-1|web-2/u);
});

test("a restart of a worker adds no series", () => {
  const first = scrapeOf({ workers: [workerView(0, "ready")] }, { readings: new Map([[100, READING]]) });
  const restarted = workerView(0, "ready", { pid: 999, incarnation: 1000, restarts: 999 });
  const last = scrapeOf({ workers: [restarted] }, { readings: new Map([[999, READING]]) });
  const series = (scrape: Scrape) => linesOf(scrape).map((line) => line.slice(0, line.lastIndexOf(" ")));
  assert.deepEqual(series(last), series(first));
});

test("no series is printed twice", () => {
  const tally = LIFE.reduce(tallyEvent, EMPTY_TALLY);
  const readings = new Map(PHASES.map((_, slot) => [100 + slot, READING]));
  const workers = PHASES.map((phase, slot) => workerView(slot, phase));
  const scrape = withProxy(scrapeOf({ workers, tally }, { readings, proxies: new Map([["web", PROXY_TOTALS]]) }));
  const series = linesOf(scrape).map((line) => line.slice(0, line.lastIndexOf(" ")));
  assert.equal(new Set(series).size, series.length);
});

/** The rules of `promtool check metrics` and of OpenMetrics' reserved suffixes, as far as they concern this catalog. */
function problemsOf({ name, type, help, labels }: CatalogMetric): string[] {
  const words = name.split("_");
  const rules: readonly (readonly [boolean, string])[] = [
    [help.trim() === "" || help.includes("\n"), "help is one line of text"],
    [
      !/^(?:monoceros|process)_[a-z][a-z0-9]*(?:_[a-z0-9]+)+$/u.test(name),
      "name is snake_case and begins with monoceros_ or process_",
    ],
    [type === "counter" && !name.endsWith("_total"), "a counter ends in _total"],
    [type !== "counter" && name.endsWith("_total"), "only a counter ends in _total"],
    [/_(?:bucket|count|sum|created|gcount|gsum)(?:_total)?$/u.test(name), "suffix is reserved"],
    [/_info_total$/u.test(name), "suffix is reserved"],
    [words.some((word) => /^(?:counter|gauge|histogram|summary|untyped)$/u.test(word)), "type is part of the name"],
    [words.some((word) => /^(?:s|ms|us|ns|sec|b|kb|mb|gb|tb|pb|m|h|d)$/u.test(word)), "unit is abbreviated"],
    [
      words.some((word) =>
        /^(?:milli|micro|nano|kilo|mega|giga|kibi|mebi|gibi)?(?:minutes|hours|days|bits)$/u.test(word),
      ),
      "unit is not a base unit",
    ],
    [words.some((word) => /^(?:milli|micro|nano|kilo|mega|giga).*(?:seconds|bytes)$/u.test(word)), "unit has a prefix"],
    [type === "histogram" && !/_(?:seconds|bytes)$/u.test(name), "a histogram ends in its unit"],
    [labels.some((label) => !/^[a-z][a-z_]*$/u.test(label)), "labels are snake_case"],
    [
      labels.some((label) => ["le", "quantile", "pid", "incarnation", "job", "instance"].includes(label)),
      "label is taken",
    ],
    [new Set(labels).size !== labels.length, "a label stands twice"],
  ];
  return rules.filter(([isBroken]) => isBroken).map(([, rule]) => `${name}: ${rule}`);
}

test("every metric follows the naming rules of Prometheus", () => {
  assert.deepEqual(CATALOG.flatMap(problemsOf), []);
});

test("no two metrics share a name, even without _total", () => {
  const families = CATALOG.map(({ name }) => name.replace(/_total$/u, ""));
  assert.deepEqual(
    families.filter((name, index) => families.indexOf(name) !== index),
    [],
  );
});

test("every metric of the predecessor exists with its name and labels", () => {
  const process = ["pool", "worker"];
  const expected: Readonly<Record<string, readonly string[]>> = {
    monoceros_workerpool_restarts_total: ["pool", "worker_type"],
    monoceros_workerpool_sigkill_total: ["pool"],
    monoceros_workerpool_limits_events_total: ["pool", "limit_event"],
    monoceros_workerpool_failed_to_parse_log_json_total: [],
    monoceros_workerpool_worker_state: ["pool", "state"],
    monoceros_supervisor_sigterm_received: [],
    monoceros_supervisor_proxy_mode: [],
    monoceros_workerpool_process_cpu_seconds_total: process,
    monoceros_workerpool_process_open_fds: process,
    monoceros_workerpool_process_max_fds: process,
    monoceros_workerpool_process_resident_memory_bytes: process,
    monoceros_workerpool_process_virtual_memory_bytes: process,
    monoceros_workerpool_process_virtual_memory_max_bytes: process,
    monoceros_workerpool_process_start_time_seconds: process,
    process_cpu_seconds_total: [],
    process_open_fds: [],
    process_max_fds: [],
    process_resident_memory_bytes: [],
    process_virtual_memory_bytes: [],
    process_virtual_memory_max_bytes: [],
    process_start_time_seconds: [],
    monoceros_build_info: ["version", "revision", "runtime"],
  };
  const originals = CATALOG.filter(({ isOriginal }) => isOriginal === true);
  assert.deepEqual(Object.fromEntries(originals.map(({ name, labels }) => [name, labels])), expected);
});
