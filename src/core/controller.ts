/**
 * The controller state machine: boots, runs and stops all pools within one overall deadline.
 *
 * A shutdown: not ready at once → pre-stop delay (workers keep serving) → the pools on which no other depends: their
 * proxies accept no connections and finish their requests, their workers stop → the pools on which these depended, and so
 * on → proxies stop → finished. At the overall deadline, or at a second request, all remaining processes are killed.
 */
import { after, type Instant } from "../base/time.ts";
import { formatDuration, plural } from "../base/units.ts";
import type { WideLifecycleEvent, WorkerLifecycleEvent } from "./event.ts";
import type { PoolIndex, Slot, WorkerRef } from "./identity.ts";
import { decideEnd, isBooted } from "./outcome.ts";
import { countReady } from "./pool/health.ts";
import type { Order } from "./pool/order.ts";
import { stepPool } from "./pool/pool.ts";
import { isEmpty, newPool, type PoolEvent, type PoolState } from "./pool/state.ts";
import { type ControllerPolicy, type ControllerSpec, emptied, type PoolSpec } from "./spec.ts";
import { decideGate, decideNextStart, decideNextStops, isRationed, isSameGate, type Moment } from "./startOrder.ts";
import type { ControllerPhase } from "./view.ts";
import type { WorkerEffect, WorkerEvent } from "./worker/event.ts";

/** After SIGKILL to all processes, how long the controller waits for the kernel before it exits. */
const KILL_GRACE_MS = 2000;

export interface ControllerState {
  readonly policy: ControllerPolicy;
  readonly phase: ControllerPhase;
  readonly startedAt: Instant;
  /** End of the pre-stop delay, of the drain, of the shutdown timeout, of the wait after SIGKILL; undefined if none. */
  readonly deadline: Instant | undefined;
  /** End of the shutdown timeout, known from the first request on. */
  readonly shutdownBound: Instant | undefined;
  readonly killing: boolean;
  /** Proxies (by index of their pool) that still have connections, in phase draining. */
  readonly draining: readonly PoolIndex[];
  /** The pools of workers that stop at the moment, once `draining` is empty. */
  readonly wave: readonly PoolIndex[];
  /** A signal that every process of the controller's group or service received together with it, and when. */
  readonly groupSignal: { readonly signal: string; readonly at: Instant } | undefined;
  readonly exitCode: number;
  readonly shutdownRequests: number;
  readonly reason: string;
  /** In the order of the spec. */
  readonly pools: readonly PoolState[];
}

export type ControllerEvent =
  | { readonly kind: "boot"; readonly at: Instant; readonly random: number }
  | {
      readonly kind: "shutdown";
      readonly at: Instant;
      readonly reason: string;
      readonly exitCode: number;
      /** How long to wait for a `groupSignaled` before workers are sent their stop signal; 0 unless given. */
      readonly groupWaitMs?: number;
    }
  /** Every process of the controller's group or service received `signal` when the controller did, at `at`. */
  | { readonly kind: "groupSignaled"; readonly at: Instant; readonly signal: string }
  | { readonly kind: "deadline"; readonly at: Instant }
  /** The deadline of a pool has passed. */
  | { readonly kind: "poolDeadline"; readonly at: Instant; readonly pool: number; readonly random: number }
  /** Pools that are desired from now on; they are empty until an order fills them. */
  | { readonly kind: "addPools"; readonly at: Instant; readonly specs: readonly PoolSpec[] }
  | { readonly kind: "setPolicy"; readonly at: Instant; readonly policy: ControllerPolicy }
  /** The proxy that is pool `pool` has finished all requests and accepts no new ones. */
  | { readonly kind: "proxyDrained"; readonly at: Instant; readonly pool: number }
  | {
      readonly kind: "order";
      readonly at: Instant;
      readonly pool: number;
      /** Unique; events about the operation carry it. */
      readonly id: string;
      readonly order: Order;
      readonly reason: string;
      readonly random: number;
    }
  | {
      readonly kind: "worker";
      readonly pool: number;
      readonly slot: Slot;
      readonly event: WorkerEvent;
      readonly random: number;
    };

