/** From an empty slot to a ready worker. */
import { after, type Instant, later } from "../../base/time.ts";
import { formatDuration } from "../../base/units.ts";
import { decideProvingMs, NO_CRASHES } from "../policy/restart.ts";
import type { PoolSpec } from "../spec.ts";
import { afterEffects, emit, ignore, type Transition, type WorkerEventOf } from "./event.ts";
import { decideAgesAt, lifespanIsOver } from "./limits.ts";
import { decideAfterCrash, settle, startNext } from "./spawn.ts";
import {
  type BackoffState,
  type BootingState,
  type DownState,
  enter,
  type QueuedState,
  type ReadyState,
  type SpawningState,
} from "./state.ts";
import { beginStop } from "./stop.ts";

/** The slot may be used again. */
export function release(state: DownState, { reason = state.reason }: WorkerEventOf<"release">): Transition {
  return { state: { ...state, kind: "free", reason }, effects: [] };
}

/** Its failure has ended an operation: it failed without having reached the pool's restart limit. */
export function excuse(state: DownState): Transition {
  return state.kind === "gave-up" ? { state: { ...state, kind: "failed" }, effects: [] } : ignore(state);
}

export function start(state: DownState, event: WorkerEventOf<"start">, spec: PoolSpec): Transition {
  const { at, delayMs, settleMs = 0, reason } = event;
  const next = { slot: state.slot, incarnation: state.incarnation + 1 };
  const emitted = emit(next, spec, { kind: "starting", delayMs, reason });
  const fresh = { ...state, crashes: NO_CRASHES };
  if (delayMs <= 0) return afterEffects([emitted], startNext(fresh, at, reason, { settleMs, isRestart: false }));
  const queued: QueuedState = {
    ...enter(fresh, at, reason),
    phase: "queued",
    deadline: after(at, delayMs),
    settleMs,
    isRestart: false,
  };
  return { state: queued, effects: [emitted] };
}

/** Its turn has come, or its backoff is over. */
export function startAtDeadline(state: QueuedState | BackoffState, { at }: WorkerEventOf<"deadline">): Transition {
  return startNext(state, at, state.reason, state.phase === "queued" ? state : {});
}

export function spawned(state: SpawningState, event: WorkerEventOf<"spawned">, spec: PoolSpec): Transition {
  const { at, pid, random } = event;
  const { settleMs, pendingStop } = state;
  const emitted = emit(state, spec, { kind: "spawned", pid, revision: state.revision });
  const booting: BootingState = {
    ...enter(state, state.since, state.reason),
    phase: "booting",
    deadline: undefined,
    settleMs,
    pid,
    spawnedAt: at,
    agesAt: decideAgesAt(at, random, spec),
    observedAt: undefined,
    answeredAt: undefined,
    waitsFor: undefined,
  };
  const next =
    pendingStop === undefined ? awaitReadiness(booting, at, spec) : beginStop(booting, at, pendingStop, spec);
  return afterEffects([emitted], next);
}

export function spawnFailed(state: SpawningState, event: WorkerEventOf<"spawnFailed">, spec: PoolSpec): Transition {
  const { at, random, reason } = event;
  const emitted = emit(state, spec, { kind: "spawn_failed", reason });
  if (state.pendingStop?.next === "down") return { state: settle(state, at, state.pendingStop), effects: [emitted] };
  return afterEffects([emitted], decideAfterCrash(state, at, 0, random, reason, spec));
}

/** It runs. It is ready once its probes pass or it is seen serving; without either, once it has run long enough. */
function awaitReadiness(state: BootingState, at: Instant, spec: PoolSpec): Transition {
  const { readiness } = spec;
  if (readiness.kind === "probed") {
    const { timeoutMs } = readiness;
    const deadline = timeoutMs === undefined ? undefined : after(state.spawnedAt, timeoutMs);
    return { state: { ...state, deadline }, effects: [] };
  }
  const readyAt = decideReadyAt(state, readiness.surviveMs, spec);
  return readyAt <= at ? becomeReady(state, at, spec) : { state: { ...state, deadline: readyAt }, effects: [] };
}

