/**
 * Exhaustive exploration of the pure core: from one pool in its finite form (reduce.ts), every event that may happen next,
 * breadth-first, until no new state appears or a limit is reached. Each invariant is checked in each state.
 */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { after, type Instant } from "../../src/base/time.ts";
import {
  type ControllerEffect,
  type ControllerEvent,
  type ControllerState,
  newController,
  stepController,
} from "../../src/core/controller.ts";
import { maxSurgeOf } from "../../src/core/policy/rollout.ts";
import type { Order } from "../../src/core/pool/order.ts";
import { stepPool } from "../../src/core/pool/pool.ts";
import { takeCensus } from "../../src/core/pool/roster.ts";
import type { PoolState } from "../../src/core/pool/state.ts";
import type { PoolSpec } from "../../src/core/spec.ts";
import type { WorkerEvent } from "../../src/core/worker/event.ts";
import type { WorkerState } from "../../src/core/worker/state.ts";
import { poolSpec } from "../support/poolSpec.ts";
import { LONGEST, ORIGIN, type Reduced, reduce, restore } from "./reduce.ts";
import { checkStartOrder } from "./startOrder.ts";

/** The processes of a slot as the kernel knows them. */
export type Processes =
  /** The spawn was requested, and its result has not arrived. */
  | "requested"
  | "running"
  /** Running, and sent the stop signal or SIGKILL. */
  | "signaled"
  /** The leader has exited; other processes of its group still run. */
  | "survivors"
  | "survivors signaled";

/** One state of the exploration. */
export interface Situation {
  readonly state: ControllerState;
  /** By slot; slots without processes are absent. */
  readonly processes: Readonly<Record<number, Processes>>;
}

/** Something that may happen. */
export interface Move {
  readonly name: string;
  /** Ticks that pass before the event. */
  readonly ticks?: number;
  readonly event?: ControllerEvent;
  /** New state of the processes of a slot before the event is handled; undefined if all have exited. */
  readonly kernel?: readonly [slot: number, processes: Processes | undefined];
}

const RANDOM = 0.5;

function poolOf({ pools }: ControllerState): PoolState {
  const [pool] = pools;
  assert.ok(pool !== undefined);
  return pool;
}

const BACKOFF = { initialMs: 1, maxMs: 2, factor: 2, jitter: 0, resetAfterMs: 2 };

/** A pool of one replica and one successor with durations of at most LONGEST ticks. */
function smallPool(changes: Partial<PoolSpec>): PoolSpec {
  return poolSpec({
    replicas: 1,
    rollout: { maxSurge: 1, maxUnavailable: 0, minReadyMs: 1 },
    signalTimeoutMs: 1,
    restart: {
      ...poolSpec().restart,
      maxRestarts: undefined,
      windowMs: 2,
      onExhausted: "give-up-worker",
      backoff: BACKOFF,
    },
    livenessPacing: { coolDownMs: 1, recheckMs: 1 },
    ...changes,
  });
}

const OBSERVED = { readiness: { kind: "observed", surviveMs: 2 } } as const;
const PROBED = { readiness: { kind: "probed", timeoutMs: 2 } } as const;
const GIVES_UP = { restart: { ...smallPool({}).restart, maxRestarts: 0 } };
const RUNS_ONCE = {
  type: "oneshot",
  rollout: { maxSurge: 0, maxUnavailable: { percent: 100 }, minReadyMs: 1 },
  restart: { ...smallPool({}).restart, condition: "on-failure", maxRestarts: 1 },
} as const;
const AGES = { limits: { ...poolSpec().limits, lifespanMs: 2 } };

/** Pools whose states are finite and few enough to visit all of them. */
export const SMALL_POOLS: Readonly<Record<string, PoolSpec>> = {
  "without probes, never restarted": smallPool({ ...OBSERVED, ...GIVES_UP }),
  "without probes": smallPool(OBSERVED),
  "without probes, with a lifespan": smallPool({ ...OBSERVED, ...AGES }),
  "of one oneshot run": smallPool({ ...OBSERVED, ...RUNS_ONCE }),
  "with probes, never restarted": smallPool({ ...PROBED, ...GIVES_UP }),
  "with probes": smallPool(PROBED),
  "with probes and a lifespan": smallPool({ ...PROBED, ...AGES }),
};

