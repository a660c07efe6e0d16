/**
 * What one scrape of /metrics is computed from: plain numbers that the rooms which know them hand over. Declared here, by
 * their reader; whatever counts them is elsewhere.
 */

import type { OperationKind } from "../core/event.ts";
import type { Balance } from "../core/policy/balance.ts";
import type { AttemptResult, ProbePurpose } from "../core/policy/probe.ts";
import type { ControllerView } from "../core/view.ts";

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

/** What the process tree of one worker uses. */
export interface TreeReading {
  /** User and system time since the worker was spawned, ended processes included. */
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  /** Live processes. */
  readonly processCount: number;
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

/** A distribution as Envoy tells it: `count` of each bucket includes those below. */
export interface CumulativeHistogram {
  readonly buckets: readonly { readonly upperBound: number; readonly count: number }[];
  readonly sum: number;
  readonly count: number;
}

/** One worker as its proxy sees it; totals are those of its slot and never go back. */
export interface ProxiedWorkerTotals {
  readonly requestsTotal: number;
  readonly failedTotal: number;
  readonly inFlight: number;
  /** Whether the proxy's own health check takes it out. */
  readonly failedActiveCheck: boolean;
}

/** What the proxy of one pool counted; totals never go back, also when the proxy is restarted. */
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

/** Attempts of probes of one pool with one result. */
export interface ProbeCount {
  readonly pool: string;
  readonly purpose: ProbePurpose;
  readonly result: AttemptResult;
  readonly count: number;
}

/** Operations on one pool that ended one way. */
export interface OperationCount {
  readonly pool: string;
  readonly what: OperationKind;
  readonly result: "finished" | "failed";
  readonly count: number;
}

/** How the scrapes of a pool's workers went, and what was left out of their metrics. */
export interface WorkerMetricsTotals {
  readonly pool: string;
  /** Scrapes of workers by their result. */
  readonly answers: Readonly<Record<"success" | "failure" | "timeout" | "foreign", number>>;
  /** Samples, each time anew that they are shown. */
  readonly dropped: Readonly<Record<"malformed" | "limit" | "unsupported" | "conflict", number>>;
  /** Lines of the pool at /metrics/workers. */
  readonly lines: number;
}

/** All that one scrape is computed from. */
export interface Scrape {
  readonly view: ControllerView;
  /** By process id; a process that is not there has no process metrics. */
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
  /** By name of the pool; those of the pools that have a proxy. */
  readonly proxies: ReadonlyMap<string, ProxyTotals>;
  /** By name of the pool; pools of workers only. */
  readonly balances: ReadonlyMap<string, Balance>;
  readonly probes: readonly ProbeCount[];
  readonly operations: readonly OperationCount[];
  /** Pools with `metrics`. */
  readonly workerMetrics: readonly WorkerMetricsTotals[];
}
