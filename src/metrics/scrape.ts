/** The input of one scrape of /metrics: plain numbers, counted elsewhere. */
import type { LogFileTotals, LogTotals, ProcessReading, ProxyReadings, TreeUsage } from "../base/readings.ts";
import type { OperationKind } from "../core/event.ts";
import type { Balance } from "../core/policy/balance.ts";
import type { AttemptResult, ProbePurpose } from "../core/policy/probe.ts";
import type { ControllerView } from "../core/view.ts";
import type { Metric } from "./exposition.ts";

/** One output of the controller. If stdout and stderr are one file, there is only one entry. */
export interface SinkTotals {
  readonly stream: "stdout" | "stderr";
  readonly bytesWritten: number;
  /** Time for which workers were blocked because the reader was slow. */
  readonly blockedSeconds: number;
  /** Bytes discarded because the reader closed the output. */
  readonly discardedBytes: number;
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
  readonly trees: ReadonlyMap<number, TreeUsage>;
  /** One entry for each pool and stream. */
  readonly logs: readonly LogTotals[];
  /** One entry for each pool that has or had a log file. */
  readonly logFiles: readonly LogFileTotals[];
  /** One entry for each output. */
  readonly sinks: readonly SinkTotals[];
  readonly orphansReaped: number;
  /** Undefined if the kernel does not count them. */
  readonly oomKills: number | undefined;
  /** The controller's own process. */
  readonly ownReading: ProcessReading | undefined;
  readonly build: { readonly version: string; readonly revision: string; readonly runtime: string };
  /** By pool name; only pools that have a proxy. */
  readonly proxies: ReadonlyMap<string, ProxyReadings>;
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
  readonly isOriginal?: boolean;
};