/** Two replicas, a successor and a standby worker: too many states to visit all. */
export const LARGER_POOL = smallPool({ ...PROBED, replicas: 2, standby: 1 });

/** The controller before its boot. */
export function firstSituation(spec: PoolSpec, startParallelism?: number): Situation {
  const controller = { shutdownTimeoutMs: LONGEST, preStopDelayMs: 0, startParallelism, pools: [spec] };
  const booted = perform(
    { state: newController(controller, ORIGIN), processes: {} },
    {
      name: "boot",
      event: { kind: "boot", at: ORIGIN, random: RANDOM },
    },
  );
  return booted;
}

/** The situation after a move, not reduced. @throws AssertionError if an invariant is violated */
export function perform(before: Situation, { ticks = 0, event, kernel }: Move, at: Instant = ORIGIN): Situation {
  const processes: Record<number, Processes> = { ...before.processes };
  if (kernel !== undefined) {
    const [slot, now] = kernel;
    if (now === undefined) delete processes[slot];
    else processes[slot] = now;
  }
  let { state } = before;
  const handle = (each: ControllerEvent) => {
    const next = stepController(state, each);
    state = next.state;
    for (const effect of next.effects) applyEffect(effect, processes);
  };
  const now = after(at, ticks);
  if (event !== undefined) handle(event);
  if (ticks > 0) fireDeadlines(() => state, now, handle);
  const situation = { state, processes };
  checkStartOrder(before.state, state);
  checkInvariants(situation, now);
  return situation;
}

/** In the order of the driver: the controller, then each pool and its workers. */
function fireDeadlines(state: () => ControllerState, now: Instant, handle: (event: ControllerEvent) => void): void {
  const isDue = ({ deadline }: { readonly deadline?: number | undefined }) => deadline !== undefined && deadline <= now;
  if (isDue(state())) handle({ kind: "deadline", at: now });
  if (isDue(poolOf(state()))) handle({ kind: "poolDeadline", at: now, pool: 0, random: RANDOM });
  for (let slot = 0; slot < poolOf(state()).workers.length && state().phase !== "stopped"; slot++) {
    const worker = poolOf(state()).workers[slot];
    if (worker === undefined || !isDue(worker)) continue;
    handle(ofWorker(slot, { kind: "deadline", at: now, random: RANDOM }));
    const moved = poolOf(state()).workers[slot];
    assert.ok(moved !== undefined && !isDue(moved), "a handled deadline did not move");
  }
}

function ofWorker(slot: number, event: WorkerEvent): ControllerEvent {
  return { kind: "worker", pool: 0, slot, event, random: RANDOM };
}

function applyEffect(effect: ControllerEffect, processes: Record<number, Processes>): void {
  if (effect.kind === "spawn") {
    assert.equal(processes[effect.slot], undefined, "a second process in a slot");
    processes[effect.slot] = "requested";
  } else if (effect.kind === "signal" || effect.kind === "kill") {
    const present = processes[effect.slot];
    assert.ok(present !== undefined && present !== "requested", "a signal without a process");
    processes[effect.slot] = present.startsWith("survivors") ? "survivors signaled" : "signaled";
  }
}

function checkInvariants({ state, processes }: Situation, now: Instant): void {
  const pool = poolOf(state);
  for (const worker of pool.workers) {
    const present = processes[worker.slot];
    if ("pid" in worker) assert.ok(present !== undefined && present !== "requested", "a worker without a process");
    else if (worker.phase === "spawning") assert.equal(present, "requested", "a spawn that was not requested");
    else assert.equal(present, undefined, "a process in an empty slot");
    if (pool.leaving) assert.notEqual(worker.phase, "backoff", "a worker waits for a restart during shutdown");
  }
  assert.deepEqual(pool.census, takeCensus(pool.workers), "the census is wrong");
  assert.deepEqual(
    stepPool(pool, { kind: "boot", at: now, random: RANDOM }, false).effects,
    [],
    "a pool waits although it could act",
  );
  assert.ok(
    pool.replacements.length <= maxSurgeOf(pool.spec.rollout, pool.spec.replicas),
    "more replacements than surge allows",
  );
  // After SIGKILL the controller gives up if the kernel does not end a process in time.
  if (state.phase === "stopped" && !state.killing) assert.deepEqual(processes, {}, "a process outlives the controller");
  assert.ok(state.phase !== "stopped" || pool.running.length + pool.queue.length === 0, "an operation never ended");
}

