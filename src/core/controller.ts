/**
 * The controller state machine: boots, runs and stops all pools within one overall deadline.
 *
 * A shutdown: not ready at once → pre-stop delay (workers keep serving) → proxies accept no connections and finish their
 * requests → all workers stop → proxies stop → finished. At the overall deadline, or at a second request, all remaining
 * processes are killed.
 */
import { after, type Instant } from "../base/time.ts";
import { formatDuration } from "../base/units.ts";
import type { WideLifecycleEvent, WorkerLifecycleEvent } from "./event.ts";
import type { PoolIndex, Slot, WorkerRef } from "./identity.ts";
import { countReady } from "./pool/health.ts";
import type { Order } from "./pool/order.ts";
import { stepPool } from "./pool/pool.ts";
import { isEmpty, isRemoved, newPool, outcomeOf, type PoolEvent, type PoolState } from "./pool/state.ts";
import { type ControllerPolicy, type ControllerSpec, emptied, type PoolSpec } from "./spec.ts";
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
  readonly draining: readonly number[];
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
  const { shutdownTimeoutMs, preStopDelayMs } = spec;
  return {
    policy: { shutdownTimeoutMs, preStopDelayMs },
    phase: "booting",
    startedAt: at,
    deadline: undefined,
    shutdownBound: undefined,
    killing: false,
    draining: [],
    groupSignal: undefined,
    exitCode: 0,
    shutdownRequests: 0,
    reason: "starting",
    pools: spec.pools.map((pool) => newPool(pool, at)),
  };
}

/** Decides what `event` means for the controller. */
export function stepController(state: ControllerState, event: ControllerEvent): ControllerTransition {
  if (state.phase === "stopped") return { state, effects: [] };
  const effects: ControllerEffect[] = [];
  const next = react(state, event, effects);
  return { state: settlePhase(next, event.kind === "worker" ? event.event.at : event.at, effects), effects };
}

function react(state: ControllerState, event: ControllerEvent, effects: ControllerEffect[]): ControllerState {
  switch (event.kind) {
    case "boot":
      return boot(state, event, effects);
    case "worker": {
      const { slot, random } = event;
      // Workers must serve until the drain is over, even if another process has signaled them.
      const isDuringShutdown = state.phase === "leaving" || state.phase === "draining";
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
      // Once all workers stop, nothing starts any more.
      const leaving = state.phase === "stopping";
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

function plural(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}

function requestShutdown(
  state: ControllerState,
  event: Extract<ControllerEvent, { kind: "shutdown" }>,
  effects: ControllerEffect[],
): ControllerState {
  const requests = state.shutdownRequests + 1;
  if (state.phase !== "booting" && state.phase !== "running") {
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
  return preStopDelayMs <= 0 ? drainAll(leaving, event.at, effects) : leaving;
}

/** Traffic ends first: workers and proxies keep running until the last request is answered. */
function drainAll(state: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  const draining: number[] = [];
  let boundMs = 0;
  for (const [index, pool] of state.pools.entries()) {
    if (pool.spec.role !== "proxy" || countReady(pool) === 0) continue;
    draining.push(index);
    effects.push({ kind: "drainProxy", pool: index });
    const fronted = state.pools.find(({ spec }) => spec.name === pool.spec.fronts);
    boundMs = Math.max(boundMs, fronted?.spec.drainMs ?? 0);
  }
  if (draining.length === 0) return stopAll(state, at, effects);
  const reason = `${plural(draining.length, "proxy finishes its requests", "proxies finish their requests")}`;
  effects.push({ kind: "emit", event: { kind: "controller_draining", reason } });
  const bound = Math.min(after(at, boundMs), state.shutdownBound ?? Number.POSITIVE_INFINITY);
  return { ...state, phase: "draining", draining, deadline: bound as Instant };
}

function stopAll(state: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  const stopped = stepRole(state, "workers", leaveEvent(state, at), effects);
  return { ...stopped, phase: "stopping", draining: [], deadline: state.shutdownBound };
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
      return drainAll(state, at, effects);
    case "draining":
      return stopAll(state, at, effects);
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

/** Phase changes that follow from the pools. */
function settlePhase(state: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  switch (state.phase) {
    case "draining":
      return state.draining.length > 0 ? state : settlePhase(stopAll(state, at, effects), at, effects);
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

/** Proxies stop once no worker is left behind them. */
function settleStop(state: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  if (state.pools.some((pool) => pool.spec.role === "workers" && !isEmpty(pool))) return state;
  // Also proxies without a process: their operations must end.
  if (!state.pools.every((pool) => pool.leaving))
    return settleStop(stepRole(state, "proxy", leaveEvent(state, at), effects), at, effects);
  return state.pools.every(isEmpty) ? finish(state, state.reason, effects) : state;
}

function settleRun(state: ControllerState, at: Instant, effects: ControllerEffect[]): ControllerState {
  const exhausted = state.pools.find(isExhausted);
  const outcome = outcomeOfAll(state.pools);
  let reason: string | undefined;
  if (exhausted !== undefined) reason = `pool "${exhausted.spec.name}" used up its restarts`;
  else if (outcome === "failed") reason = "every worker failed, used up its restarts or completed";
  else if (outcome === "completed") reason = "every worker completed";
  if (reason !== undefined) {
    const exitCode = exhausted === undefined && outcome === "completed" ? 0 : 1;
    const next = requestShutdown(state, { kind: "shutdown", at, reason, exitCode }, effects);
    return settlePhase(next, at, effects);
  }
  if (state.phase === "running" || !state.pools.every(isBooted)) return state;
  effects.push(
    { kind: "emit", event: { kind: "controller_ready", afterMs: at - state.startedAt } },
    { kind: "notifyReady" },
  );
  return { ...state, phase: "running", reason: "running" };
}

/** A reload may remove all pools for a moment, to make room for others; that does not end the controller. */
function outcomeOfAll(all: readonly PoolState[]): "completed" | "failed" | undefined {
  const outcomes = all.filter((pool) => pool.spec.role === "workers" && !isRemoved(pool)).map(outcomeOf);
  if (outcomes.length === 0 || outcomes.includes(undefined)) return undefined;
  return outcomes.includes("failed") ? "failed" : "completed";
}

function isExhausted({ spec, census }: PoolState): boolean {
  return spec.restart.onExhausted === "shutdown" && census.gaveUp > 0;
}

/** Workers that gave up or that an operator stopped are not waited for; health judges whether the rest is enough. */
function isBooted({ spec, census }: PoolState): boolean {
  return census.serving + census.absent >= spec.replicas;
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
  const transition = stepPool(poolState, event);
  for (const effect of transition.effects) {
    if (effect.kind === "emit") {
      const { slot, incarnation } = effect.event;
      effects.push({ ...effect, worker: { pool, slot, incarnation } });
    } else if (effect.kind === "emitWide") effects.push({ kind: "emit", event: effect.event });
    else effects.push({ ...effect, pool });
  }
  return { ...state, pools: state.pools.with(pool, transition.state) };
}