/** What the driver must do. An effect on a worker is also a WorkerRef. */
export type ControllerEffect =
  | (Exclude<WorkerEffect, { kind: "emit" }> & { readonly pool: PoolIndex })
  /** `worker` is set for an event about a worker. */
  | { readonly kind: "emit"; readonly event: WorkerLifecycleEvent | WideLifecycleEvent; readonly worker?: WorkerRef }
  /** The proxy that is pool `pool` must accept no more connections and finish its requests (`proxyDrained`). */
  | { readonly kind: "drainProxy"; readonly pool: PoolIndex }
  | { readonly kind: "notifyReady" }
  | { readonly kind: "notifyStopping" }
  | { readonly kind: "finish"; readonly exitCode: number };

export interface ControllerTransition {
  readonly state: ControllerState;
  readonly effects: readonly ControllerEffect[];
}

/** A controller that has not booted. */
export function newController(spec: ControllerSpec, at: Instant): ControllerState {
  const { pools, ...policy } = spec;
  return {
    policy,
    phase: "booting",
    startedAt: at,
    deadline: undefined,
    shutdownBound: undefined,
    killing: false,
    draining: [],
    wave: [],
    groupSignal: undefined,
    exitCode: 0,
    shutdownRequests: 0,
    reason: "starting",
    pools: pools.map((pool) => newPool(pool, at)),
  };
}

/** Decides what `event` means for the controller. */
export function stepController(state: ControllerState, event: ControllerEvent): ControllerTransition {
  if (state.phase === "stopped") return { state, effects: [] };
  const effects: ControllerEffect[] = [];
  const at = event.kind === "worker" ? event.event.at : event.at;
  const random = "random" in event ? event.random : 0;
  const next = settleStarts(react(state, event, effects), { at, random }, effects);
  const settled = settlePhase(next, at, effects);
  // Pools that stop make room for workers of pools that still serve.
  return { state: settled.pools === next.pools ? settled : settleStarts(settled, { at, random }, effects), effects };
}

function react(state: ControllerState, event: ControllerEvent, effects: ControllerEffect[]): ControllerState {
  switch (event.kind) {
    case "boot":
      return boot(state, event, effects);
    case "worker": {
      const { slot, random } = event;
      // Workers must serve until the drain is over, even if another process has signaled them.
      const isDuringShutdown = isLeaving(state) && state.pools[event.pool]?.leaving === false;
      const of = event.event.kind === "exited" ? { ...event.event, isDuringShutdown } : event.event;
      return stepOne(state, event.pool, { kind: "worker", slot, event: of, random }, effects);
    }
    case "poolDeadline":
      return stepOne(state, event.pool, { kind: "deadline", at: event.at, random: event.random }, effects);
    case "order": {
      const { pool, ...order } = event;
      return stepOne(state, pool, order, effects);
    }
    case "addPools": {
      // Once workers stop, nothing new starts.
      const leaving = state.phase === "draining" || state.phase === "stopping";
      const added = event.specs.map((spec) => ({ ...newPool(emptied(spec), event.at), leaving }));
      return { ...state, pools: [...state.pools, ...added] };
    }
    case "setPolicy":
      return { ...state, policy: event.policy };
    case "shutdown":
      return requestShutdown(state, event, effects);
    case "groupSignaled":
      return { ...state, groupSignal: { signal: event.signal, at: event.at } };
    case "proxyDrained":
      return { ...state, draining: state.draining.filter((pool) => pool !== event.pool) };
    case "deadline":
      return passDeadline(state, event.at, effects);
  }
}

/** Proxies start first, because they take the longest and all their workers wait for them. */
function boot(
  state: ControllerState,
  event: Extract<ControllerEvent, { kind: "boot" }>,
  effects: ControllerEffect[],
): ControllerState {
  const pools = state.pools.filter(({ spec }) => spec.role === "workers");
  const count = pools.reduce((sum, { spec }) => sum + spec.replicas, 0);
  const proxies = state.pools.length - pools.length;
  const parts = [plural(pools.length, "pool", "pools"), plural(count, "worker", "workers")];
  if (proxies > 0) parts.push(plural(proxies, "proxy", "proxies"));
  effects.push({ kind: "emit", event: { kind: "controller_started", reason: parts.join(", ") } });
  const start: PoolEvent = { kind: "boot", at: event.at, random: event.random };
  return stepRole(stepRole(state, "proxy", start, effects), "workers", start, effects);
}

