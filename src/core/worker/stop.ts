/** How a worker stops: drain, stop signal, grace period, SIGKILL, and what follows once its process group is empty. */
import { after, type Instant, later } from "../../base/time.ts";
import { formatDuration } from "../../base/units.ts";
import type { StopReason } from "../event.ts";
import { NO_CRASHES } from "../policy/restart.ts";
import type { PoolSpec } from "../spec.ts";
import { afterEffects, emit, ignore, type Transition, type WorkerEffect, type WorkerEventOf } from "./event.ts";
import { decideAfterCrash, settle, startNext } from "./spawn.ts";
import {
  type ActiveState,
  type BackoffState,
  type BootingState,
  type DrainingState,
  enter,
  type LiveState,
  type QueuedState,
  type ReadyState,
  type SpawningState,
  type StopOrder,
  type StoppingState,
  type UnreadyState,
} from "./state.ts";

/** Stops that a drain cannot soften: the worker is broken, or all traffic has ended already. */
const WITHOUT_DRAIN: ReadonlySet<StopReason> = new Set([
  "shutdown",
  "memory_hard",
  "liveness",
  "startup",
  "survivors",
] satisfies StopReason[]);

// Before a process exists

export function stopWaiting(state: QueuedState | BackoffState, event: WorkerEventOf<"stop">): Transition {
  return { state: settle(state, event.at, event.order), effects: [] };
}

export function stopSpawning(state: SpawningState, event: WorkerEventOf<"stop">): Transition {
  return { state: { ...state, pendingStop: event.order }, effects: [] };
}

export function killWaiting(state: QueuedState | BackoffState, event: WorkerEventOf<"kill">): Transition {
  return { state: settle(state, event.at, orderOfKill(event)), effects: [] };
}

export function killSpawning(state: SpawningState, event: WorkerEventOf<"kill">): Transition {
  return { state: { ...state, pendingStop: orderOfKill(event) }, effects: [] };
}

function orderOfKill({ reason }: WorkerEventOf<"kill">): StopOrder {
  return { cause: "shutdown", reason, next: "down" };
}

// From running to stopping

export function stopBooting(state: BootingState, { at, order }: WorkerEventOf<"stop">, spec: PoolSpec): Transition {
  return beginStop(state, at, order, spec);
}

/** Drains first if a proxy can send requests elsewhere, then sends the stop signal. */
export function stop(
  state: ReadyState | UnreadyState,
  { at, order }: WorkerEventOf<"stop">,
  spec: PoolSpec,
): Transition {
  const { drainMs } = spec;
  if (drainMs === undefined || drainMs <= 0 || WITHOUT_DRAIN.has(order.cause)) return beginStop(state, at, order, spec);
  const { pid, spawnedAt } = state;
  const { reason } = order;
  const draining: DrainingState = {
    ...enter(state, at, reason),
    phase: "draining",
    deadline: after(at, drainMs),
    pid,
    spawnedAt,
    order,
    inFlight: 0,
  };
  return { state: draining, effects: [emit(state, spec, { kind: "draining", pid, boundMs: drainMs, reason })] };
}

/** Sends the stop signal, or SIGKILL if there is no grace period. */
export function beginStop(
  state: ActiveState | DrainingState,
  at: Instant,
  order: StopOrder,
  spec: PoolSpec,
): Transition {
  const { slot, incarnation, pid, spawnedAt } = state;
  // The thread of Envoy that fails the liveness probe also handles signals, so only SIGKILL ends such an Envoy.
  const ignoresSignals = order.cause === "liveness" && spec.role === "proxy";
  const graceMs = order.cause === "memory_hard" || ignoresSignals ? 0 : spec.signalTimeoutMs;
  const isKill = graceMs <= 0;
  const stopping: StoppingState = {
    ...enter(state, at, order.reason),
    phase: "stopping",
    deadline: isKill ? undefined : after(at, graceMs),
    pid,
    spawnedAt,
    order,
  };
  const signal = isKill ? "SIGKILL" : spec.stopSignal;
  const isSignaled = !isKill && hasHadStopSignal(stopping, spec);
  const reason = isSignaled ? `${order.reason}; it has received ${signal} already` : order.reason;
  const emitted = emit(state, spec, { kind: "stopping", pid, signal, graceMs, cause: order.cause, reason });
  // Many servers treat a second signal as a request to stop immediately.
  if (isSignaled) return { state: stopping, effects: [emitted] };
  // After the exit of its leader only the group can be signaled.
  const scope = order.cause === "survivors" ? "group" : spec.stopSignalTarget;
  const act: WorkerEffect = isKill
    ? { kind: "kill", slot, incarnation, pid }
    : { kind: "signal", slot, incarnation, pid, signal, scope };
  return { state: stopping, effects: [emitted, act] };
}

