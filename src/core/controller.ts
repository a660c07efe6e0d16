/**
 * The controller machine: boot, run, leave and stop all pools, inside one overall deadline. Produces the view.
 *
 * Order of a shutdown: not ready at once → pre-stop delay (workers go on serving) → all workers are asked to stop →
 * what is left at the overall deadline is killed → finished. A second request kills at once.
 */
import { after, type Instant } from "../base/time.ts";
import { formatDuration } from "../base/units.ts";
import type { WideLifecycleEvent, WorkerLifecycleEvent } from "./event.ts";
import { type Slot, workerId } from "./identity.ts";
import {
  countReady,
  hasGivenUp,
  isEmpty,
  isHealthy,
  newPool,
  type PoolEvent,
  type PoolState,
  stepPool,
} from "./pool.ts";
import type { ControllerSpec, PoolSpec } from "./spec.ts";
import type { ControllerPhase, ControllerView, PoolView, WorkerView } from "./view.ts";
import type { WorkerEffect, WorkerEvent, WorkerState } from "./worker.ts";

/** After SIGKILL to everything, how long the kernel gets before the controller leaves without an answer. */
const KILL_GRACE_MS = 2000;

export interface ControllerState {
  readonly phase: ControllerPhase;
  readonly startedAt: Instant;
  /** End of the pre-stop delay, then the overall bound, then the bound of the kill; undefined while nothing ends. */
  readonly deadline: Instant | undefined;
  /** The overall bound, known from the first request on. */
  readonly shutdownBound: Instant | undefined;
  readonly killing: boolean;
  readonly exitCode: number;
  readonly shutdownRequests: number;
  readonly reason: string;
  /** In the order of the spec. */
  readonly pools: readonly PoolState[];
}

export type ControllerEvent =
  | { readonly kind: "boot"; readonly at: Instant; readonly random: number }
  | { readonly kind: "shutdown"; readonly at: Instant; readonly reason: string; readonly exitCode: number }
  | { readonly kind: "deadline"; readonly at: Instant }
  | {
      readonly kind: "worker";
      readonly pool: number;
      readonly slot: Slot;
      readonly event: WorkerEvent;
      readonly random: number;
    };

/** What the daemon has to do; worker effects name their pool by index. */
export type ControllerEffect =
  | (Exclude<WorkerEffect, { kind: "tell" }> & { readonly pool: number })
  | { readonly kind: "tell"; readonly event: WorkerLifecycleEvent | WideLifecycleEvent }
  | { readonly kind: "notifyReady" }
  | { readonly kind: "notifyStopping" }
  | { readonly kind: "finish"; readonly exitCode: number };

export interface ControllerTransition {
  readonly state: ControllerState;
  readonly effects: readonly ControllerEffect[];
}

/** A controller that has not booted. */
export function newController(spec: ControllerSpec, at: Instant): ControllerState {
  return {
    phase: "booting",
    startedAt: at,
    deadline: undefined,
    shutdownBound: undefined,
    killing: false,
    exitCode: 0,
    shutdownRequests: 0,
    reason: "starting",
    pools: spec.pools.map((pool) => newPool(pool, at)),
  };
}

/** Decides what `event` means for the whole. */
export function stepController(
  state: ControllerState,
  event: ControllerEvent,
  spec: ControllerSpec,
): ControllerTransition {
  if (state.phase === "stopped") return { state, effects: [] };
  const effects: ControllerEffect[] = [];
  const next = react(state, event, spec, effects);
  return { state: settlePhase(next, event.kind === "worker" ? event.event.at : event.at, spec, effects), effects };
}

function react(
  state: ControllerState,
  event: ControllerEvent,
  spec: ControllerSpec,
  effects: ControllerEffect[],
): ControllerState {
  switch (event.kind) {
    case "boot": {
      const count = spec.pools.reduce((sum, pool) => sum + pool.replicas, 0);
      const reason = `${spec.pools.length} pool${spec.pools.length === 1 ? "" : "s"}, ${count} worker${count === 1 ? "" : "s"}`;
      effects.push({ kind: "tell", event: { kind: "controller_started", reason } });
      return stepAll(state, { kind: "boot", at: event.at, random: event.random }, spec, effects);
    }
    case "worker":
      return stepOne(
        state,
        event.pool,
        { kind: "worker", slot: event.slot, event: event.event, random: event.random },
        spec,
        effects,
      );
    case "shutdown":
      return requestShutdown(state, event, spec, effects);
    case "deadline":
      return passDeadline(state, event.at, spec, effects);
  }
}