function requestShutdown(
  state: ControllerState,
  event: Extract<ControllerEvent, { kind: "shutdown" }>,
  effects: ControllerEffect[],
): ControllerState {
  const requests = state.shutdownRequests + 1;
  if (isLeaving(state)) {
    const counted = { ...state, shutdownRequests: requests };
    return killAll(counted, event.at, `second request: ${event.reason}`, 1, effects);
  }
  effects.push(
    { kind: "emit", event: { kind: "controller_stopping", reason: event.reason } },
    { kind: "notifyStopping" },
  );
  const { shutdownTimeoutMs } = state.policy;
  const preStopDelayMs = Math.max(state.policy.preStopDelayMs, event.groupWaitMs ?? 0);
  const leaving: ControllerState = {
    ...state,
    phase: "leaving",
    shutdownRequests: requests,
    exitCode: event.exitCode,
    reason: event.reason,
    shutdownBound: after(event.at, shutdownTimeoutMs),
    deadline: after(event.at, Math.min(preStopDelayMs, shutdownTimeoutMs)),
  };
  return preStopDelayMs <= 0 ? stopNext(leaving, event.at, effects) : leaving;
}

/** Traffic ends first: the workers of the next pools and their proxies run until the last request is answered. */
function stopNext(before: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  const state = { ...before, wave: decideNextStops(before.pools) };
  const draining: PoolIndex[] = [];
  let boundMs = 0;
  for (const [index, pool] of state.pools.entries()) {
    if (pool.spec.role !== "proxy" || countReady(pool) === 0) continue;
    const fronted = state.wave.find((each) => state.pools[each]?.spec.name === pool.spec.fronts);
    if (fronted === undefined) continue;
    draining.push(index);
    effects.push({ kind: "drainProxy", pool: index });
    boundMs = Math.max(boundMs, state.pools[fronted]?.spec.drainMs ?? 0);
  }
  if (draining.length === 0) return stopWave(state, at, effects);
  const reason = `${plural(draining.length, "proxy finishes its requests", "proxies finish their requests")}`;
  effects.push({ kind: "emit", event: { kind: "controller_draining", reason } });
  const bound = Math.min(after(at, boundMs), state.shutdownBound ?? Number.POSITIVE_INFINITY);
  return { ...state, phase: "draining", draining, deadline: bound as Instant };
}

function stopWave(state: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  // During the drain an operator may have started a pool that needs one of them.
  const wave = decideNextStops(state.pools).filter((pool) => state.wave.includes(pool));
  let stopped = state;
  for (const pool of wave) stopped = stepOne(stopped, pool, leaveEvent(state, at), effects);
  return { ...stopped, wave, phase: "stopping", draining: [], deadline: state.shutdownBound };
}

function isLeaving({ phase }: ControllerState): boolean {
  return phase !== "booting" && phase !== "running";
}

function leaveEvent(state: ControllerState, at: Instant): PoolEvent {
  const { groupSignal: hadSignal, reason } = state;
  return { kind: "leave", at, order: { cause: "shutdown", reason: `shutdown: ${reason}`, next: "down", hadSignal } };
}

function killAll(
  state: ControllerState,
  at: Instant,
  reason: string,
  exitCode: number,
  effects: ControllerEffect[],
): ControllerState {
  effects.push({ kind: "emit", event: { kind: "controller_killing", reason } });
  const killed = stepAll(state, { kind: "kill", at, reason }, effects);
  return {
    ...killed,
    phase: "stopping",
    killing: true,
    draining: [],
    exitCode: Math.max(state.exitCode, exitCode),
    deadline: after(at, KILL_GRACE_MS),
  };
}

function passDeadline(state: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  // A timer may fire while the event that ends its phase waits to be handled.
  if (state.deadline === undefined || at < state.deadline) return state;
  switch (state.phase) {
    case "leaving":
      return stopNext(state, at, effects);
    case "draining":
      return stopWave(state, at, effects);
    case "stopping": {
      if (state.killing) return finish(state, "the kernel did not end every process in time", effects);
      const reason = `shutdown took longer than ${formatDuration(state.policy.shutdownTimeoutMs)}`;
      return killAll(state, at, reason, 1, effects);
    }
    case "booting":
    case "running":
    case "stopped":
      return { ...state, deadline: undefined };
  }
}

function finish(state: ControllerState, reason: string, effects: ControllerEffect[]): ControllerState {
  effects.push(
    { kind: "emit", event: { kind: "controller_stopped", exitCode: state.exitCode, reason } },
    { kind: "finish", exitCode: state.exitCode },
  );
  return { ...state, phase: "stopped", deadline: undefined };
}

