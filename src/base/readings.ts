/** Numbers that one part of the controller reads or counts, and others report. */

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
  /** Seconds since 1970; the same at every reading of a process, even when the wall clock is set meanwhile. */
  readonly startTimeSeconds: number;
}

/** Resource usage of the process tree of one worker. */
export interface TreeUsage {
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

/** What the log file of a pool has received since the controller started, including files at earlier paths. */
export interface LogFileTotals {
  readonly pool: string;
  readonly writtenBytes: number;
  /** Bytes discarded because the file could not be written for too long. */
  readonly discardedBytes: number;
  /** Time for which workers were blocked because the file was slow or could not be written. */
  readonly blockedSeconds: number;
  readonly rotations: number;
  /** Attempts to open, write or rotate that failed. */
  readonly errors: number;
  /** Whether the file cannot be written now. */
  readonly isFailing: boolean;
}

/** A distribution as Envoy reports it: the `count` of each bucket includes all lower buckets. */
export interface Histogram {
  readonly buckets: readonly { readonly upperBound: number; readonly count: number }[];
  readonly sum: number;
  readonly count: number;
}

/** One worker as seen by its proxy; totals belong to the slot and never decrease. */
export interface WorkerReadings {
  readonly requestsTotal: number;
  readonly failedTotal: number;
  readonly inFlight: number;
  /** Whether the proxy's own health check removed the worker from load balancing. */
  readonly failedActiveCheck: boolean;
}

/** What the proxy of one pool counted; totals never decrease, even if the proxy restarts. */
export interface ProxyReadings {
  /** By slot. */
  readonly workers: ReadonlyMap<number, WorkerReadings>;
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
  readonly requestTimeMs: Histogram | undefined;
}
