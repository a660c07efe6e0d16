/** The traffic figures. Each is one situation that gives several numbers for each system. */

import type { LoadReport } from "../../test/support/loadReport.ts";
import { type LoadProcess, spawnLoad } from "./loadProcess.ts";
import type { Running, Workload } from "./systems.ts";

/** One column of a figure's table. */
export interface Column {
  readonly key: string;
  readonly title: string;
  readonly unit: string;
}

/** The results of one round. `shares` and `perMille` are for the pictures. */
export interface Found {
  readonly numbers: Readonly<Record<string, number | undefined>>;
  /** Number of answers of each worker. */
  readonly shares?: readonly number[];
  /** Latencies in ms at 0 … 1000 per mille. */
  readonly perMille?: readonly number[];
}

/** A goal for the medians of a figure. */
export interface Goal {
  readonly text: string;
  readonly isReached: (median: (system: string, column: string) => number | undefined) => boolean | undefined;
}

export interface Setting {
  readonly quick: boolean;
}

export interface Figure {
  readonly name: string;
  readonly title: string;
  readonly systems: readonly string[];
  readonly rounds: number;
  readonly columns: readonly Column[];
  readonly goals: readonly Goal[];
  readonly workload: (setting: Setting) => Omit<Workload, "dir">;
  readonly measure: (running: Running, setting: Setting) => Promise<Found>;
}

const MODES = ["reuseport", "shared", "proxy-rr", "proxy-lr"];
const RPS: Column = { key: "rps", title: "requests/s", unit: "/s" };
const P50: Column = { key: "p50", title: "p50", unit: "ms" };
const P90: Column = { key: "p90", title: "p90", unit: "ms" };
const P99: Column = { key: "p99", title: "p99", unit: "ms" };
const P999: Column = { key: "p999", title: "p99.9", unit: "ms" };
const ANSWERED: Column = { key: "answered", title: "answered", unit: "" };

/** A goal for one number. */
function goal(text: string, system: string, column: string, isGood: (value: number) => boolean): Goal {
  return {
    text,
    isReached: (median) => {
      const value = median(system, column);
      return value === undefined ? undefined : isGood(value);
    },
  };
}

const isNone = (value: number): boolean => value === 0;

function sharesOf(report: LoadReport, replicas: number): number[] {
  const shares = Object.values(report.workers);
  while (shares.length < replicas) shares.push(0);
  return shares.sort((a, b) => b - a);
}

/** Runs `act` under the load of 16 kept-alive connections and 16 with one request per connection. */
async function underLoad(running: Running, act: () => Promise<void>): Promise<readonly LoadReport[]> {
  const common = { target: running.target, connections: 16, requests: [{ path: running.sleepPath(20) }] };
  const loads: LoadProcess[] = [spawnLoad(common), spawnLoad({ ...common, isConnectionPerRequest: true, seed: 2 })];
  try {
    await settle(WARM_UP_MS);
    await act();
    await settle(WARM_UP_MS / 2);
  } finally {
    await Promise.all(loads.map((load) => load.stop()));
  }
  return Promise.all(loads.map((load) => load.finished));
}

function sum(reports: readonly LoadReport[], pick: (report: LoadReport) => number): number {
  return reports.reduce((total, report) => total + pick(report), 0);
}

function failuresOf(reports: readonly LoadReport[]): Record<string, number | undefined> {
  const [keptAlive, fresh] = reports;
  return {
    answered: sum(reports, (report) => report.counts.ok),
    failed: sum(reports, (report) => report.failed),
    "failed-kept": keptAlive?.failed,
    "failed-fresh": fresh?.failed,
  };
}

const FAILED_KEPT: Column = { key: "failed-kept", title: "failed, kept alive", unit: "" };
const FAILED_FRESH: Column = { key: "failed-fresh", title: "failed, new connection", unit: "" };

const WARM_UP_MS = 1000;

const settle = (ms: number): Promise<void> => new Promise((wake) => setTimeout(wake, ms));

const BLOCKING_WORKERS = 8;
const BLOCK_MS = 5;
const BLOCKING_CONNECTIONS = 16;

function mixedFigure(name: string, connections: number, goals: readonly Goal[]): Figure {
  return {
    name,
    title: `${BLOCKING_WORKERS} blocking workers, 95 % of the requests 5 ms and 5 % 200 ms, ${connections} connections kept alive: the fast requests`,
    systems: MODES,
    rounds: 3,
    columns: [RPS, P50, P90, P99, P999],
    goals,
    workload: () => ({ replicas: BLOCKING_WORKERS }),
    measure: async ({ target }, { quick }) => {
      const report = await spawnLoad({
        target,
        connections,
        durationMs: quick ? 3000 : 8000,
        withDistribution: true,
        requests: [
          { path: "/block?ms=5", weight: 95, label: "fast" },
          { path: "/block?ms=200", weight: 5, label: "slow" },
        ],
      }).finished;
      const fast = report.latencyByLabel["fast"];
      return {
        numbers: { rps: report.requestsPerSecond, p50: fast?.p50, p90: fast?.p90, p99: fast?.p99, p999: fast?.p999 },
        ...(fast?.perMille === undefined ? {} : { perMille: fast.perMille }),
      };
    },
  };
}

