/**
 * Every metric of the controller, once, as data: name, type, meaning, labels and how its values follow from a scrape.
 *
 * Counters are totals kept elsewhere, not here, so a worker restart never resets them. The number of series is
 * bounded: labels are pools, slots, phases, exit codes and the like, never a process id or an incarnation. The proxy
 * of a pool is a pool of its own (`web-proxy`, worker `web-proxy-0`), unless another label distinguishes it. The
 * workers' own application metrics are not part of the catalog.
 */

import type { LimitKind } from "../core/event.ts";
import type { Balance } from "../core/policy/balance.ts";
import { PROBE_PURPOSES } from "../core/policy/probe.ts";
import { DURATION_BUCKETS_SECONDS, type Histogram } from "../core/tally.ts";
import { type ControllerPhase, type ControllerView, PHASES, type PoolView, type WorkerView } from "../core/view.ts";
import type { HistogramSample, Metric, Sample } from "./exposition.ts";
import { OWN_METRICS } from "./ownMetrics.ts";
import { PROXY_METRICS } from "./proxyMetrics.ts";
import type { LogTotals, ProcessReading, Scrape, SinkTotals, TreeReading } from "./scrape.ts";

/** A metric of the catalog. */
export type CatalogMetric = Metric<Scrape> & {
  /** Whether the predecessor has the metric, under the same name and with the same labels. */
  readonly origin: "original" | "new";
};

/** The predecessor's names for limits; new limits keep their own names. */
const LIMIT_EVENTS: Readonly<Record<LimitKind, string>> = {
  lifespan: "time",
  memory: "memory",
  memory_hard: "memory_hard",
  requests: "requests",
};

const CONTROLLER_PHASES: Readonly<Record<ControllerPhase, true>> = {
  booting: true,
  running: true,
  leaving: true,
  draining: true,
  stopping: true,
  stopped: true,
};

const WORKER_STATES = ["prepared", "running", "terminated"] as const;

/** The worker state as the predecessor defined it: it reflects only the process, not whether it serves. */
function stateOf({ phase, pid }: WorkerView): (typeof WORKER_STATES)[number] {
  if (pid !== undefined) return "running";
  return phase === "down" ? "terminated" : "prepared";
}

/** The kernel's value for no limit (RLIM_INFINITY, getrlimit(2)); the predecessor exposes the same value. */
const NO_LIMIT = 2 ** 64 - 1;

const WORKER_LABEL_NAMES = ["pool", "worker"] as const;