function requestShutdown(
  state: ControllerState,
  event: Extract<ControllerEvent, { kind: "shutdown" }>,
  spec: ControllerSpec,
  effects: ControllerEffect[],
): ControllerState {
  const requests = state.shutdownRequests + 1;
  if (state.phase === "leaving" || state.phase === "stopping") {
    return killAll(
      { ...state, shutdownRequests: requests },
      event.at,
      `second request: ${event.reason}`,
      1,
      spec,
      effects,
    );
  }
  effects.push(
    { kind: "tell", event: { kind: "controller_stopping", reason: event.reason } },
    { kind: "notifyStopping" },
  );
  const shutdownBound = after(event.at, spec.shutdownTimeoutMs);
  const leaving: ControllerState = {
    ...state,
    phase: "leaving",
    shutdownRequests: requests,
    exitCode: event.exitCode,
    reason: event.reason,
    shutdownBound,
    deadline: after(event.at, Math.min(spec.preStopDelayMs, spec.shutdownTimeoutMs)),
  };
  return spec.preStopDelayMs <= 0 ? stopAll(leaving, event.at, spec, effects) : leaving;
}

function stopAll(
  state: ControllerState,
  at: Instant,
  spec: ControllerSpec,
  effects: ControllerEffect[],
): ControllerState {
  const order = { cause: "shutdown", reason: `shutdown: ${state.reason}`, next: "down" } as const;
  const stopped = stepAll(state, { kind: "leave", at, order }, spec, effects);
  return { ...stopped, phase: "stopping", deadline: state.shutdownBound };
}

function killAll(
  state: ControllerState,
  at: Instant,
  reason: string,
  exitCode: number,
  spec: ControllerSpec,
  effects: ControllerEffect[],
): ControllerState {
  effects.push({ kind: "tell", event: { kind: "controller_killing", reason } });
  const killed = stepAll(state, { kind: "kill", at, reason }, spec, effects);
  return {
    ...killed,
    phase: "stopping",
    killing: true,
    exitCode: Math.max(state.exitCode, exitCode),
    deadline: after(at, KILL_GRACE_MS),
  };
}

function passDeadline(
  state: ControllerState,
  at: Instant,
  spec: ControllerSpec,
  effects: ControllerEffect[],
): ControllerState {
  if (state.phase === "leaving") return stopAll(state, at, spec, effects);
  if (state.phase !== "stopping") return { ...state, deadline: undefined };
  if (state.killing) return finish(state, "the kernel did not end every process in time", effects);
  const reason = `shutdown took longer than ${formatDuration(spec.shutdownTimeoutMs)}`;
  return killAll(state, at, reason, 1, spec, effects);
}

function finish(state: ControllerState, reason: string, effects: ControllerEffect[]): ControllerState {
  effects.push(
    { kind: "tell", event: { kind: "controller_stopped", exitCode: state.exitCode, reason } },
    { kind: "finish", exitCode: state.exitCode },
  );
  return { ...state, phase: "stopped", deadline: undefined };
}

/** Phase changes that follow from the pools: booting → running, running → stopping, stopping → stopped. */
function settlePhase(
  state: ControllerState,
  at: Instant,
  spec: ControllerSpec,
  effects: ControllerEffect[],
): ControllerState {
  if (state.phase === "stopping" && state.pools.every(isEmpty)) return finish(state, state.reason, effects);
  if (state.phase !== "booting" && state.phase !== "running") return state;
  const fatal = spec.pools.findIndex((pool, index) => isExhausted(state.pools[index], pool));
  const exhausted = spec.pools[fatal];
  if (exhausted !== undefined) {
    const reason = `pool "${exhausted.name}" used up its restarts`;
    return settlePhase(
      requestShutdown(state, { kind: "shutdown", at, reason, exitCode: 1 }, spec, effects),
      at,
      spec,
      effects,
    );
  }
  if (spec.pools.every((pool, index) => isGivenUp(state.pools[index], pool))) {
    const reason = "every worker used up its restarts";
    return settlePhase(
      requestShutdown(state, { kind: "shutdown", at, reason, exitCode: 1 }, spec, effects),
      at,
      spec,
      effects,
    );
  }
  if (state.phase === "booting" && spec.pools.every((pool, index) => isBooted(state.pools[index], pool))) {
    effects.push(
      { kind: "tell", event: { kind: "controller_ready", afterMs: at - state.startedAt } },
      { kind: "notifyReady" },
    );
    return { ...state, phase: "running", reason: "running" };
  }
  return state;
}