export const FIGURES: readonly Figure[] = [
  {
    name: "balance",
    title: `${BLOCKING_WORKERS} workers that block ${BLOCK_MS} ms per request, ${BLOCKING_CONNECTIONS} connections kept alive (ideal: 1,600/s)`,
    systems: MODES,
    rounds: 3,
    columns: [
      RPS,
      P50,
      P90,
      P99,
      { key: "share", title: "largest share ÷ mean", unit: "" },
      { key: "idle", title: "idle workers", unit: "" },
    ],
    goals: [
      goal("Envoy LEAST_REQUEST: ≥ 1,430 requests/s", "proxy-lr", "rps", (value) => value >= 1430),
      goal("Envoy LEAST_REQUEST: p90 ≤ 12 ms", "proxy-lr", "p90", (value) => value <= 12),
      goal("Envoy LEAST_REQUEST: largest share ≤ 1.1 × mean", "proxy-lr", "share", (value) => value <= 1.1),
    ],
    workload: () => ({ replicas: BLOCKING_WORKERS, args: ["--block", `${BLOCK_MS}ms`] }),
    measure: async ({ target }, { quick }) => {
      const report = await spawnLoad({
        target,
        connections: BLOCKING_CONNECTIONS,
        durationMs: quick ? 2000 : 5000,
        withDistribution: true,
      }).finished;
      const shares = sharesOf(report, BLOCKING_WORKERS);
      const { p50, p90, p99, perMille } = report.latency;
      return {
        numbers: {
          rps: report.requestsPerSecond,
          p50,
          p90,
          p99,
          share: (Math.max(...shares) * shares.length) / Math.max(1, report.counts.ok),
          idle: shares.filter((share) => share === 0).length,
        },
        shares,
        ...(perMille === undefined ? {} : { perMille }),
      };
    },
  },
  mixedFigure("mixed", 8, [
    {
      text: "Envoy LEAST_REQUEST: p99 of the fast requests ≤ half of SO_REUSEPORT's",
      isReached: (median) => {
        const ours = median("proxy-lr", "p99");
        const theirs = median("reuseport", "p99");
        return ours === undefined || theirs === undefined ? undefined : ours <= theirs / 2;
      },
    },
  ]),
  // With twice as many connections as workers, some fast requests wait behind slow ones in any mode.
  mixedFigure("mixed-crowded", 16, []),
  {
    name: "kill",
    title: "kill -9 of one of 4 workers, 32 connections, 20 ms handlers",
    systems: MODES,
    rounds: 3,
    columns: [
      ANSWERED,
      FAILED_KEPT,
      FAILED_FRESH,
      { key: "late", title: "failed, sent > 100 ms after", unit: "" },
      { key: "last", title: "last failure after", unit: "ms" },
    ],
    goals: [
      goal("Envoy LEAST_REQUEST: no request sent more than 100 ms after the kill fails", "proxy-lr", "late", isNone),
      goal("Envoy ROUND_ROBIN: no request sent more than 100 ms after the kill fails", "proxy-rr", "late", isNone),
    ],
    workload: () => ({ replicas: 4 }),
    measure: async (running) => {
      const victim = running.workerPids()[0];
      if (victim === undefined) throw new Error("there is no worker to kill");
      let killedAt = 0;
      const reports = await underLoad(running, async () => {
        killedAt = performance.timeOrigin + performance.now();
        process.kill(victim, "SIGKILL");
        await settle(1500);
      });
      const failures = reports.flatMap((report) => report.failures);
      return {
        numbers: {
          ...failuresOf(reports),
          late: failures.filter(({ sentAt }) => sentAt > killedAt + 100).length,
          last: Math.max(0, ...failures.map(({ failedAt }) => failedAt - killedAt)),
        },
      };
    },
  },
  {
    name: "restarts",
    title: "3 rolling restarts of 4 workers, 32 connections, 20 ms handlers",
    systems: [...MODES, "pm2", "gunicorn"],
    rounds: 3,
    columns: [ANSWERED, FAILED_KEPT, FAILED_FRESH, { key: "seconds", title: "total time", unit: "s" }],
    goals: [
      goal("Envoy LEAST_REQUEST: no request fails", "proxy-lr", "failed", isNone),
      goal("Envoy ROUND_ROBIN: no request fails", "proxy-rr", "failed", isNone),
      goal("Shared socket: no new connection is refused or reset", "shared", "failed-fresh", isNone),
    ],
    workload: () => ({ replicas: 4 }),
    measure: async (running, { quick }) => {
      let seconds = 0;
      const reports = await underLoad(running, async () => {
        const startedAt = performance.now();
        for (let turn = 0; turn < (quick ? 1 : 3); turn++) await running.replaceAll();
        seconds = (performance.now() - startedAt) / 1000;
      });
      return { numbers: { ...failuresOf(reports), seconds } };
    },
  },
  {
    name: "sixty",
    title: "60 planned replacements (15 rolling restarts of 4 workers), 32 connections, 20 ms handlers",
    systems: ["shared", "proxy-lr"],
    rounds: 1,
    columns: [ANSWERED, FAILED_KEPT, FAILED_FRESH, { key: "seconds", title: "time", unit: "s" }],
    goals: [
      goal("Envoy LEAST_REQUEST: no request fails", "proxy-lr", "failed", isNone),
      goal("Envoy LEAST_REQUEST: within 13 s", "proxy-lr", "seconds", (value) => value <= 13),
      goal("Envoy LEAST_REQUEST: ≥ 19,000 answered", "proxy-lr", "answered", (value) => value >= 19_000),
    ],
    workload: () => ({ replicas: 4 }),
    measure: async (running, { quick }) => {
      let seconds = 0;
      const reports = await underLoad(running, async () => {
        const startedAt = performance.now();
        for (let turn = 0; turn < (quick ? 3 : 15); turn++) await running.replaceAll();
        seconds = (performance.now() - startedAt) / 1000;
      });
      return { numbers: { ...failuresOf(reports), seconds } };
    },
  },
  {
    name: "lifespan",
    title: "replacement by lifespan: 4 workers, lifespan 6 s, 32 connections, 25 s, 20 ms handlers",
    systems: MODES,
    rounds: 1,
    columns: [ANSWERED, FAILED_KEPT, FAILED_FRESH],
    goals: [
      goal("Envoy LEAST_REQUEST: no request fails (the Go original: 13,565 of 50,736)", "proxy-lr", "failed", isNone),
      goal("Envoy ROUND_ROBIN: no request fails", "proxy-rr", "failed", isNone),
    ],
    workload: () => ({ replicas: 4, more: { limits: { lifespan: "6s", jitter_ratio: 0.1 } } }),
    measure: async (running, { quick }) => {
      return { numbers: failuresOf(await underLoad(running, () => settle(quick ? 8000 : 25_000))) };
    },
  },
  {
    name: "overhead",
    title: "one worker that answers at once: directly and through Envoy",
    systems: ["reuseport", "proxy-lr"],
    rounds: 3,
    columns: [
      { key: "p50", title: "p50, 1 connection", unit: "ms" },
      { key: "p99", title: "p99, 1 connection", unit: "ms" },
      { key: "rps", title: "requests/s, 16 connections", unit: "/s" },
      { key: "p99-16", title: "p99, 16 connections", unit: "ms" },
      { key: "memory", title: "Envoy's private dirty memory", unit: "MB" },
    ],
    goals: [],
    workload: () => ({ replicas: 1 }),
    measure: async ({ target, proxyMemoryMb }, { quick }) => {
      const durationMs = quick ? 1000 : 3000;
      // Warm up, so that compilation is not measured.
      await spawnLoad({ target, connections: 16, durationMs: 1000 }).finished;
      const alone = await spawnLoad({ target, connections: 1, durationMs }).finished;
      const many = await spawnLoad({ target, connections: 16, durationMs }).finished;
      return {
        numbers: {
          p50: alone.latency.p50,
          p99: alone.latency.p99,
          rps: many.requestsPerSecond,
          "p99-16": many.latency.p99,
          memory: proxyMemoryMb(),
        },
      };
    },
  },
  {
    name: "keepalive",
    title: "one uvicorn worker that answers at once, 1 connection kept alive",
    systems: ["uvicorn-shared", "uvicorn-port"],
    rounds: 3,
    columns: [RPS, P50, P99],
    goals: [goal("Shared socket, uvicorn --fd: p50 ≤ 1 ms", "uvicorn-shared", "p50", (value) => value <= 1)],
    workload: () => ({ replicas: 1 }),
    measure: async ({ target }, { quick }) => {
      // Warm up, so that the first imports and allocations are not measured.
      await spawnLoad({ target, connections: 1, durationMs: 500 }).finished;
      const report = await spawnLoad({ target, connections: 1, durationMs: quick ? 1000 : 3000 }).finished;
      return { numbers: { rps: report.requestsPerSecond, p50: report.latency.p50, p99: report.latency.p99 } };
    },
  },
];
