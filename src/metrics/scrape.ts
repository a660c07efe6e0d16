/**
 * The input of one scrape of /metrics: plain numbers supplied by the rooms that know them. Declared by its reader;
 * the numbers are counted elsewhere.
 */

import type { OperationKind } from "../core/event.ts";
import type { Balance } from "../core/policy/balance.ts";
import type { AttemptResult, ProbePurpose } from "../core/policy/probe.ts";
import type { ControllerView } from "../core/view.ts";
import type { Metric } from "./exposition.ts";

/** Kernel statistics of one process. */
export interface ProcessReading {
  /** User and system time. */
  readonly cpuSeconds: number;
  /** Undefined if the kernel hides it from the controller, like the two limits. */
  readonly openFds: number | undefined;
  /** Soft limit; Infinity if unlimited. */
  readonly maxFds: number | undefined;
  readonly residentBytes: number;
  readonly virtualBytes: number;
  /** Soft limit; Infinity if unlimited. */
  readonly virtualMaxBytes: number | undefined;
  /** Seconds since 1970. */
  readonly startTimeSeconds: number;
}

/** Resource usage of the process tree of one worker. */
export interface TreeReading {
  /** User and system time since the worker was spawned, including exited processes. */
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  /** Live processes. */
  readonly processCount: number;
}

/** What the workers of a pool wrote to one stream since the controller started, including earlier incarnations. */
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

/** One output of the controller. If stdout and stderr are one file, there is only one entry. */
export interface SinkTotals {
  readonly stream: "stdout" | "stderr";
  readonly bytesWritten: number;
  /** Time for which workers were blocked because the reader was slow. */
  readonly blockedSeconds: number;
  /** Bytes discarded because the reader closed the output. */
  readonly discardedBytes: number;
}

/** A distribution as Envoy reports it: the `count` of each bucket includes all lower buckets. */
export interface CumulativeHistogram {
  readonly buckets: readonly { readonly upperBound: number; readonly count: number }[];
  readonly sum: number;
  readonly count: number;
}

/** One worker as seen by its proxy; totals belong to the slot and never decrease. */
export interface ProxiedWorkerTotals {
  readonly requestsTotal: number;
  readonly failedTotal: number;
  readonly inFlight: number;
  /** Whether the proxy's own health check removed the worker from load balancing. */
  readonly failedActiveCheck: boolean;
}

/** What the proxy of one pool counted; totals never decrease, even if the proxy restarts. */
export interface ProxyTotals {
  /** By slot. */
  readonly workers: ReadonlyMap<number, ProxiedWorkerTotals>;
  readonly downstreamRequestsTotal: number;
  readonly downstreamRequestsActive: number;
  readonly downstreamConnectionsActive: number;
  readonly downstream5xxTotal: number;
  readonly queueOverflowTotal: number;
  readonly queued: number;
  readonly retriesTotal: number;
  readonly updatesAppliedTotal: number;
  readonly updatesRefusedTotal: number;
  /** Undefined before the first request. */
  readonly requestTimeMs: CumulativeHistogram | undefined;
}

/** Probe attempts of one pool with one result. */
export interface ProbeCount {
  readonly pool: string;
  readonly purpose: ProbePurpose;
  readonly result: AttemptResult;
  readonly count: number;
}

/** Operations on one pool with one result. */
export interface OperationCount {
  readonly pool: string;
  readonly what: OperationKind;
  readonly result: "finished" | "failed";
  readonly count: number;
}

/** Results of scraping a pool's workers, and what was dropped from their metrics. */
export interface WorkerMetricsTotals {
  readonly pool: string;
  /** Scrapes of workers, by result. */
  readonly answers: Readonly<Record<"success" | "failure" | "timeout" | "foreign", number>>;
  /** Dropped samples, counted again on each scrape. */
  readonly dropped: Readonly<Record<"malformed" | "limit" | "unsupported" | "conflict", number>>;
  /** Number of lines of the pool at /metrics/workers. */
  readonly lines: number;
}

/** The complete input of one scrape. */
export interface Scrape {
  readonly view: ControllerView;
  /** By process id; processes without an entry have no process metrics. */
  readonly readings: ReadonlyMap<number, ProcessReading>;
  /** By process id of the leader. */
  readonly trees: ReadonlyMap<number, TreeReading>;
  /** One entry for each pool and stream. */
  readonly logs: readonly LogTotals[];
  /** One entry for each output. */
  readonly sinks: readonly SinkTotals[];
  readonly orphansReaped: number;
  /** Undefined if the kernel does not count them. */
  readonly oomKills: number | undefined;
  /** The controller's own process. */
  readonly ownReading: ProcessReading | undefined;
  readonly build: { readonly version: string; readonly revision: string; readonly runtime: string };
  /** By pool name; only pools that have a proxy. */
  readonly proxies: ReadonlyMap<string, ProxyTotals>;
  /** By pool name; only pools of workers. */
  readonly balances: ReadonlyMap<string, Balance>;
  readonly probes: readonly ProbeCount[];
  readonly operations: readonly OperationCount[];
  /** Pools with `metrics` configured. */
  readonly workerMetrics: readonly WorkerMetricsTotals[];
}

/** A metric of the catalog. */
export type CatalogMetric = Metric<Scrape> & {
  /** Whether the predecessor has the metric, under the same name and with the same labels. */
  readonly origin: "original" | "new";
};