/** All metrics, in the order in which they are printed. */
export const CATALOG: readonly CatalogMetric[] = [
  {
    origin: "original",
    name: "monoceros_build_info",
    type: "gauge",
    help: "Always 1; the labels identify the controller.",
    labels: ["version", "revision", "runtime"],
    samples: ({ build }) => [{ labels: [build.version, build.revision, build.runtime], value: 1 }],
  },
  {
    origin: "new",
    name: "monoceros_controller_phase",
    type: "gauge",
    help: "1 for the current phase of the controller (booting, running, leaving, draining, stopping, stopped), 0 for the others.",
    labels: ["phase"],
    samples: ({ view }) =>
      Object.keys(CONTROLLER_PHASES).map((phase) => ({ labels: [phase], value: flag(phase === view.phase) })),
  },
  {
    origin: "new",
    name: "monoceros_controller_shutdown_requests_total",
    type: "counter",
    help: "Shutdown requests: TERM, INT, the API, a pool that reached its restart limit.",
    labels: [],
    samples: ({ view }) => single(view.shutdownRequests),
  },
  {
    origin: "new",
    name: "monoceros_controller_orphans_reaped_total",
    type: "counter",
    help: "Orphaned processes that the controller reaped.",
    labels: [],
    samples: ({ orphansReaped }) => single(orphansReaped),
  },
  {
    origin: "new",
    name: "monoceros_controller_oom_kills_total",
    type: "counter",
    help: "Processes of the controller's control group that the kernel killed because memory ran out, since the start.",
    labels: [],
    samples: ({ oomKills }) => (oomKills === undefined ? [] : single(oomKills)),
  },
  ...OWN_METRICS,
  {
    origin: "original",
    name: "monoceros_supervisor_sigterm_received",
    type: "gauge",
    help: "1 once a shutdown was requested.",
    labels: [],
    samples: ({ view }) => single(flag(view.shutdownRequests > 0)),
  },
  {
    origin: "original",
    name: "monoceros_supervisor_proxy_mode",
    type: "gauge",
    help: "1 if the pool has a proxy.",
    labels: [],
    samples: ({ view }) => single(flag(view.pools.some(({ role }) => role === "proxy"))),
  },
  poolGauge("replicas", "Workers that the pool shall have.", (pool) => pool.replicas),
  poolGauge(
    "ready_workers",
    "Workers in phase ready; during a rollout there may be more than replicas.",
    (pool) => pool.readyCount,
  ),
  poolGauge("healthy", "1 where enough workers are ready (desired_healthy_percentage), 0 where not.", (pool) =>
    flag(pool.healthy),
  ),
  {
    origin: "new",
    name: "monoceros_pool_workers",
    type: "gauge",
    help: "Workers in each phase (down, starting, ready, unready, draining, stopping, backoff).",
    labels: ["pool", "phase"],
    samples: perPool((pool) => countBy(pool, PHASES, ({ phase }) => phase)),
  },
  {
    origin: "original",
    name: "monoceros_workerpool_worker_state",
    type: "gauge",
    help: "Workers in a state: prepared (waits to start or restart), running (has a process, ready or not), terminated (down).",
    labels: ["pool", "state"],
    samples: perPool((pool) => countBy(pool, WORKER_STATES, stateOf)),
  },
  poolCounter("spawns", "Processes started, first starts and replacements included.", (pool) => pool.tally.spawns),
  poolCounter(
    "spawn_failures",
    "Processes that could not be started (executable, limits, memory).",
    (pool) => pool.tally.spawnFailures,
  ),
  {
    origin: "original",
    name: "monoceros_workerpool_restarts_total",
    type: "counter",
    help: "Restarts after an unplanned exit; planned replacements are not counted. worker_type is worker, or proxy for the Envoy in front of the pool.",
    labels: ["pool", "worker_type"],
    samples: perPool(({ name, fronts, tally }) => [
      { labels: fronts === undefined ? [name, "worker"] : [fronts, "proxy"], value: tally.restarts },
    ]),
  },
  {
    origin: "original",
    name: "monoceros_workerpool_sigkill_total",
    type: "counter",
    help: "Stops that exceeded signal_timeout and ended with SIGKILL.",
    labels: ["pool"],
    samples: perPool((pool) => [{ labels: [pool.name], value: pool.tally.sigkills }]),
  },
  {
    origin: "original",
    name: "monoceros_workerpool_limits_events_total",
    type: "counter",
    help: "Limits reached by workers; limit_event is time (lifespan), memory, memory_hard or requests.",
    labels: ["pool", "limit_event"],
    samples: perWorkerPool((pool) =>
      (Object.keys(LIMIT_EVENTS) as LimitKind[]).map((limit) => ({
        labels: [pool.name, LIMIT_EVENTS[limit]],
        value: pool.tally.limitEvents[limit],
      })),
    ),
  },
  {
    origin: "new",
    name: "monoceros_pool_exits_total",
    type: "counter",
    help: "Exits of worker processes. reason: planned (the controller stopped it), expected (restart.expected_exit_codes, or signaled together with the controller), completed (restart.policy), unplanned. status: the exit code or the name of the signal.",
    labels: ["pool", "reason", "status"],
    samples: perPool((pool) =>
      Object.entries(pool.tally.exits).map(([key, value]) => {
        const slash = key.indexOf("/");
        return { labels: [pool.name, key.slice(0, slash), key.slice(slash + 1)], value };
      }),
    ),
  },
  poolCounter("given_up", "Workers that stay down because their restarts are used up.", (pool) => pool.tally.gaveUp),
  {
    origin: "new",
    name: "monoceros_pool_rollouts_total",
    type: "counter",
    help: "Replacements of a worker by a successor; result is finished, or aborted if the successor failed.",
    labels: ["pool", "result"],
    samples: perWorkerPool(({ name, tally }) => [
      { labels: [name, "finished"], value: tally.rollouts.finished },
      { labels: [name, "aborted"], value: tally.rollouts.aborted },
    ]),
  },
  poolDurations("time_to_ready_seconds", "Time from spawn to ready.", (pool) => pool.tally.timeToReady),
  poolDurations(
    "stop_duration_seconds",
    "Time from the stop signal until the last process of the worker exited.",
    (pool) => pool.tally.stopDuration,
  ),
  {
    origin: "new",
    name: "monoceros_pool_drain_duration_seconds",
    type: "histogram",
    help: "Time that workers took to finish their requests before a planned stop.",
    labels: ["pool"],
    bounds: DURATION_BUCKETS_SECONDS,
    samples: perWorkerPool(({ name, tally }) => [distribution(name, tally.drainDuration)]),
  },
  {
    origin: "new",
    name: "monoceros_pool_requests_cut_total",
    type: "counter",
    help: "Requests in flight at the end of drain_timeout, which the stop cut off.",
    labels: ["pool"],
    samples: perWorkerPool(({ name, tally }) => [{ labels: [name], value: tally.requestsCut }]),
  },
  {
    origin: "new",
    name: "monoceros_pool_operations_total",
    type: "counter",
    help: "Finished operations; operation is restart, scale, stop, start or reload, result finished or failed.",
    labels: ["pool", "operation", "result"],
    samples: ({ operations }) =>
      operations.map(({ pool, what, result, count }) => ({ labels: [pool, what, result], value: count })),
  },
  poolGauge("operations_running", "Operations that run or wait.", (pool) => pool.operations.length),
  {
    origin: "new",
    name: "monoceros_probe_attempts_total",
    type: "counter",
    help: `Attempts of probes; probe is ${PROBE_PURPOSES.join(", ")}, result success, refused if nothing listens, timeout, failure if the answer is bad, or error if the prober itself failed.`,
    labels: ["pool", "probe", "result"],
    samples: ({ probes }) =>
      probes.map(({ pool, purpose, result, count }) => ({ labels: [pool, purpose, result], value: count })),
  },
  spreadMetric("cpu", "CPU time", ({ cpuSpread }) => cpuSpread),
  spreadMetric("requests", "requests", ({ requestsSpread }) => requestsSpread),
  ...PROXY_METRICS,
  {
    origin: "new",
    name: "monoceros_worker_metrics_scrapes_total",
    type: "counter",
    help: "Scrapes of workers for their own metrics; result is success, failure, timeout (1 s), or foreign if another process listens at the address of the worker, which is then not scraped.",
    labels: ["pool", "result"],
    samples: ({ workerMetrics }) =>
      workerMetrics.flatMap(({ pool, answers }) =>
        Object.entries(answers).map(([result, value]) => ({ labels: [pool, result], value })),
      ),
  },
  {
    origin: "new",
    name: "monoceros_worker_metrics_dropped_samples_total",
    type: "counter",
    help: "Samples of workers that are not at /metrics/workers; reason is malformed, limit (too many), unsupported (a type without a sum) or conflict (another type than other workers have).",
    labels: ["pool", "reason"],
    samples: ({ workerMetrics }) =>
      workerMetrics.flatMap(({ pool, dropped }) =>
        Object.entries(dropped).map(([reason, value]) => ({ labels: [pool, reason], value })),
      ),
  },
  {
    origin: "new",
    name: "monoceros_worker_metrics_series",
    type: "gauge",
    help: "Series of the workers of the pool at /metrics/workers.",
    labels: ["pool"],
    samples: ({ workerMetrics }) => workerMetrics.map(({ pool, lines }) => ({ labels: [pool], value: lines })),
  },
  processMetric("cpu_seconds_total", "counter", "User and system CPU time of the process.", (it) => it.cpuSeconds),
  processMetric("open_fds", "gauge", "Open file descriptors of the process.", (it) => it.openFds),
  processMetric("max_fds", "gauge", "Soft limit of open file descriptors.", (it) => limit(it.maxFds)),
  processMetric("resident_memory_bytes", "gauge", "Resident memory of the process.", (it) => it.residentBytes),
  processMetric("virtual_memory_bytes", "gauge", "Virtual memory of the process.", (it) => it.virtualBytes),
  processMetric("virtual_memory_max_bytes", "gauge", "Soft limit of virtual memory; 2^64 - 1 is none.", (it) =>
    limit(it.virtualMaxBytes),
  ),
  processMetric(
    "start_time_seconds",
    "gauge",
    "Start of the process in seconds since 1970.",
    (it) => it.startTimeSeconds,
  ),
  treeMetric(
    "cpu_seconds_total",
    "counter",
    "User and system CPU time of all processes of the worker, those that have ended included. It starts from 0 with each new process of the slot.",
    (it) => it.cpuSeconds,
  ),
  treeMetric(
    "resident_memory_bytes",
    "gauge",
    "Resident memory of all processes of the worker; pages that they share count in each of them.",
    (it) => it.residentBytes,
  ),
  treeMetric(
    "processes",
    "gauge",
    "Live processes of the worker: its leader and all descendants.",
    (it) => it.processCount,
  ),
  {
    origin: "original",
    name: "monoceros_workerpool_failed_to_parse_log_json_total",
    type: "counter",
    help: "Always 0, kept for dashboards: every JSON object gets its worker_id; for other lines see monoceros_log_lines_total.",
    labels: [],
    samples: () => single(0),
  },
  logCounter("bytes", "Bytes that the workers wrote.", (totals) => totals.bytes),
  {
    origin: "new",
    name: "monoceros_log_lines_total",
    type: "counter",
    help: "Lines written by workers; format is json (an object) or text (anything else).",
    labels: ["pool", "stream", "format"],
    samples: ({ logs }) =>
      logs.flatMap(({ pool, stream, jsonLines, textLines }) => [
        { labels: [pool, stream, "json"], value: jsonLines },
        { labels: [pool, stream, "text"], value: textLines },
      ]),
  },
  logCounter("parts", "Records that are parts of a line longer than max_line.", (totals) => totals.parts),
  sinkCounter("written_bytes", "Bytes written to an output of the controller.", (sink) => sink.bytesWritten),
  sinkCounter(
    "blocked_seconds",
    "Time in which workers had to wait because the reader of the output was slow.",
    (sink) => sink.blockedSeconds,
  ),
  sinkCounter(
    "discarded_bytes",
    "Bytes dropped because the reader of the output closed it.",
    (sink) => sink.discardedBytes,
  ),
];

