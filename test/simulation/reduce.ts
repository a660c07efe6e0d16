/**
 * The finite form of a controller's state with one pool: states that decide alike become equal. The exploration continues
 * from it, so it is a state that the core accepts. What is reduced, and why decisions stay the same:
 *
 * - Instants are relative to now, which becomes ORIGIN. Instants further in the past than every duration of the
 *   specification keep their order, but not their distances: no window reaches them any more, and only comparisons are left.
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
import { EMPTY_TALLY } from "../../src/core/tally.ts";
import type { WorkerState } from "../../src/core/worker/state.ts";

/** No duration of an explored specification is longer, in ticks (a tick is one millisecond). */
export const LONGEST = 2;

export const ORIGIN = instant(1000);

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

/** Fields that decide nothing, and what they become. */
const IRRELEVANT: Readonly<Record<string, unknown>> = {
  reason: "",
  id: "op",
  pid: 1,
  restarts: 0,
  lastExit: undefined,
  waitsFor: undefined,
  tally: EMPTY_TALLY,
  exitCode: 0,
  total: 1,
};

type Json = Record<string, unknown>;

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null;
}

/** A worker without what its phase, or the end of its stop, does not read. */
function forget(worker: WorkerState, now: Instant): WorkerState {
  switch (worker.phase) {
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

/** Calls `visit` for each number of the state that is an instant or a revision. */
function visitNumbers(value: unknown, visit: (kind: "instant" | "revision", number: number) => void): void {
  if (!isObject(value)) return;
  for (const key in value) {
    const each = value[key];
    if (typeof each === "number") {
      if (INSTANTS.has(key)) visit("instant", each);
      else if (key === "revision") visit("revision", each);
    } else if (!(key in IRRELEVANT)) visitNumbers(each, visit);
  }
}

/** `full` at `now` in its finite form. */
export function reduce(full: ControllerState, now: Instant): ControllerState {
  const state: ControllerState = {
    ...full,
    startedAt: now,
    pools: full.pools.map((pool) => ({
      ...pool,
      nextStartAt: pool.nextStartAt > now ? pool.nextStartAt : now,
      workers: pool.workers.map((worker) => forget(worker, now)),
    })),
  };
  const oldInstants = new Set<number>();
  const revisions = new Set<number>();
  visitNumbers(state, (kind, number) => {
    if (kind === "revision") revisions.add(number);
    else if (number < now - LONGEST) oldInstants.add(number);
  });
  const ages = new Map([...oldInstants].sort((a, b) => b - a).map((at, index) => [at, ORIGIN - LONGEST - 1 - index]));
  const ranks = new Map([...revisions].sort((a, b) => a - b).map((revision, index) => [revision, index + 1]));
  const toInstant = (at: number) => ages.get(at) ?? at - now + ORIGIN;
  const slots = new Map(state.pools.flatMap(({ workers }) => workers.map((each) => [each.slot, each.incarnation])));
  const toIncarnation = (slot: number, incarnation: number) =>
    INCARNATION + Math.max(-1, Math.min(1, incarnation - (slots.get(slot) ?? 0)));

  const convert = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(convert);
    if (!isObject(value)) return value;
    const result: Json = {};
    for (const key in value) {
      const each = value[key];
      if (key in IRRELEVANT) result[key] = IRRELEVANT[key];
      else if (key === "recent")
        result[key] = (each as number[]).filter((exit) => now - exit <= LONGEST).map(toInstant);
      else if (key === "streak") result[key] = Math.min(each as number, 4);
      else if (key === "lastUptimeMs") result[key] = Math.min(each as number, LONGEST);
      else if (typeof each === "number" && INSTANTS.has(key)) result[key] = toInstant(each);
      else if (key === "revision") result[key] = ranks.get(each as number);
      else if (key === "incarnation") result[key] = toIncarnation(value["slot"] as number, each as number);
      else if (key === "oldIncarnation") result[key] = toIncarnation(value["old"] as number, each as number);
      else if (key === "successorIncarnation")
        result[key] = toIncarnation(value["successor"] as number, each as number);
      else result[key] = convert(each);
    }
    return result;
  };
  return convert(state) as ControllerState;
}
