/**
 * Every metric of the controller, once, as data: name, type, meaning, labels and how its values follow from a scrape.
 *
 * Counters are totals kept elsewhere, not here, so a worker restart never resets them. The number of series is
 * bounded: labels are pools, slots, phases, exit codes and the like, never a process id or an incarnation. The proxy
 * of a pool is a pool of its own (`web-proxy`, worker `web-proxy-0`), unless another label distinguishes it. The
 * workers' own application metrics are not part of the catalog.
 */

import type { LogTotals } from "../base/readings.ts";
import type { LimitKind } from "../core/event.ts";
import type { Balance } from "../core/policy/balance.ts";
import { PROBE_PURPOSES } from "../core/policy/probe.ts";
import { DURATION_BUCKETS_SECONDS, type Histogram } from "../core/tally.ts";
import { CONTROLLER_PHASES, PHASES, type PoolView, type WorkerView } from "../core/view.ts";
import type { HistogramSample, Sample } from "./exposition.ts";
import { LOG_FILE_METRICS } from "./logFileMetrics.ts";
import { OWN_METRICS, WORKER_PROCESS_METRICS } from "./processMetrics.ts";
import { PROXY_METRICS } from "./proxyMetrics.ts";
import type { CatalogMetric, Scrape, SinkTotals } from "./scrape.ts";

/** The predecessor's names for limits; new limits keep their own names. */
const LIMIT_EVENTS: Readonly<Record<LimitKind, string>> = {
  lifespan: "time",
  memory: "memory",
  memory_hard: "memory_hard",
  requests: "requests",
};

const WORKER_STATES = ["prepared", "running", "terminated"] as const;

/** The worker state as the predecessor defined it: it reflects only the process, not whether it serves. */
function stateOf({ phase, pid }: WorkerView): (typeof WORKER_STATES)[number] {
  if (pid !== undefined) return "running";
  return phase === "down" || phase === "completed" ? "terminated" : "prepared";
}