function poolGauge(what: string, help: string, value: (pool: PoolView) => number): CatalogMetric {
  const samples = perPool((pool) => [{ labels: [pool.name], value: value(pool) }]);
  return { origin: "new", name: `monoceros_pool_${what}`, type: "gauge", help, labels: ["pool"], samples };
}

function poolCounter(what: string, help: string, value: (pool: PoolView) => number): CatalogMetric {
  const samples = perPool((pool) => [{ labels: [pool.name], value: value(pool) }]);
  return { origin: "new", name: `monoceros_pool_${what}_total`, type: "counter", help, labels: ["pool"], samples };
}

function poolDurations(what: string, help: string, histogram: (pool: PoolView) => Histogram): CatalogMetric {
  return {
    origin: "new",
    name: `monoceros_pool_${what}`,
    type: "histogram",
    help,
    labels: ["pool"],
    bounds: DURATION_BUCKETS_SECONDS,
    samples: perPool((pool) => [distribution(pool.name, histogram(pool))]),
  };
}

function distribution(pool: string, { counts, sumSeconds }: Histogram): HistogramSample {
  return { labels: [pool], counts, sum: sumSeconds };
}

function spreadMetric(what: string, of: string, value: (balance: Balance) => number | undefined): CatalogMetric {
  return {
    origin: "new",
    name: `monoceros_pool_${what}_spread_ratio`,
    type: "gauge",
    help: `Spread of ${of} of the last minute or so over the workers: most over mean, 1 is even. Absent if there was too little work to compare.`,
    labels: ["pool"],
    samples: ({ balances }) =>
      Array.from(balances, ([pool, balance]) => ({ pool, ratio: value(balance) })).flatMap(({ pool, ratio }) =>
        ratio === undefined ? [] : [{ labels: [pool], value: ratio }],
      ),
  };
}

