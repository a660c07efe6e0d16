/**
 * How evenly the work of a pool is spread over its workers: samples of what each has done become loads over about a minute,
 * and one sentence of advice. Only ready workers count, and each process by its own rate, so that a rollout does not look
 * like an imbalance.
 */
import type { Instant } from "../../base/time.ts";
import type { Incarnation, Slot } from "../identity.ts";

/** What a ready worker has done since its process started (`cpuSeconds`) or the controller started (`requests`). */
export interface WorkReading {
  readonly slot: Slot;
  readonly incarnation: Incarnation;
  /** User and system time; undefined if it cannot be read. */
  readonly cpuSeconds: number | undefined;
  /** Requests that the proxy sent to the slot; undefined without a proxy. */
  readonly requests: number | undefined;
}

export interface WorkSample {
  readonly at: Instant;
  readonly workers: readonly WorkReading[];
}

/** Earlier samples, oldest first. */
export type WorkWindow = readonly WorkSample[];

/** What one worker did in the window. */
export interface WorkerLoad {
  readonly slot: Slot;
  /** Time in the window for which it was observed. */
  readonly watchedMs: number;
  /** Share of one CPU: 1 is always busy. */
  readonly cpuRatio: number | undefined;
  readonly requestsPerSecond: number | undefined;
}

export interface Balance {
  readonly workers: readonly WorkerLoad[];
  /** Most over mean: 1 is even, the number of workers is one that does everything; undefined: too little to compare. */
  readonly cpuSpread: number | undefined;
  readonly requestsSpread: number | undefined;
}

/** Minimum time over which workers are compared, if samples are as old; it is less than two steps longer. */
export const WINDOW_MS = 60_000;

/** Time between samples; an earlier sample is dropped. */
export const SAMPLE_MS = 15_000;

/** A worker that was observed for less is not compared. */
const LEAST_WATCHED_MS = 2000;

/** Mean CPU time of a worker in the window below which the clock's steps of 10 ms would pass for an imbalance. */
const LEAST_CPU_SECONDS = 0.1;

/** Mean requests of a worker in the window below which chance would. */
const LEAST_REQUESTS = 20;

/** The window with `sample`, and without what it does not need any more. */
export function addSample(window: WorkWindow, sample: WorkSample): WorkWindow {
  const last = window.at(-1);
  if (last !== undefined && sample.at - last.at < SAMPLE_MS * 0.9) return window;
  const kept = [...window, sample];
  const start = kept.findLastIndex(({ at }) => sample.at - at >= WINDOW_MS);
  return kept.slice(Math.max(0, start));
}

/** Compares the workers of `now` with what they were in the window. */
export function decideBalance(window: WorkWindow, now: WorkSample): Balance {
  const workers = now.workers.flatMap((worker, index) => loadOf(worker, index, window, now.at) ?? []);
  return {
    workers: workers.map(({ load }) => load),
    cpuSpread: spreadOf(
      workers.map(({ load, cpuSeconds }) => ({ rate: load.cpuRatio, amount: cpuSeconds })),
      LEAST_CPU_SECONDS,
    ),
    requestsSpread: spreadOf(
      workers.map(({ load, requests }) => ({ rate: load.requestsPerSecond, amount: requests })),
      LEAST_REQUESTS,
    ),
  };
}

interface Watched {
  readonly load: WorkerLoad;
  readonly cpuSeconds: number | undefined;
  readonly requests: number | undefined;
}

/** `index` is the worker's among those of now, and mostly was among those of before. */
function loadOf(worker: WorkReading, index: number, window: WorkWindow, at: Instant): Watched | undefined {
  const isSame = (other: WorkReading) => other.slot === worker.slot && other.incarnation === worker.incarnation;
  for (const sample of window) {
    const guess = sample.workers[index];
    const base = guess !== undefined && isSame(guess) ? guess : sample.workers.find(isSame);
    if (base === undefined) continue;
    const watchedMs = at - sample.at;
    if (watchedMs < LEAST_WATCHED_MS) return undefined;
    const cpuSeconds = growth(base.cpuSeconds, worker.cpuSeconds);
    const requests = growth(base.requests, worker.requests);
    const perSecond = (amount: number | undefined) => (amount === undefined ? undefined : (amount * 1000) / watchedMs);
    const load = {
      slot: worker.slot,
      watchedMs,
      cpuRatio: perSecond(cpuSeconds),
      requestsPerSecond: perSecond(requests),
    };
    return { load, cpuSeconds, requests };
  }
  return undefined;
}