/** Opens pools whose dependencies have been met, and admits workers. During a shutdown no pool starts. */
function settleStarts(state: ControllerState, now: Moment, effects: ControllerEffect[]): ControllerState {
  let next = isLeaving(state) ? state : openGates(state, now, effects);
  const limit = state.policy.startParallelism ?? Number.POSITIVE_INFINITY;
  for (let start = decideNextStart(next.pools, limit); start !== undefined; ) {
    const { pool, slot } = start;
    const event: PoolEvent = { kind: "worker", slot, event: { kind: "admit", at: now.at }, random: now.random };
    next = stepOne(next, pool, event, effects);
    start = decideNextStart(next.pools, limit);
  }
  // A start may be what another pool waits for.
  return next === state ? state : settleStarts(next, now, effects);
}

function openGates(state: ControllerState, now: Moment, effects: ControllerEffect[]): ControllerState {
  let next = state;
  // A pool that cannot start may be what another one waits for.
  for (let before: ControllerState | undefined; before !== next; ) {
    before = next;
    for (const [index, { spec, gate: present }] of before.pools.entries()) {
      if (present.isOpen || spec.replicas === 0) continue;
      const gate = decideGate(spec, present.since, next.pools);
      if (!isSameGate(present, gate)) next = stepOne(next, index, { kind: "gate", gate, ...now }, effects);
    }
  }
  return next;
}

/** Phase changes that follow from the pools. */
function settlePhase(state: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  switch (state.phase) {
    case "draining":
      return state.draining.length > 0 ? state : settlePhase(stopWave(state, at, effects), at, effects);
    case "stopping":
      return settleStop(state, at, effects);
    case "booting":
    case "running":
      return settleRun(state, at, effects);
    case "leaving":
    case "stopped":
      return state;
  }
}

/** Pools stop once nothing depends on them any more, proxies once no worker is left. */
function settleStop(state: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  const workers = state.pools.filter(({ spec }) => spec.role === "workers");
  if (workers.some((pool) => pool.leaving && !isEmpty(pool))) return state;
  if (workers.some(({ leaving }) => !leaving)) return settlePhase(stopNext(state, at, effects), at, effects);
  // Also proxies without a process: their operations must end.
  if (!state.pools.every((pool) => pool.leaving))
    return settleStop(stepRole(state, "proxy", leaveEvent(state, at), effects), at, effects);
  return state.pools.every(isEmpty) ? finish(state, state.reason, effects) : state;
}

function settleRun(state: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  const end = decideEnd(state.pools);
  if (end !== undefined) {
    const next = requestShutdown(state, { kind: "shutdown", at, ...end }, effects);
    return settlePhase(next, at, effects);
  }
  if (state.phase === "running" || !state.pools.every(isBooted)) return state;
  effects.push(
    { kind: "emit", event: { kind: "controller_ready", afterMs: at - state.startedAt } },
    { kind: "notifyReady" },
  );
  return { ...state, phase: "running", reason: "running" };
}

function stepAll(state: ControllerState, event: PoolEvent, effects: ControllerEffect[]): ControllerState {
  return stepRole(stepRole(state, "workers", event, effects), "proxy", event, effects);
}

function stepRole(
  state: ControllerState,
  role: "workers" | "proxy",
  event: PoolEvent,
  effects: ControllerEffect[],
): ControllerState {
  let next = state;
  for (const [index, pool] of state.pools.entries())
    if (pool.spec.role === role) next = stepOne(next, index, event, effects);
  return next;
}

function stepOne(
  state: ControllerState,
  pool: PoolIndex,
  event: PoolEvent,
  effects: ControllerEffect[],
): ControllerState {
  const poolState = state.pools[pool];
  if (poolState === undefined) throw new RangeError(`there is no pool ${pool}`);
  const startsFreely = state.policy.startParallelism === undefined || !isRationed(poolState.spec);
  const transition = stepPool(poolState, event, startsFreely);
  for (const effect of transition.effects) {
    if (effect.kind === "emit") {
      const { slot, incarnation } = effect.event;
      effects.push({ ...effect, worker: { pool, slot, incarnation } });
    } else if (effect.kind === "emitWide") effects.push({ kind: "emit", event: effect.event });
    else effects.push({ ...effect, pool });
  }
  return { ...state, pools: state.pools.with(pool, transition.state) };
}
