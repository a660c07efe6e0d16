/** The report of a load client: counts by outcome, first failures, latencies, requests per worker. */

/**
 * How a request ended. `refused` and `connectFailed` never reached a server. `closedBeforeResponse` (FIN) and
 * `resetBeforeResponse` (RST) lost a request that had been sent, possibly on a reused connection; the client never
 * retries. `resetMidResponse` and `shortBody` (FIN) interrupted a response.
 */
export type Outcome =
  | "ok"
  | "refused"
  | "connectFailed"
  | "resetBeforeResponse"
  | "closedBeforeResponse"
  | "resetMidResponse"
  | "shortBody"
  | "timeout"
  | "serverError"
  | "otherStatus"
  | "malformed";

export const OUTCOMES: readonly Outcome[] = [
  "ok",
  "refused",
  "connectFailed",
  "resetBeforeResponse",
  "closedBeforeResponse",
  "resetMidResponse",
  "shortBody",
  "timeout",
  "serverError",
  "otherStatus",
  "malformed",
];

/** One request that failed. Times are milliseconds since the epoch, with fractions. */
export interface Failure {
  readonly outcome: Exclude<Outcome, "ok">;
  /** When the request was begun (including connecting), and when it failed. */
  readonly sentAt: number;
  readonly failedAt: number;
  /** Whether the connection had answered a request before. */
  readonly isReused: boolean;
  readonly path: string;
  /** Error code, or the received part of status line, headers and body. */
  readonly detail: string;
}

/** Latencies of answered requests, in milliseconds; all 0 if there are none. */
export interface Latency {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  /** Per mille points 0 … 1000 of the distribution, for plots; only if requested. */
  readonly perMille?: readonly number[];
}

export interface LoadReport {
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly durationMs: number;
  /** Requests that have an outcome. */
  readonly requests: number;
  readonly failed: number;
  readonly counts: Readonly<Record<Outcome, number>>;
  /** The first failures, in the order in which they ended. */
  readonly failures: readonly Failure[];
  /** Answered requests (ok) per second. */
  readonly requestsPerSecond: number;
  readonly latency: Latency;
  /** Latencies by label of the request, for labels that were set. */
  readonly latencyByLabel: Readonly<Record<string, Latency>>;
  /** Number of answered requests by worker. */
  readonly workers: Readonly<Record<string, number>>;
  /** When each worker last answered a request, milliseconds since the epoch. */
  readonly lastAnswerAt: Readonly<Record<string, number>>;
  readonly connectionsOpened: number;
  /** Connections that the server closed while they were idle, which are not failures. */
  readonly idleCloses: number;
}

const KEPT_FAILURES = 500;

/** A growing list of unboxed numbers. */
class Samples {
  #values = new Float64Array(4096);
  #count = 0;

  add(value: number): void {
    if (this.#count === this.#values.length) {
      const larger = new Float64Array(this.#values.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#count++] = value;
  }

  sorted(): Float64Array {
    return this.#values.slice(0, this.#count).sort();
  }
}

/** The smallest value that at least `ratio` (0 … 1) of the sorted values do not exceed (nearest rank); 0 if empty. */
export function quantile(sorted: ArrayLike<number>, ratio: number): number {
  if (sorted.length === 0) return 0;
  const rank = Math.max(1, Math.ceil(ratio * sorted.length - 1e-9));
  return sorted[Math.min(rank, sorted.length) - 1] ?? 0;
}

function latencyOf(samples: Samples | undefined, withDistribution: boolean): Latency {
  const sorted = samples?.sorted() ?? new Float64Array(0);
  const sum = sorted.reduce((total, value) => total + value, 0);
  return {
    count: sorted.length,
    mean: sorted.length === 0 ? 0 : sum / sorted.length,
    p50: quantile(sorted, 0.5),
    p90: quantile(sorted, 0.9),
    p99: quantile(sorted, 0.99),
    p999: quantile(sorted, 0.999),
    max: sorted.at(-1) ?? 0,
    ...(withDistribution
      ? { perMille: Array.from({ length: 1001 }, (_, point) => quantile(sorted, point / 1000)) }
      : {}),
  };
}

/** Collects outcomes. `report` may be called at any time. */
export class LoadRecorder {
  readonly #startedAt = performance.timeOrigin + performance.now();
  readonly #counts: Record<Outcome, number>;
  readonly #failures: Failure[] = [];
  readonly #latencies = new Samples();
  readonly #byLabel = new Map<string, Samples>();
  readonly #workers = new Map<string, { count: number; lastAt: number }>();
  readonly #withDistribution: boolean;
  #endedAt: number | undefined;
  connectionsOpened = 0;
  idleCloses = 0;

  constructor(withDistribution: boolean) {
    this.#withDistribution = withDistribution;
    this.#counts = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0])) as Record<Outcome, number>;
  }

  answered(latencyMs: number, at: number, label: string | undefined, worker: string | undefined): void {
    this.#counts.ok++;
    this.#latencies.add(latencyMs);
    if (label !== undefined) {
      const samples = this.#byLabel.get(label) ?? new Samples();
      this.#byLabel.set(label, samples);
      samples.add(latencyMs);
    }
    if (worker === undefined) return;
    const entry = this.#workers.get(worker);
    if (entry === undefined) this.#workers.set(worker, { count: 1, lastAt: at });
    else {
      entry.count++;
      entry.lastAt = at;
    }
  }

  failed(failure: Failure): void {
    this.#counts[failure.outcome]++;
    if (this.#failures.length < KEPT_FAILURES) this.#failures.push(failure);
  }

  /** Ends the measured duration. */
  ended(): void {
    this.#endedAt ??= performance.timeOrigin + performance.now();
  }

  report(): LoadReport {
    const durationMs = (this.#endedAt ?? performance.timeOrigin + performance.now()) - this.#startedAt;
    const requests = OUTCOMES.reduce((total, outcome) => total + this.#counts[outcome], 0);
    const workers = [...this.#workers].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
    return {
      startedAt: this.#startedAt,
      durationMs,
      requests,
      failed: requests - this.#counts.ok,
      counts: { ...this.#counts },
      failures: [...this.#failures],
      requestsPerSecond: (this.#counts.ok / durationMs) * 1000,
      latency: latencyOf(this.#latencies, this.#withDistribution),
      latencyByLabel: Object.fromEntries(
        [...this.#byLabel].map(([label, samples]) => [label, latencyOf(samples, this.#withDistribution)]),
      ),
      workers: Object.fromEntries(workers.map(([name, { count }]) => [name, count])),
      lastAnswerAt: Object.fromEntries(workers.map(([name, { lastAt }]) => [name, lastAt])),
      connectionsOpened: this.connectionsOpened,
      idleCloses: this.idleCloses,
    };
  }
}

/** A short text of the report, for assertion messages. */
export function describeLoad(report: LoadReport): string {
  const counts = OUTCOMES.filter((outcome) => report.counts[outcome] > 0).map(
    (outcome) => `${outcome} ${report.counts[outcome]}`,
  );
  const failures = report.failures
    .slice(0, 5)
    .map(
      ({ outcome, sentAt, failedAt, isReused, path, detail }) =>
        `  ${outcome} at ${Math.round(failedAt - report.startedAt)} ms, sent ${Math.round(failedAt - sentAt)} ms before` +
        `${isReused ? " on a reused connection" : ""}, ${path}: ${detail}`,
    );
  return [`${counts.join(", ")} in ${Math.round(report.durationMs)} ms`, ...failures].join("\n");
}