/** All metrics, in the order in which they are printed. */
export const CATALOG: readonly CatalogMetric[] = [
  {
    isOriginal: true,
    name: "monoceros_build_info",
    type: "gauge",
    help: "Always 1; the labels identify the controller.",
    labels: ["version", "revision", "runtime"],
    samples: ({ build }) => [{ labels: [build.version, build.revision, build.runtime], value: 1 }],
  },
  {
    name: "monoceros_controller_phase",
    type: "gauge",
    help: "1 for the current phase of the controller (booting, running, leaving, draining, stopping, stopped), 0 for the others.",
    labels: ["phase"],
    samples: ({ view }) => CONTROLLER_PHASES.map((phase) => ({ labels: [phase], value: flag(phase === view.phase) })),
  },
  {
    name: "monoceros_controller_shutdown_requests_total",
    type: "counter",
    help: "Shutdown requests: TERM, INT, the API, a pool that reached its restart limit.",
    labels: [],
    samples: ({ view }) => single(view.shutdownRequests),
  },
  {
    name: "monoceros_controller_orphans_reaped_total",
    type: "counter",
    help: "Orphaned processes that the controller reaped.",
    labels: [],
    samples: ({ orphansReaped }) => single(orphansReaped),
  },
  {
    name: "monoceros_controller_oom_kills_total",
    type: "counter",
    help: "Processes of the controller's control group that the kernel killed because memory ran out, since the start.",
    labels: [],
    samples: ({ oomKills }) => (oomKills === undefined ? [] : single(oomKills)),
  },
  ...OWN_METRICS,
  {
    isOriginal: true,
    name: "monoceros_supervisor_sigterm_received",
    type: "gauge",
    help: "1 once a shutdown was requested.",
    labels: [],
    samples: ({ view }) => single(flag(view.shutdownRequests > 0)),
  },
  {
    isOriginal: true,
    name: "monoceros_supervisor_proxy_mode",
    type: "gauge",
    help: "1 if the pool has a proxy.",
    labels: [],
    samples: ({ view }) => single(flag(view.pools.some(({ role }) => role === "proxy"))),
  },
  poolMetric("gauge", "replicas", "Desired number of workers.", (pool) => pool.replicas),
  poolMetric(
    "gauge",
    "ready_workers",
    "Workers in phase ready; during a rollout there may be more than replicas.",
    (pool) => pool.readyCount,
  ),
  poolMetric("gauge", "healthy", "1 if enough workers are ready (desired_healthy_percentage), otherwise 0.", (pool) =>
    flag(pool.healthy),
  ),
  {
    name: "monoceros_pool_workers",
    type: "gauge",
    help: `Workers in each phase (${PHASES.join(", ")}).`,
    labels: ["pool", "phase"],
    samples: perPool((pool) => countBy(pool, PHASES, ({ phase }) => phase)),
  },
  {
    isOriginal: true,
    name: "monoceros_workerpool_worker_state",
    type: "gauge",
    help: "Workers in a state: prepared (waits to start or restart), running (has a process, ready or not), terminated (down).",
    labels: ["pool", "state"],
    samples: perPool((pool) => countBy(pool, WORKER_STATES, stateOf)),
  },
  poolMetric(
    "counter",
    "spawns_total",
    "Processes started, first starts and replacements included.",
    (pool) => pool.tally.spawns,
  ),
  poolMetric(
    "counter",
    "spawn_failures_total",
    "Processes that could not be started (executable, limits, memory).",
    (pool) => pool.tally.spawnFailures,
  ),
  {
    isOriginal: true,
    name: "monoceros_workerpool_restarts_total",
    type: "counter",
    help: "Restarts after an unplanned exit; planned replacements are not counted. worker_type is worker, or proxy for the Envoy in front of the pool.",
    labels: ["pool", "worker_type"],
    samples: perPool(({ name, fronts, tally }) => [
      { labels: fronts === undefined ? [name, "worker"] : [fronts, "proxy"], value: tally.restarts },
    ]),
  },
  {
    isOriginal: true,
    name: "monoceros_workerpool_sigkill_total",
    type: "counter",
    help: "Stops that ended with SIGKILL: after signal_timeout, at limits.memory_hard, in a forced shutdown, or of an Envoy that hangs.",
    labels: ["pool"],
    samples: perPool((pool) => [{ labels: [pool.name], value: pool.tally.sigkills }]),
  },
  {
    isOriginal: true,
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
  poolMetric(
    "counter",
    "given_up_total",
    "Workers marked failed because they reached the restart limit.",
    (pool) => pool.tally.gaveUp,
  ),
  {
    name: "monoceros_pool_rollouts_total",
    type: "counter",
    help: "Replacements of a worker by a successor; result is finished, or aborted if the successor failed.",
    labels: ["pool", "result"],
    samples: perWorkerPool(({ name, tally }) => [
      { labels: [name, "finished"], value: tally.rollouts.finished },
      { labels: [name, "aborted"], value: tally.rollouts.aborted },
    ]),
  },
  poolMetric(
    "counter",
    "promotions_total",
    "Standby workers that were promoted to serve.",
    ({ tally }) => tally.promotions,
    perWorkerPool,
  ),
  poolDurations("time_to_ready_seconds", "Time from spawn to ready.", (pool) => pool.tally.timeToReady),
  poolDurations(
    "stop_duration_seconds",
    "Time from the stop signal until the last process of the worker exited.",
    (pool) => pool.tally.stopDuration,
  ),
  poolDurations(
    "drain_duration_seconds",
    "Time that workers took to finish their requests before a planned stop.",
    ({ tally }) => tally.drainDuration,
    perWorkerPool,
  ),
  poolMetric(
    "counter",
    "requests_cut_total",
    "Requests in flight at the end of drain_timeout, which the stop cut off.",
    ({ tally }) => tally.requestsCut,
    perWorkerPool,
  ),
  {
    name: "monoceros_pool_operations_total",
    type: "counter",
    help: "Completed operations; operation is restart, scale, stop, start or reload, result finished or failed.",
    labels: ["pool", "operation", "result"],
    samples: ({ operations }) =>
      operations.map(({ pool, what, result, count }) => ({ labels: [pool, what, result], value: count })),
  },
  poolMetric("gauge", "operations_running", "Operations in progress or queued.", (pool) => pool.operations.length),
  {
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
    name: "monoceros_worker_metrics_dropped_samples_total",
    type: "counter",
    help: "Samples of workers left out of /metrics/workers; reason is malformed, limit (too many), unsupported (a type that cannot be summed) or conflict (the type differs from that of other workers).",
    labels: ["pool", "reason"],
    samples: ({ workerMetrics }) =>
      workerMetrics.flatMap(({ pool, dropped }) =>
        Object.entries(dropped).map(([reason, value]) => ({ labels: [pool, reason], value })),
      ),
  },
  {
    name: "monoceros_worker_metrics_series",
    type: "gauge",
    help: "Series of the workers of the pool at /metrics/workers.",
    labels: ["pool"],
    samples: ({ workerMetrics }) => workerMetrics.map(({ pool, lines }) => ({ labels: [pool], value: lines })),
  },
  ...WORKER_PROCESS_METRICS,
  {
    isOriginal: true,
    name: "monoceros_workerpool_failed_to_parse_log_json_total",
    type: "counter",
    help: "Always 0, kept for dashboards: every JSON object receives a worker_id; for other lines see monoceros_log_lines_total.",
    labels: [],
    samples: () => single(0),
  },
  logCounter("bytes", "Bytes that the workers wrote.", (totals) => totals.bytes),
  {
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
    "Time for which workers were blocked because the reader of the output was slow.",
    (sink) => sink.blockedSeconds,
  ),
  sinkCounter(
    "discarded_bytes",
    "Bytes dropped because the reader of the output closed it.",
    (sink) => sink.discardedBytes,
  ),
  ...LOG_FILE_METRICS,
];

function poolMetric(
  type: "counter" | "gauge",
  what: string,
  help: string,
  value: (pool: PoolView) => number,
  per: typeof perPool = perPool,
): CatalogMetric {
  const samples = per((pool) => [{ labels: [pool.name], value: value(pool) }]);
  return { name: `monoceros_pool_${what}`, type, help, labels: ["pool"], samples };
}

function poolDurations(
  what: string,
  help: string,
  histogram: (pool: PoolView) => Histogram,
  per: typeof perPool = perPool,
): CatalogMetric {
  const samples = per((pool): HistogramSample[] => {
    const { counts, sumSeconds } = histogram(pool);
    return [{ labels: [pool.name], counts, sum: sumSeconds }];
  });
  const bounds = DURATION_BUCKETS_SECONDS;
  return { name: `monoceros_pool_${what}`, type: "histogram", help, labels: ["pool"], bounds, samples };
}

function spreadMetric(what: string, of: string, value: (balance: Balance) => number | undefined): CatalogMetric {
  return {
    name: `monoceros_pool_${what}_spread_ratio`,
    type: "gauge",
    help: `Spread of ${of} over the workers in about the last minute: maximum divided by mean, 1 is even. Absent if there was too little work to compare.`,
    labels: ["pool"],
    samples: ({ balances }) =>
      [...balances].flatMap(([pool, balance]) => {
        const ratio = value(balance);
        return ratio === undefined ? [] : [{ labels: [pool], value: ratio }];
      }),
  };
}

function logCounter(what: string, help: string, value: (totals: LogTotals) => number): CatalogMetric {
  return {
    name: `monoceros_log_${what}_total`,
    type: "counter",
    help,
    labels: ["pool", "stream"],
    samples: ({ logs }) => logs.map((totals) => ({ labels: [totals.pool, totals.stream], value: value(totals) })),
  };
}

function sinkCounter(what: string, help: string, value: (totals: SinkTotals) => number): CatalogMetric {
  return {
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
  return groups.map((each) => {
    const value = pool.workers.filter((worker) => group(worker) === each).length;
    return { labels: [pool.name, each], value };
  });
}

function single(value: number): Sample[] {
  return [{ labels: [], value }];
}

function flag(isSet: boolean): number {
  return isSet ? 1 : 0;
}
