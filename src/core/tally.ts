/** Totals of one pool, folded from its lifecycle events: bounded, monotonic, never reset by a restart. */

import type { LimitKind, WorkerLifecycleEvent } from "./event.ts";
import { exitLabel } from "./exit.ts";

/** Upper bounds in seconds of the duration histograms. */
export const DURATION_BUCKETS_SECONDS = [0.001, 0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300] as const;

/** A cumulative-free histogram: `counts[i]` is the number of values in bucket i; the last bucket is +Inf. */
export interface Histogram {
  readonly counts: readonly number[];
  readonly sumSeconds: number;
}

export interface PoolTally {
  readonly spawns: number;
  readonly spawnFailures: number;
  /** Restarts after an unplanned exit. Planned replacements are not restarts. */
  readonly restarts: number;
  /** Stops that ended with SIGKILL. */
  readonly sigkills: number;
  readonly gaveUp: number;
  readonly limitEvents: Readonly<Record<LimitKind, number>>;
  /** Exits by `planned|expected|completed|unplanned` and code or signal name: key `unplanned/SIGSEGV`. */
  readonly exits: Readonly<Record<string, number>>;
  readonly timeToReady: Histogram;
  readonly stopDuration: Histogram;
  readonly rollouts: Readonly<Record<"finished" | "aborted", number>>;
  /** How long workers took to finish their requests before a planned stop. */
  readonly drainDuration: Histogram;
  /** Promotions of standby workers. */
  readonly promotions: number;
  /** Requests in flight at the end of a drain limit. */
  readonly requestsCut: number;
}

const NO_VALUES: Histogram = { counts: new Array(DURATION_BUCKETS_SECONDS.length + 1).fill(0), sumSeconds: 0 };

export const EMPTY_TALLY: PoolTally = {
  spawns: 0,
  spawnFailures: 0,
  restarts: 0,
  sigkills: 0,
  gaveUp: 0,
  limitEvents: { lifespan: 0, memory: 0, memory_hard: 0, requests: 0 },
  exits: {},
  timeToReady: NO_VALUES,
  stopDuration: NO_VALUES,
  rollouts: { finished: 0, aborted: 0 },
  drainDuration: NO_VALUES,
  promotions: 0,
  requestsCut: 0,
};

function observe(histogram: Histogram, ms: number): Histogram {
  const seconds = ms / 1000;
  const found = DURATION_BUCKETS_SECONDS.findIndex((bound) => seconds <= bound);
  const bucket = found === -1 ? DURATION_BUCKETS_SECONDS.length : found;
  return {
    counts: histogram.counts.map((count, index) => (index === bucket ? count + 1 : count)),
    sumSeconds: histogram.sumSeconds + seconds,
  };
}

/** The totals after `event`. */
export function tallyEvent(tally: PoolTally, event: WorkerLifecycleEvent): PoolTally {
  switch (event.kind) {
    case "spawned":
      return { ...tally, spawns: tally.spawns + 1 };
    case "spawn_failed":
      return { ...tally, spawnFailures: tally.spawnFailures + 1 };
    case "ready":
      return { ...tally, timeToReady: observe(tally.timeToReady, event.afterMs) };
    case "exited": {
      const key = `${event.cause ?? (event.planned ? "planned" : "unplanned")}/${exitLabel(event.status)}`;
      return { ...tally, exits: { ...tally.exits, [key]: (tally.exits[key] ?? 0) + 1 } };
    }
    case "backing_off":
      return { ...tally, restarts: tally.restarts + 1 };
    case "killed":
      return { ...tally, sigkills: tally.sigkills + 1 };
    case "stopped":
      return { ...tally, stopDuration: observe(tally.stopDuration, event.durationMs) };
    case "promoted":
      return { ...tally, promotions: tally.promotions + 1 };
    case "drained":
      return {
        ...tally,
        drainDuration: observe(tally.drainDuration, event.afterMs),
        requestsCut: tally.requestsCut + event.cut,
      };
    case "limit_reached":
      return {
        ...tally,
        limitEvents: { ...tally.limitEvents, [event.limit]: tally.limitEvents[event.limit] + 1 },
      };
    case "gave_up":
      return { ...tally, gaveUp: tally.gaveUp + 1 };
    case "stopping":
      // Without grace the first signal is SIGKILL; no "killed" follows.
      return event.graceMs <= 0 ? { ...tally, sigkills: tally.sigkills + 1 } : tally;
    case "starting":
    case "waiting":
    case "unready":
    case "draining":
    case "ended":
      return tally;
  }
}
