/**
 * The finite form of a controller's state with one pool: states that decide alike become equal. The exploration continues
 * from it, so it is a state that the core accepts. What is reduced, and why decisions stay the same:
 *
 * - Instants are relative to now, which becomes ORIGIN. No window reaches instants further in the past than every duration
 *   of the specification. They are only compared with the start of the running operation, and reasons to replace a worker
 *   with one another; so they keep that order, but not their distances.
 * - The kernel gets LONGEST ticks to end all processes after SIGKILL.
 * - Replacements that hold back nobody any more are forgotten.
 * - Instants that the phase of a worker does not read become ORIGIN, and so do those that only events report.
 * - Crash histories end with the window of the restart limit, streaks and uptimes where the backoff does. A slot that is
 *   down, or whose next process is planned, starts with an empty history.
 * - Causes of a stop that nobody tells apart once it has begun become one.
 * - Incarnations count from the present one of their slot; decisions compare them with it, or with the next one.
 * - Revisions keep their order.
 * - Process ids, ids of operations, reasons, counters and exit statuses decide nothing.
 */
import { type Instant, instant } from "../../src/base/time.ts";
import type { ControllerState } from "../../src/core/controller.ts";
import { NO_CRASHES } from "../../src/core/policy/restart.ts";
import type { QueuedOperation } from "../../src/core/pool/order.ts";
import { takeCensus } from "../../src/core/pool/roster.ts";
import type { PoolSpec } from "../../src/core/spec.ts";
import { EMPTY_TALLY } from "../../src/core/tally.ts";
import type { WorkerState } from "../../src/core/worker/state.ts";

/** No duration of an explored specification is longer, in ticks (a tick is one millisecond). */
export const LONGEST = 2;

export const ORIGIN = instant(1000);

/** A longer streak changes no wait: the backoff has reached its maximum, twice its initial wait. */
const MAX_STREAK = 3;

/** A longer uptime of the process that crashed last proves no more: twice as long is as long as the backoff remembers. */
const MAX_UPTIME = LONGEST / 2;

/** Stands for instants further in the past than LONGEST. */
const OLD = ORIGIN - LONGEST - 1;

/** Present incarnation of every slot in the finite form. */
const INCARNATION = 10;

/** Fields that hold instants, wherever they are in the state. */
const INSTANTS = new Set([
  "since",
  "deadline",
  "spawnedAt",
  "agesAt",
  "observedAt",
  "answeredAt",
  "at",
  "startedAt",
  "nextStartAt",
  "replacedAt",
  "until",
  "shutdownBound",
]);

/** Fields that decide nothing, or follow from others (the census). They are left out, so that they are undefined. */
const LEFT_OUT = new Set([
  "reason",
  "id",
  "pid",
  "restarts",
  "lastExit",
  "waitsFor",
  "tally",
  "census",
  "exitCode",
  "total",
]);

/** Specifications: all of an exploration are equal but for their revision, which stands for them. */
const SPECS = new Set(["spec", "previous"]);

/** A controller's state in its finite form, as text. */
export type Reduced = string;

type Json = Record<string, unknown>;

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null;
}

/** A worker without what its phase, or the end of its stop, does not read. */
function forget(worker: WorkerState, now: Instant, isProbed: boolean): WorkerState {
  switch (worker.phase) {
    case "ready":
      // Without probes nothing must be proved after it is ready.
      return isProbed ? worker : { ...worker, since: now };
    case "down":
      return { ...worker, since: now, crashes: NO_CRASHES };
    case "booting":
    case "unready":
    case "backoff":
      return { ...worker, since: now };
    case "stopping": {
      const { order } = worker;
      const cause = order.cause === "operator" || order.cause === "scale" ? order.cause : "rollout";
      const merged = { ...worker, order: { ...order, cause } as const };
      return order.next === "restart" ? merged : { ...merged, since: now, spawnedAt: now, crashes: NO_CRASHES };
    }
    default:
      return worker;
  }
}

/** Calls `visit` for each number of the state, with its key. */
function visitNumbers(value: Json, visit: (key: string, number: number) => void): void {
  for (const [key, each] of Object.entries(value)) {
    if (typeof each === "number") visit(key, each);
    else if (!isObject(each) || LEFT_OUT.has(key)) continue;
    else if (SPECS.has(key)) visit("revision", each["revision"] as number);
    else visitNumbers(each, visit);
  }
}

