/**
 * Every metric of the controller, once, as data: name, type, meaning, labels and how its values follow from a scrape.
 *
 * Nothing is counted here: counters are totals that others keep, so a restart of a worker never takes one back. Series
 * are bounded: labels are pools, slots, phases, exit codes and the like, never a process id or an incarnation. The
 * workers' own application metrics are not here.
 */
import type { LimitKind } from "../core/event.ts";
import { DURATION_BUCKETS_SECONDS, type Histogram } from "../core/tally.ts";
import { type ControllerPhase, type ControllerView, PHASES, type Phase, type PoolView } from "../core/view.ts";
import type { HistogramSample, Metric, Sample } from "./exposition.ts";

/** What the kernel tells about one process. */
export interface ProcessReading {
  /** User and system time. */
  readonly cpuSeconds: number;
  /** Undefined where it is hidden from the controller, like the two limits. */
  readonly openFds: number | undefined;
  /** Soft limit; Infinity where there is none. */
  readonly maxFds: number | undefined;
  readonly residentBytes: number;
  readonly virtualBytes: number;
  /** Soft limit; Infinity where there is none. */
  readonly virtualMaxBytes: number | undefined;
  /** Seconds since 1970. */
  readonly startTimeSeconds: number;
}

/** What the workers of a pool wrote to one stream since the controller started, dead incarnations included. */
export interface LogTotals {
  readonly pool: string;
  readonly stream: "stdout" | "stderr";
  /** Bytes read from the workers. */
  readonly bytes: number;
  /** Lines that are JSON objects. */
  readonly jsonLines: number;
  /** All other lines. */
  readonly textLines: number;
  /** Records that are parts of an overlong line. */
  readonly parts: number;
}

/** One output of the controller. Where stdout and stderr are one file there is one of them. */
export interface SinkTotals {
  readonly stream: "stdout" | "stderr";
  readonly bytesWritten: number;
  /** Time in which workers had to wait because the reader was slow. */
  readonly blockedSeconds: number;
  /** Thrown away because the reader is gone for good. */
  readonly discardedBytes: number;
}

/** All that one scrape is computed from. */
export interface Scrape {
  readonly view: ControllerView;
  /** By process id; a process that is not there has no process metrics. */
  readonly readings: ReadonlyMap<number, ProcessReading>;
  /** One entry for each pool and stream. */
  readonly logs: readonly LogTotals[];
  /** One entry for each output. */
  readonly sinks: readonly SinkTotals[];
  readonly orphansReaped: number;
  readonly build: { readonly version: string; readonly revision: string; readonly runtime: string };
  /** Whether any pool has a proxy. */
  readonly proxyMode: boolean;
}

/** A metric of the catalog. */
export type CatalogMetric = Metric<Scrape> & {
  /** Whether the predecessor has it, under the same name and with the same labels. */
  readonly origin: "original" | "new";
};

/** The predecessor's names of limits, as far as it had any. */
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

/** The predecessor's state of a worker in each phase. */
const STATE_BY_PHASE: Readonly<Record<Phase, (typeof WORKER_STATES)[number]>> = {
  starting: "prepared",
  backoff: "prepared",
  ready: "running",
  unready: "running",
  draining: "running",
  stopping: "running",
  down: "terminated",
};

/** What the kernel says where there is no limit (RLIM_INFINITY, getrlimit(2)); the predecessor shows it so. */
const NO_LIMIT = 2 ** 64 - 1;