/** Whether the processes of a stopping worker received the stop signal together with the controller. */
function hasHadStopSignal({ order, spawnedAt }: StoppingState, { stopSignal, role }: PoolSpec): boolean {
  const { hadSignal } = order;
  // A proxy blocks signals.
  return role === "workers" && hadSignal !== undefined && hadSignal.signal === stopSignal && spawnedAt < hadSignal.at;
}

// While it drains or stops

export function countInFlight(state: DrainingState, { count }: WorkerEventOf<"inFlight">): Transition {
  return { state: { ...state, inFlight: count }, effects: [] };
}

/** It reports that it needs longer to stop. The time limit of a shutdown stays. */
export function extendGrace(state: StoppingState, { at, ms }: WorkerEventOf<"extended">): Transition {
  if (state.deadline === undefined) return ignore(state);
  return { state: { ...state, deadline: later(state.deadline, after(at, ms)) }, effects: [] };
}

export function drained(state: DrainingState, event: WorkerEventOf<"drained">, spec: PoolSpec): Transition {
  return endDrain({ ...state, inFlight: 0 }, event, spec);
}

/** Drained, or the time limit has passed: the stop cuts off requests that are still in flight. */
export function endDrain(state: DrainingState, { at }: { at: Instant }, spec: PoolSpec): Transition {
  return afterEffects([emitDrained(state, at, spec)], beginStop(state, at, state.order, spec));
}

/** The event for the end of a drain; its requests in flight are cut off. */
export function emitDrained({ since, inFlight, ...state }: DrainingState, at: Instant, spec: PoolSpec): WorkerEffect {
  return emit(state, spec, { kind: "drained", afterMs: at - since, cut: inFlight });
}

/**
 * A stop during a stop can only make it final: shutdown overrules a planned respawn. A final stop stays, but a slot that
 * an operator holds, or that has completed, becomes free if the pool has too many.
 */
export function stopAgain(state: StoppingState | DrainingState, event: WorkerEventOf<"stop">): Transition {
  const staysInUse = state.order.cause === "operator" || state.order.ends !== undefined;
  const isSurplus = staysInUse && event.order.cause === "scale";
  if (event.order.next !== "down" || (state.order.next === "down" && !isSurplus)) return ignore(state);
  return { state: { ...state, order: event.order, reason: event.order.reason }, effects: [] };
}

/** At a shutdown all traffic has ended before workers are stopped, so the drain ends too. */
export function stopDraining(state: DrainingState, event: WorkerEventOf<"stop">, spec: PoolSpec): Transition {
  const next = stopAgain(state, event).state as DrainingState;
  return WITHOUT_DRAIN.has(event.order.cause) ? endDrain(next, event, spec) : { state: next, effects: [] };
}

/** Its grace period is over. */
export function graceIsOver(state: StoppingState, { at }: WorkerEventOf<"deadline">, spec: PoolSpec): Transition {
  const reason = `still running ${formatDuration(at - state.since)} after ${spec.stopSignal}`;
  return killNow(state, at, reason, state.order, spec);
}

export function killLeaving(
  state: StoppingState | DrainingState,
  event: WorkerEventOf<"kill">,
  spec: PoolSpec,
): Transition {
  return killNow(state, event.at, event.reason, { ...state.order, next: "down" }, spec);
}

export function killRunning(state: ActiveState, event: WorkerEventOf<"kill">, spec: PoolSpec): Transition {
  return killNow(state, event.at, event.reason, orderOfKill(event), spec);
}