/** The finite form of `full` at `now`. */
export function reduce(full: ControllerState, now: Instant): Reduced {
  const state = {
    ...full,
    startedAt: now,
    deadline: full.deadline === undefined ? undefined : instant(Math.min(full.deadline, now + LONGEST)),
    pools: full.pools.map((pool) => ({
      ...pool,
      nextStartAt: pool.nextStartAt > now ? pool.nextStartAt : now,
      liveness: { holding: pool.liveness.holding.filter(({ until }) => now < until) },
      workers: pool.workers.map((worker) => forget(worker, now, pool.spec.readiness.kind === "probed")),
    })),
  };
  const dueAt = new Set<number>();
  const revisions = new Set<number>();
  visitNumbers(state, (key, number) => {
    if (key === "revision") revisions.add(number);
    else if (key === "at" && number < now - LONGEST) dueAt.add(number);
  });
  const dueRanks = new Map([...dueAt].sort((a, b) => b - a).map((at, index) => [at, OLD - index]));
  const ranks = new Map([...revisions].sort((a, b) => a - b).map((revision, index) => [revision, index + 1]));
  const begunAt = state.pools[0]?.running[0]?.startedAt ?? now;
  const toInstant = (at: number) => {
    if (at >= now - LONGEST) return at - now + ORIGIN;
    if (begunAt >= now - LONGEST || at > begunAt) return OLD;
    return at === begunAt ? OLD - 1 : OLD - 2;
  };
  const slots = new Map(state.pools.flatMap(({ workers }) => workers.map((each) => [each.slot, each.incarnation])));
  const toIncarnation = (slot: unknown, incarnation: number) =>
    INCARNATION + Math.max(-1, Math.min(1, incarnation - (slots.get(slot as number) ?? 0)));

  const convertNumber = (key: string, number: number, owner: Json): number | undefined => {
    if (key === "at") return dueRanks.get(number) ?? toInstant(number);
    if (INSTANTS.has(key)) return toInstant(number);
    switch (key) {
      case "revision":
        return ranks.get(number);
      case "streak":
        return Math.min(number, MAX_STREAK);
      case "lastUptimeMs":
        // Only a crash loop must prove more than its first crash.
        return (owner["streak"] as number) < 2 ? 0 : Math.min(number, MAX_UPTIME);
      case "incarnation":
        return toIncarnation(owner["slot"], number);
      case "oldIncarnation":
        return toIncarnation(owner["old"], number);
      case "successorIncarnation":
        return toIncarnation(owner["successor"], number);
      default:
        return number;
    }
  };
  const convert = (value: Json): Json => {
    const result: Json = {};
    // Equal states must be equal texts.
    for (const key of Object.keys(value).sort()) {
      const each = value[key];
      if (LEFT_OUT.has(key)) continue;
      if (typeof each === "number") result[key] = convertNumber(key, each, value);
      else if (!isObject(each)) result[key] = each;
      else if (SPECS.has(key)) result[key] = ranks.get(each["revision"] as number);
      else if (key === "recent")
        result[key] = (value["recent"] as Instant[]).filter((exit) => now - exit <= LONGEST).map(toInstant);
      else if (Array.isArray(each)) result[key] = each.map((item) => (isObject(item) ? convert(item) : item));
      else result[key] = convert(each);
    }
    return result;
  };
  return JSON.stringify(convert(state));
}

/** A state that the core accepts, of the pool that `spec` describes. */
export function restore(reduced: Reduced, spec: PoolSpec): ControllerState {
  const toSpec = (revision: unknown) => ({ ...spec, revision: revision as number });
  const { pools, ...state } = JSON.parse(reduced) as ControllerState;
  const operation = <O extends QueuedOperation>(each: O): O => {
    const { order } = each;
    return order.kind === "reload" ? { ...each, order: { ...order, spec: toSpec(order.spec) } } : each;
  };
  return {
    ...state,
    pools: pools.map((pool) => {
      const workers = pool.workers.map((each): WorkerState => ("spawnedAt" in each ? { ...each, pid: 1 } : each));
      return {
        ...pool,
        spec: toSpec(pool.spec),
        workers,
        census: takeCensus(workers),
        tally: EMPTY_TALLY,
        running: pool.running.map((each) => ({ ...operation(each), previous: toSpec(each.previous) })),
        queue: pool.queue.map(operation),
      };
    }),
  };
}