function processMetric(
  what: string,
  type: "counter" | "gauge",
  help: string,
  value: (reading: ProcessReading) => number | undefined,
): CatalogMetric {
  return {
    origin: "original",
    name: `monoceros_workerpool_process_${what}`,
    type,
    help,
    labels: WORKER_LABEL_NAMES,
    samples: ({ view, readings }) => perWorker(view, readings, value),
  };
}

function treeMetric(
  what: string,
  type: "counter" | "gauge",
  help: string,
  value: (reading: TreeReading) => number,
): CatalogMetric {
  return {
    origin: "new",
    name: `monoceros_worker_tree_${what}`,
    type,
    help,
    labels: WORKER_LABEL_NAMES,
    samples: ({ view, trees }) => perWorker(view, trees, value),
  };
}

/** The labels of each worker: one array for all metrics, so that the exposition formats them only once. */
const WORKER_LABELS = new WeakMap<WorkerView, readonly string[]>();

function labelsOf(pool: string, worker: WorkerView): readonly string[] {
  const known = WORKER_LABELS.get(worker);
  if (known?.[0] === pool) return known;
  const labels = [pool, worker.id];
  WORKER_LABELS.set(worker, labels);
  return labels;
}

/** One sample for each worker that has a process reading, if `value` is known. */
function perWorker<Reading>(
  { pools }: ControllerView,
  readings: ReadonlyMap<number, Reading>,
  value: (reading: Reading) => number | undefined,
): Sample[] {
  const samples: Sample[] = [];
  for (const pool of pools) {
    for (const worker of pool.workers) {
      const reading = worker.pid === undefined ? undefined : readings.get(worker.pid);
      const known = reading === undefined ? undefined : value(reading);
      if (known !== undefined) samples.push({ labels: labelsOf(pool.name, worker), value: known });
    }
  }
  return samples;
}