/** All metrics, in the order in which they are printed. */
export const CATALOG: readonly CatalogMetric[] = [
  {
    origin: "original",
    name: "monoceros_build_info",
    type: "gauge",
    help: "Always 1; the labels tell which controller this is.",
    labels: ["version", "revision", "runtime"],
    samples: ({ build }) => [{ labels: [build.version, build.revision, build.runtime], value: 1 }],
  },
  {
    origin: "new",
    name: "monoceros_controller_phase",
    type: "gauge",
    help: "1 for the phase that the controller is in (booting, running, leaving, draining, stopping, stopped), 0 for the others.",
    labels: ["phase"],
    samples: ({ view }) =>
      Object.keys(CONTROLLER_PHASES).map((phase) => ({ labels: [phase], value: flag(phase === view.phase) })),
  },
  {
    origin: "new",
    name: "monoceros_controller_shutdown_requests_total",
    type: "counter",
    help: "Requests to shut down: TERM, INT, the API, a pool that gave up.",
    labels: [],
    samples: ({ view }) => single(view.shutdownRequests),
  },
  {
    origin: "new",
    name: "monoceros_controller_orphans_reaped_total",
    type: "counter",
    help: "Processes that nobody waited for and that the controller has reaped.",
    labels: [],
    samples: ({ orphansReaped }) => single(orphansReaped),
  },
  {
    origin: "original",
    name: "monoceros_supervisor_sigterm_received",
    type: "gauge",
    help: "1 once the controller has been asked to shut down.",
    labels: [],
    samples: ({ view }) => single(flag(view.shutdownRequests > 0)),
  },
  {
    origin: "original",
    name: "monoceros_supervisor_proxy_mode",
    type: "gauge",
    help: "1 where a pool has a proxy in front of its workers.",
    labels: [],
    samples: ({ proxyMode }) => single(flag(proxyMode)),
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
    samples: perPool((pool) => countBy(pool, PHASES, (phase) => phase)),
  },
  {
    origin: "original",
    name: "monoceros_workerpool_worker_state",
    type: "gauge",
    help: "Workers in a state: prepared (starting or waiting to restart), running (has a process), terminated (down).",
    labels: ["pool", "state"],
    samples: perPool((pool) => countBy(pool, WORKER_STATES, (phase) => STATE_BY_PHASE[phase])),
  },
  poolCounter("spawns", "Processes started, first starts and recycles included.", (pool) => pool.tally.spawns),
  poolCounter(
    "spawn_failures",
    "Processes that could not be started (executable, limits, memory).",
    (pool) => pool.tally.spawnFailures,
  ),
  {
    origin: "original",
    name: "monoceros_workerpool_restarts_total",
    type: "counter",
    help: "Restarts after an unplanned exit; planned recycles are not counted. worker_type is worker.",
    labels: ["pool", "worker_type"],
    samples: perPool((pool) => [{ labels: [pool.name, "worker"], value: pool.tally.restarts }]),
  },
  {
    origin: "original",
    name: "monoceros_workerpool_sigkill_total",
    type: "counter",
    help: "Stops that did not end within signal_timeout and were ended with SIGKILL.",
    labels: ["pool"],
    samples: perPool((pool) => [{ labels: [pool.name], value: pool.tally.sigkills }]),
  },
  {
    origin: "original",
    name: "monoceros_workerpool_limits_events_total",
    type: "counter",
    help: "Limits reached by workers; limit_event is time (lifespan), memory, memory_hard or requests.",
    labels: ["pool", "limit_event"],
    samples: perPool((pool) =>
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
    help: "Exits of worker processes; reason is planned or unplanned, status the exit code or the name of the signal.",
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
    help: "Replacements of a worker by a successor; result is finished, or aborted where the successor failed.",
    labels: ["pool", "result"],
    samples: perPool(({ name, tally }) => [
      { labels: [name, "finished"], value: tally.rollouts.finished },
      { labels: [name, "aborted"], value: tally.rollouts.aborted },
    ]),
  },
  poolDurations("time_to_ready_seconds", "Time from spawn to ready.", (pool) => pool.tally.timeToReady),
  poolDurations(
    "stop_duration_seconds",
    "Time from the stop signal until the last process of the worker was gone.",
    (pool) => pool.tally.stopDuration,
  ),
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
    help: "Lines that the workers wrote; format is json (an object) or text (anything else).",
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
    "Bytes thrown away because the reader of the output is gone for good.",
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
    samples: perPool((pool): HistogramSample[] => {
      const { counts, sumSeconds } = histogram(pool);
      return [{ labels: [pool.name], counts, sum: sumSeconds }];
    }),
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
    labels: ["pool", "worker"],
    samples: ({ view, readings }) => {
      const samples: Sample[] = [];
      for (const pool of view.pools) {
        for (const worker of pool.workers) {
          const reading = worker.pid === undefined ? undefined : readings.get(worker.pid);
          const known = reading === undefined ? undefined : value(reading);
          if (known !== undefined) samples.push({ labels: [pool.name, worker.id], value: known });
        }
      }
      return samples;
    },
  };
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

/** How many workers of `pool` are in each group; groups without workers count 0. */
function countBy(pool: PoolView, groups: readonly string[], group: (phase: Phase) => string): Sample[] {
  const counts = new Map<string, number>(groups.map((each) => [each, 0]));
  for (const { phase } of pool.workers) counts.set(group(phase), (counts.get(group(phase)) ?? 0) + 1);
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