/** Everything that may happen next, at `at`. */
export function movesOf({ state, processes }: Situation, at: Instant = ORIGIN): Move[] {
  if (state.phase === "stopped") return [];
  const moves: Move[] = [{ name: "a tick passes", ticks: 1 }];
  const pool = poolOf(state);
  for (const worker of pool.workers)
    moves.push(...kernelMoves(worker, processes[worker.slot], pool.spec, at), ...probeMoves(worker, pool.spec, at));
  if (state.shutdownRequests < 2)
    moves.push({ name: "shutdown", event: { kind: "shutdown", at, reason: "", exitCode: 0 } });
  if (!pool.leaving && pool.running.length + pool.queue.length === 0)
    for (const order of ordersFor(pool.spec))
      moves.push({
        name: order.kind,
        event: { kind: "order", at, pool: 0, id: "op", order, reason: "", random: RANDOM },
      });
  return moves;
}

function ordersFor(spec: PoolSpec): Order[] {
  return [
    { kind: "restart", slots: undefined },
    { kind: "restart", slots: [0] },
    { kind: "stop", slots: [0] },
    { kind: "start", slots: [0] },
    { kind: "reload", spec: { ...spec, revision: spec.revision + 1 } },
  ];
}

function kernelMoves(
  { slot, incarnation }: WorkerState,
  present: Processes | undefined,
  { type }: PoolSpec,
  at: Instant,
): Move[] {
  const mine = { at, incarnation, random: RANDOM } as const;
  const exit = (survivors: boolean, left: Processes | undefined, code = 1): Move => {
    const status = { kind: "code", code } as const;
    const name = `slot ${slot}: exit${survivors ? " with survivors" : ""}${code === 0 ? " with success" : ""}`;
    return { name, kernel: [slot, left], event: ofWorker(slot, { kind: "exited", ...mine, status, survivors }) };
  };
  switch (present) {
    case undefined:
      return [];
    case "requested":
      return [
        {
          name: `slot ${slot}: spawned`,
          kernel: [slot, "running"],
          event: ofWorker(slot, { kind: "spawned", ...mine, pid: 1 }),
        },
        {
          name: `slot ${slot}: spawn failed`,
          kernel: [slot, undefined],
          event: ofWorker(slot, { kind: "spawnFailed", ...mine, reason: "" }),
        },
      ];
    case "running":
    case "signaled":
      if (type === "oneshot") return [exit(false, undefined), exit(false, undefined, 0)];
      return [exit(false, undefined), exit(true, present === "running" ? "survivors" : "survivors signaled")];
    case "survivors":
    case "survivors signaled":
      return [
        {
          name: `slot ${slot}: vacated`,
          kernel: [slot, undefined],
          event: ofWorker(slot, { kind: "vacated", ...mine }),
        },
      ];
  }
}

function probeMoves(worker: WorkerState, { readiness }: PoolSpec, at: Instant): Move[] {
  const { slot, incarnation } = worker;
  const mine = { at, incarnation } as const;
  const move = (event: WorkerEvent): Move => ({ name: `slot ${slot}: ${event.kind}`, event: ofWorker(slot, event) });
  switch (worker.phase) {
    case "booting":
      return [move({ kind: "becameReady", ...mine })];
    case "ready":
      if (readiness.kind !== "probed") return [];
      return [
        move({ kind: "becameAlive", ...mine }),
        move({ kind: "becameUnready", ...mine, reason: "" }),
        move({ kind: "livenessFailed", ...mine, reason: "" }),
      ];
    case "unready":
      return [
        move({ kind: "becameReady", ...mine }),
        move({ kind: "becameAlive", ...mine }),
        move({ kind: "livenessFailed", ...mine, reason: "" }),
      ];
    default:
      return [];
  }
}

/**
 * The next move if all processes and probes work: spawns succeed, workers become ready and alive, signaled processes
 * exit, deadlines fire. When no operation runs, the controller is shut down. undefined once it has stopped.
 */
