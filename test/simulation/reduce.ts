/**
 * The finite form of a controller's state with one pool: states with the same future become equal. The exploration
 * continues from it, so it is a state that the core accepts. What is reduced, and why decisions stay the same:
 *
 * - Instants are relative to now, which becomes ORIGIN. Instants further in the past than every duration of the
 *   specification are in no time window. They are only compared with the start of the running operation, and the times
 *   at which workers became due with one another. So their order is kept, but not their distances.
 * - The kernel has LONGEST ticks to end all processes after SIGKILL.
 * - Replacements whose cool-down has passed are dropped.
 * - Instants that the phase of a worker does not read become ORIGIN, and so do those that only events report.
 * - Crash histories are limited to the window of the restart limit; streaks and uptimes are limited to where the backoff
 *   reaches its maximum. A slot that is down, or whose next process is planned, has an empty history.
 * - Causes of a stop that make no difference once the stop has begun become one.
 * - Incarnations are relative to the current one of their slot, because decisions compare them only with it or the next.
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

/** Longest duration of an explored specification, in ticks (a tick is one millisecond). */
export const LONGEST = 2;

export const ORIGIN = instant(1000);

/** A longer streak changes nothing, because the backoff has reached its maximum, twice its initial value. */
const MAX_STREAK = 3;

/** A longer last uptime changes nothing, because twice its value is limited to the reset time of the backoff. */
const MAX_UPTIME = LONGEST / 2;

/** Represents instants further in the past than LONGEST. */
const OLD = ORIGIN - LONGEST - 1;

/** Current incarnation of every slot in the finite form. */
const INCARNATION = 10;

/** Names of the fields that hold instants, at any depth. */
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
  "abandonedAt",
]);

/** Fields that affect no decision or are derived from others (the census). They are omitted, so they are undefined. */
const OMITTED = new Set([
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

/** Specifications. All of an exploration differ only in their revision, which represents them. */
const SPECS = new Set(["spec", "previous"]);

/** A controller's state in its finite form, as text. */
export type Reduced = string;

type Json = Record<string, unknown>;

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null;
}

/** The worker without values that neither its phase nor the end of its stop reads. */
function forget(worker: WorkerState, now: Instant, isProbed: boolean): WorkerState {
  switch (worker.phase) {
    case "ready":
      // Without probes, min_ready has passed when the worker is ready.
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
    else if (!isObject(each) || OMITTED.has(key)) continue;
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
  const operationStartedAt = state.pools[0]?.running[0]?.startedAt ?? now;
  const toInstant = (at: number) => {
    if (at >= now - LONGEST) return at - now + ORIGIN;
    if (operationStartedAt >= now - LONGEST || at > operationStartedAt) return OLD;
    return at === operationStartedAt ? OLD - 1 : OLD - 2;
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
        // The last uptime matters only in a crash loop.
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
    // Equal states must have equal texts.
    for (const key of Object.keys(value).sort()) {
      const each = value[key];
      if (OMITTED.has(key)) continue;
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
