/** The next process of a slot: started, restarted after a crash, or none because the slot is down. */
import { after, type Instant } from "../../base/time.ts";
import { decideExpectedRestart, decideRestart } from "../policy/restart.ts";
import type { PoolSpec } from "../spec.ts";
import { afterEffects, emit, ignore, type Transition, type WorkerEventOf } from "./event.ts";
import {
  awaitsAdmission,
  type BackoffState,
  type DownState,
  enter,
  type QueuedState,
  type SpawningState,
  type StopOrder,
  type WorkerState,
} from "./state.ts";

/** The turn of the next incarnation has come: it starts as soon as it is admitted. */
export function startNext(
  state: WorkerState,
  at: Instant,
  reason: string,
  { settleMs = 0, isRestart = true }: { readonly settleMs?: number; readonly isRestart?: boolean } = {},
): Transition {
  const next: QueuedState = {
    ...enter(state, at, reason),
    phase: "queued",
    deadline: undefined,
    settleMs,
    isRestart,
  };
  return { state: next, effects: [] };
}

/** Requests the spawn of the next incarnation. */
export function admit(state: QueuedState, { at }: WorkerEventOf<"admit">, { revision }: PoolSpec): Transition {
  if (!awaitsAdmission(state)) return ignore(state);
  const { slot, settleMs } = state;
  const incarnation = state.incarnation + 1;
  const next: SpawningState = {
    ...enter(state, at, state.reason),
    incarnation,
    revision,
    phase: "spawning",
    deadline: undefined,
    settleMs,
    pendingStop: undefined,
  };
  return { state: next, effects: [{ kind: "spawn", slot, incarnation, revision }] };
}

/** Down after a stop: held if an operator requested it, completed or failed by the restart policy, otherwise free. */
export function settle(state: WorkerState, at: Instant, order: StopOrder): DownState {
  const kind = order.cause === "operator" ? "held" : (order.ends ?? "free");
  return { ...enter(state, at, order.reason), phase: "down", deadline: undefined, kind };
}

/** After a crash or a failed spawn: restarts within the restart limit. `what` happened after `uptimeMs`. */
export function decideAfterCrash(
  state: WorkerState,
  at: Instant,
  uptimeMs: number,
  random: number,
  what: string,
  spec: PoolSpec,
): Transition {
  if (spec.restart.condition === "never") return endForGood(state, at, `${what}; restart.policy is never`, true, spec);
  const decision = decideRestart(state.crashes, at, uptimeMs, random, spec.restart);
  const reason = `${what}; ${decision.reason}`;
  const remembering: WorkerState = { ...state, crashes: decision.history };
  if (decision.kind === "give-up") {
    const down: DownState = { ...enter(remembering, at, reason), phase: "down", deadline: undefined, kind: "gave-up" };
    return { state: down, effects: [emit(state, spec, { kind: "gave_up", reason })] };
  }
  return restartAfter(remembering, at, decision.delayMs, reason, spec);
}

function restartAfter(state: WorkerState, at: Instant, delayMs: number, reason: string, spec: PoolSpec): Transition {
  const counted: WorkerState = { ...state, restarts: state.restarts + 1 };
  const emitted = emit(state, spec, { kind: "backing_off", delayMs, reason });
  if (delayMs <= 0) return afterEffects([emitted], startNext(counted, at, reason));
  const backoff: BackoffState = { ...enter(counted, at, reason), phase: "backoff", deadline: after(at, delayMs) };
  return { state: backoff, effects: [emitted] };
}

/** It exited by itself, and the restart policy starts no other process. */
export function endForGood(
  state: WorkerState,
  at: Instant,
  reason: string,
  isFailure: boolean,
  spec: PoolSpec,
): Transition {
  const kind = isFailure ? "failed" : "completed";
  const down: DownState = { ...enter(state, at, reason), phase: "down", deadline: undefined, kind };
  return { state: down, effects: [emit(state, spec, { kind: "ended", isFailure, reason })] };
}

/** It exited as expected: the next process starts without counting against the restart limit. */
export function respawnExpected(
  state: WorkerState,
  at: Instant,
  uptimeMs: number,
  random: number,
  what: string,
  spec: PoolSpec,
): Transition {
  const hasBooted = state.phase !== "booting";
  const {
    delayMs,
    history,
    reason: how,
  } = decideExpectedRestart(state.crashes, uptimeMs, hasBooted, random, spec.restart);
  const reason = `${what}, ${how}`;
  const remembering: WorkerState = { ...state, crashes: history };
  if (delayMs > 0) return restartAfter(remembering, at, delayMs, reason, spec);
  const next = { slot: state.slot, incarnation: state.incarnation + 1 };
  const emitted = emit(next, spec, { kind: "starting", delayMs: 0, reason });
  return afterEffects([emitted], startNext(remembering, at, reason));
}