export function killNow(state: LiveState, at: Instant, reason: string, order: StopOrder, spec: PoolSpec): Transition {
  const { slot, incarnation, pid, spawnedAt } = state;
  const next: StoppingState = {
    ...enter(state, state.phase === "stopping" ? state.since : at, order.reason),
    phase: "stopping",
    deadline: undefined,
    pid,
    spawnedAt,
    order,
  };
  const kill: WorkerEffect = { kind: "kill", slot, incarnation, pid };
  // SIGKILL is repeated, because the group may have started processes since. The event is emitted once.
  return {
    state: next,
    effects: isKilled(state) ? [kill] : [emit(state, spec, { kind: "killed", pid, reason }), kill],
  };
}

/** Whether its group was sent SIGKILL. */
export function isKilled(state: LiveState): boolean {
  return state.phase === "stopping" && state.deadline === undefined;
}

// The exit

/** The event for the exit of its leader. */
export function emitExited(
  state: LiveState,
  { at, status }: WorkerEventOf<"exited">,
  spec: PoolSpec,
  planned: boolean,
  cause?: "expected" | "completed",
): WorkerEffect {
  const body = { kind: "exited", pid: state.pid, status, planned, uptimeMs: at - state.spawnedAt } as const;
  return emit(state, spec, cause === undefined ? body : { ...body, cause });
}

/** The leader exited during the drain, so the stop is over unless processes of its group are left. */
export function exitedDraining(state: DrainingState, event: WorkerEventOf<"exited">, spec: PoolSpec): Transition {
  const emitted = emitExited(state, event, spec, true);
  const exited: DrainingState = { ...state, lastExit: event.status };
  const stopping = beginStop(exited, event.at, state.order, spec);
  if (event.survivors) return afterEffects([emitted], stopping);
  return afterEffects([emitted], emptied(stopping.state as StoppingState, event.at, event.random, spec));
}

export function exitedStopping(state: StoppingState, event: WorkerEventOf<"exited">, spec: PoolSpec): Transition {
  const emitted = emitExited(state, event, spec, true);
  const exited: StoppingState = { ...state, lastExit: event.status };
  if (!event.survivors) return afterEffects([emitted], emptied(exited, event.at, event.random, spec));
  // The group has received its signal, unless the target is the leader. Processes that left the group are known only
  // now.
  const { slot, incarnation, pid } = state;
  const scope = spec.stopSignalTarget === "leader" ? "group" : "escaped";
  const signal: WorkerEffect = { kind: "signal", slot, incarnation, pid, signal: spec.stopSignal, scope };
  const kill: WorkerEffect = { kind: "kill", slot, incarnation, pid };
  const act = isKilled(state) ? [kill] : hasHadStopSignal(state, spec) ? [] : [signal];
  return { state: exited, effects: [emitted, ...act] };
}

export function vacated(state: StoppingState, event: WorkerEventOf<"vacated">, spec: PoolSpec): Transition {
  return emptied(state, event.at, event.random, spec);
}

/** The slot is empty: what the order says follows. */
function emptied(state: StoppingState, at: Instant, random: number, spec: PoolSpec): Transition {
  const { order, since, spawnedAt } = state;
  const stays = order.next === "down";
  const emitted = emit(state, spec, { kind: "stopped", durationMs: at - since, next: stays ? "stay down" : "respawn" });
  switch (order.next) {
    case "down": {
      const { ends, reason } = order;
      const ended =
        ends === undefined ? [] : [emit(state, spec, { kind: "ended", isFailure: ends === "failed", reason })];
      return { state: settle(state, at, order), effects: [emitted, ...ended] };
    }
    case "respawn": {
      // The next predecessor may stop only once this worker has proved that it runs: all successors might fail.
      const fresh = { ...state, crashes: NO_CRASHES };
      const settleMs = spec.rollout.minReadyMs;
      return afterEffects([emitted], startNext(fresh, at, `replaced: ${order.reason}`, { settleMs }));
    }
    case "restart":
      return afterEffects([emitted], decideAfterCrash(state, at, since - spawnedAt, random, order.reason, spec));
  }
}