function growth(before: number | undefined, now: number | undefined): number | undefined {
  return before === undefined || now === undefined ? undefined : Math.max(0, now - before);
}

function spreadOf(
  workers: readonly { readonly rate: number | undefined; readonly amount: number | undefined }[],
  leastMean: number,
): number | undefined {
  const known = workers.flatMap(({ rate, amount }) =>
    rate === undefined || amount === undefined ? [] : [{ rate, amount }],
  );
  const amount = known.reduce((sum, each) => sum + each.amount, 0);
  if (known.length < 2 || amount < leastMean * known.length) return undefined;
  const mean = known.reduce((sum, { rate }) => sum + rate, 0) / known.length;
  return known.reduce((most, { rate }) => Math.max(most, rate), 0) / mean;
}

/** What distributes work to the workers of a pool; `algorithm` is the proxy's. */
export type Distribution =
  | { readonly mode: "supervisor" }
  | { readonly mode: "socket" }
  | { readonly mode: "proxy"; readonly algorithm: string };

export interface Advice {
  /** `even` also if a difference does no harm; `unknown`: too little to compare; `full`: no worker has time left. */
  readonly verdict: "unknown" | "even" | "uneven" | "full";
  /** One sentence without a full stop. */
  readonly text: string;
}

/** From this ratio on, requests of the busiest worker wait while other workers are idle. */
const UNEVEN_SPREAD = 1.25;

/** Below this share of a CPU the busiest worker delays few requests. */
const HARMLESS_RATIO = 0.5;

const FULL_RATIO = 0.9;

/** What would help. CPU counts before requests, which may cost very different amounts of work. */
export function decideAdvice(distribution: Distribution, { workers, cpuSpread, requestsSpread }: Balance): Advice {
  const spread = cpuSpread ?? requestsSpread;
  if (workers.length < 2) return { verdict: "unknown", text: "fewer than two workers have been ready for a while" };
  if (spread === undefined) return { verdict: "unknown", text: "too little work in the last minute to compare" };
  const ratios = workers.flatMap(({ cpuRatio }) => cpuRatio ?? []);
  const busiest = Math.max(0, ...ratios);
  if (ratios.length > 0 && ratios.every((ratio) => ratio >= FULL_RATIO))
    return {
      verdict: "full",
      text: "every worker is always busy: add replicas, because another way to balance does not help",
    };
  if (spread < UNEVEN_SPREAD) return { verdict: "even", text: "the workers share the work evenly; nothing to change" };
  if (cpuSpread !== undefined && busiest < HARMLESS_RATIO) {
    const used = `${Math.round(busiest * 100)} %`;
    return { verdict: "even", text: `even enough: the busiest worker uses ${used} of a CPU, so few requests wait` };
  }
  return { verdict: "uneven", text: remedyOf(distribution) };
}

function remedyOf(distribution: Distribution): string {
  if (distribution.mode === "supervisor")
    return "the kernel assigns connections without regard to the load of workers: a proxy (server, LEAST_REQUEST) sends each request to the least busy worker";
  if (distribution.mode === "socket")
    return "the worker that accepts a connection serves all its requests: a proxy (server, LEAST_REQUEST) sends each request to the least busy worker";
  switch (distribution.algorithm) {
    case "LEAST_REQUEST":
      return "requests cost very different amounts of work: add replicas, or set max_concurrent_per_worker: 1 if a worker serves one request at a time";
    case "RING_HASH":
    case "MAGLEV":
      return `${distribution.algorithm} sends all requests with the same key to one worker: set LEAST_REQUEST unless they must stay together`;
    default:
      return `${distribution.algorithm} ignores the load of workers: set load_balancer_algorithm: LEAST_REQUEST`;
  }
}