function isExhausted(pool: PoolState | undefined, spec: PoolSpec): boolean {
  if (pool === undefined || spec.restart.onExhausted !== "shutdown") return false;
  return pool.workers.some((worker) => worker.phase === "down" && worker.kind === "gave-up");
}

function isGivenUp(pool: PoolState | undefined, spec: PoolSpec): boolean {
  return pool !== undefined && hasGivenUp(pool, spec);
}

/** What gave up or was stopped by an operator is not waited for; health judges whether the rest is enough. */
function isBooted(pool: PoolState | undefined, spec: PoolSpec): boolean {
  if (pool === undefined) return false;
  const ready = countReady(pool);
  if (ready >= spec.replicas) return true;
  let settled = 0;
  for (const worker of pool.workers) if (worker.phase === "down" && worker.kind !== "free") settled++;
  return ready + settled >= spec.replicas;
}

function stepAll(
  state: ControllerState,
  event: PoolEvent,
  spec: ControllerSpec,
  effects: ControllerEffect[],
): ControllerState {
  let next = state;
  for (let pool = 0; pool < spec.pools.length; pool++) next = stepOne(next, pool, event, spec, effects);
  return next;
}

function stepOne(
  state: ControllerState,
  pool: number,
  event: PoolEvent,
  spec: ControllerSpec,
  effects: ControllerEffect[],
): ControllerState {
  const poolState = state.pools[pool];
  const poolSpec = spec.pools[pool];
  if (poolState === undefined || poolSpec === undefined) throw new RangeError(`there is no pool ${pool}`);
  const transition = stepPool(poolState, event, poolSpec);
  for (const effect of transition.effects) {
    if (effect.kind === "tell" || effect.kind === "tellWide") effects.push({ kind: "tell", event: effect.event });
    else effects.push({ ...effect, pool });
  }
  return { ...state, pools: state.pools.with(pool, transition.state) };
}

/** The read model of `state`. */
export function viewOf(state: ControllerState, spec: ControllerSpec): ControllerView {
  const pools = spec.pools.map((pool, index): PoolView => {
    const poolState = state.pools[index];
    if (poolState === undefined) throw new RangeError(`there is no pool ${index}`);
    return {
      name: pool.name,
      replicas: pool.replicas,
      readyCount: countReady(poolState),
      desiredHealthyPercentage: pool.desiredHealthyPercentage,
      healthy: isHealthy(poolState, pool),
      workers: poolState.workers
        .filter((worker) => worker.slot < pool.replicas || worker.incarnation > 0)
        .map((worker) => viewOfWorker(worker, pool.name)),
      tally: poolState.tally,
    };
  });
  const healthy = pools.every((pool) => pool.healthy);
  return {
    phase: state.phase,
    startedAt: state.startedAt,
    healthy,
    ready: healthy && state.phase === "running",
    shutdownRequests: state.shutdownRequests,
    pools,
  };
}

function viewOfWorker(worker: WorkerState, pool: string): WorkerView {
  const alive = "pid" in worker;
  return {
    id: workerId(pool, worker.slot),
    pool,
    slot: worker.slot,
    phase: worker.phase,
    incarnation: worker.incarnation,
    pid: alive ? worker.pid : undefined,
    since: worker.since,
    spawnedAt: alive ? worker.spawnedAt : undefined,
    deadline: worker.deadline,
    restarts: worker.restarts,
    lastExit: worker.lastExit,
    reason: worker.reason,
  };
}