function logCounter(what: string, help: string, value: (totals: LogTotals) => number): CatalogMetric {
  return {
    origin: "new",
    name: `monoceros_log_${what}_total`,
    type: "counter",
    help,
    labels: ["pool", "stream"],
    samples: ({ logs }) => logs.map((totals) => ({ labels: [totals.pool, totals.stream], value: value(totals) })),
  };
}

function sinkCounter(what: string, help: string, value: (totals: SinkTotals) => number): CatalogMetric {
  return {
    origin: "new",
    name: `monoceros_log_${what}_total`,
    type: "counter",
    help,
    labels: ["stream"],
    samples: ({ sinks }) => sinks.map((totals) => ({ labels: [totals.stream], value: value(totals) })),
  };
}

function perPool<Each>(samples: (pool: PoolView) => readonly Each[]): (scrape: Scrape) => readonly Each[] {
  return ({ view }) => view.pools.flatMap(samples);
}

/** Limited to pools of workers, for samples that do not apply to a proxy. */
function perWorkerPool<Each>(samples: (pool: PoolView) => readonly Each[]): (scrape: Scrape) => readonly Each[] {
  return perPool((pool) => (pool.role === "workers" ? samples(pool) : []));
}

/** The number of workers of `pool` in each group; 0 for groups without workers. */
function countBy(pool: PoolView, groups: readonly string[], group: (worker: WorkerView) => string): Sample[] {
  const counts = new Map<string, number>(groups.map((each) => [each, 0]));
  for (const worker of pool.workers) counts.set(group(worker), (counts.get(group(worker)) ?? 0) + 1);
  return Array.from(counts, ([name, value]) => ({ labels: [pool.name, name], value }));
}

function single(value: number): Sample[] {
  return [{ labels: [], value }];
}

function flag(isSet: boolean): number {
  return isSet ? 1 : 0;
}

function limit(value: number | undefined): number | undefined {
  return value === Number.POSITIVE_INFINITY ? NO_LIMIT : value;
}