/** When a worker without probes counts as ready, as far as is known now. */
function decideReadyAt(state: BootingState, surviveMs: number, spec: PoolSpec): Instant {
  const { spawnedAt, observedAt, settleMs, crashes } = state;
  const proved = after(spawnedAt, decideProvingMs(crashes, spec.restart, spec.rollout.minReadyMs));
  const survived = later(after(spawnedAt, surviveMs), proved);
  if (observedAt === undefined) return survived;
  return Math.min(survived, later(after(observedAt, settleMs), proved)) as Instant;
}

function becomeReady(state: BootingState, at: Instant, spec: PoolSpec): Transition {
  const { pid, spawnedAt, agesAt, observedAt } = state;
  const ready: ReadyState = {
    ...enter(state, at, "running"),
    phase: "ready",
    deadline: agesAt,
    pid,
    spawnedAt,
    due: undefined,
    isStandby: false,
  };
  // The run of a oneshot pool is not ready for anything; it has only outlived its start.
  if (spec.type === "oneshot") return { state: ready, effects: [] };
  const evidence = spec.readiness.kind === "probed" ? "probe" : observedAt === undefined ? "none" : "listening";
  const emitted = emit(state, spec, { kind: "ready", afterMs: at - spawnedAt, evidence });
  const isOld = agesAt !== undefined && agesAt <= at;
  return afterEffects([emitted], isOld ? lifespanIsOver(ready, { at }, spec) : { state: ready, effects: [] });
}

/** Its probes pass, or it is seen serving for the first time. */
export function readyAfterBoot(state: BootingState, { at }: WorkerEventOf<"becameReady">, spec: PoolSpec): Transition {
  if (spec.readiness.kind === "probed") return becomeReady(state, at, spec);
  if (state.observedAt !== undefined) return ignore(state);
  return awaitReadiness({ ...state, observedAt: at }, at, spec);
}

/** It has run long enough to count as ready, or it took too long to become ready. */
export function bootDeadline(state: BootingState, { at }: WorkerEventOf<"deadline">, spec: PoolSpec): Transition {
  if (spec.readiness.kind === "observed") return becomeReady(state, at, spec);
  const missing = state.waitsFor === undefined ? "" : `: ${state.waitsFor}`;
  return failBoot(state, at, `not ready ${formatDuration(at - state.spawnedAt)} after its start${missing}`, spec);
}

/** It reports that it needs longer to start. */
export function extendBoot(state: BootingState, { at, ms }: WorkerEventOf<"extended">, spec: PoolSpec): Transition {
  if (spec.readiness.kind !== "probed" || state.deadline === undefined) return ignore(state);
  return { state: { ...state, deadline: later(state.deadline, after(at, ms)) }, effects: [] };
}

export function startupFailed(state: BootingState, event: WorkerEventOf<"startupFailed">, spec: PoolSpec): Transition {
  return failBoot(state, event.at, event.reason, spec);
}

/** It will not become ready: stopped, and counted like a crash. */
function failBoot(state: BootingState, at: Instant, reason: string, spec: PoolSpec): Transition {
  const emitted = emit(state, spec, { kind: "unready", reason });
  return afterEffects([emitted], beginStop(state, at, { cause: "startup", reason, next: "restart" }, spec));
}

/** The reason why it is not ready yet is known or has changed. */
export function waitsInBoot(state: BootingState, event: WorkerEventOf<"waiting">, spec: PoolSpec): Transition {
  const { at, reason } = event;
  const emitted = emit(state, spec, { kind: "waiting", afterMs: at - state.spawnedAt, reason });
  return { state: { ...state, waitsFor: reason }, effects: [emitted] };
}