export function fairMove(situation: Situation): Move | undefined {
  const { state, processes } = situation;
  if (state.phase === "stopped") return undefined;
  const moves = movesOf(situation);
  const pool = poolOf(state);
  for (const worker of pool.workers) {
    const { slot } = worker;
    const present = processes[slot];
    const named = (what: string) => moves.find(({ name }) => name === `slot ${slot}: ${what}`);
    if (present === "requested") return named("spawned");
    if (present === "signaled") return named("exit");
    if (present?.startsWith("survivors")) return named("vacated");
    if (pool.spec.type === "oneshot" && present === "running") return named("exit with success");
    if (worker.phase === "booting" && worker.observedAt === undefined) return named("becameReady");
    if (worker.phase === "unready") return named(worker.liveness === undefined ? "becameReady" : "becameAlive");
  }
  const isBusy = pool.running.length + pool.queue.length > 0;
  if (!isBusy && state.shutdownRequests === 0) return moves.find(({ name }) => name === "shutdown");
  return moves[0];
}

/** A situation at `now` in its finite form, as text. */
export function pack({ state, processes }: Situation, now: Instant = ORIGIN): string {
  return `${JSON.stringify(processes)}\n${reduce(state, now) satisfies Reduced}`;
}

export function unpack(packed: string, spec: PoolSpec): Situation {
  const end = packed.indexOf("\n");
  return { processes: JSON.parse(packed.slice(0, end)), state: restore(packed.slice(end + 1), spec) };
}

/** Visited states are stored as hashes. The probability of a collision among a million states is below 10⁻³⁶. */
function hashOf(packed: string): string {
  return hash("sha1", packed, "base64");
}

export interface Exploration {
  readonly states: number;
  readonly transitions: number;
  /** Whether all reachable states were visited. */
  readonly isClosed: boolean;
  /** The longest continuation, in moves, until the controller has stopped. */
  readonly longestContinuation: number;
}

/** Explores from a specification until no new state appears, or `maxStates` or `maxMs` are reached. */
export function explore(
  spec: PoolSpec,
  options: { readonly maxStates?: number; readonly maxMs?: number; readonly startParallelism?: number },
): Exploration {
  const { maxStates = Number.POSITIVE_INFINITY, maxMs = Number.POSITIVE_INFINITY, startParallelism } = options;
  const startedAt = performance.now();
  const first = pack(firstSituation(spec, startParallelism));
  const seen = new Set([hashOf(first)]);
  /** The length of the fair continuation of each state that is known to stop. */
  const stops = new Map<string, number>();
  let frontier = [first];
  let transitions = 0;
  let longestContinuation = 0;
  while (frontier.length > 0) {
    const next: string[] = [];
    for (const packed of frontier) {
      if (seen.size >= maxStates || performance.now() - startedAt > maxMs)
        return { states: seen.size, transitions, isClosed: false, longestContinuation };
      longestContinuation = Math.max(longestContinuation, checkContinuation(packed, spec, stops));
      const situation = unpack(packed, spec);
      for (const move of movesOf(situation)) {
        const reached = attempt(situation, move);
        transitions++;
        const key = hashOf(reached);
        if (seen.has(key)) continue;
        seen.add(key);
        next.push(reached);
      }
    }
    frontier = next;
  }
  return { states: seen.size, transitions, isClosed: true, longestContinuation };
}

/** The finite form after a move. An error names the situation and the move. */
export function attempt(situation: Situation, move: Move): string {
  try {
    return pack(perform(situation, move), after(ORIGIN, move.ticks ?? 0));
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`"${move.name}" breaks an invariant: ${what}\n${JSON.stringify(situation)}`, { cause: error });
  }
}

/** Follows the fair continuation until the controller has stopped. Returns the number of moves. */
function checkContinuation(from: string, spec: PoolSpec, stops: Map<string, number>): number {
  const path: string[] = [];
  let packed = from;
  let left = 0;
  for (;;) {
    const key = hashOf(packed);
    const known = stops.get(key);
    if (known !== undefined) {
      left = known;
      break;
    }
    path.push(key);
    const situation = unpack(packed, spec);
    const move = fairMove(situation);
    if (move === undefined) break;
    if (path.length > 300) throw new Error(`the fair continuation does not stop: ${from}`);
    packed = attempt(situation, move);
  }
  for (const [index, key] of path.entries()) stops.set(key, left + path.length - 1 - index);
  return left + path.length;
}
