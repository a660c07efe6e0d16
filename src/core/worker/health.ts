/** What probes and other evidence mean for a worker that was ready once, and whether it serves or stands by. */
import type { Instant } from "../../base/time.ts";
import type { PoolSpec } from "../spec.ts";
import { emit, ignore, type Transition, type WorkerEventOf } from "./event.ts";
import { type BootingState, enter, type ReadyState, type UnreadyState } from "./state.ts";

/** Removed from load balancing at once; the pool decides when to replace it. Its lifespan goes on. */
export function livenessFailed(
  state: ReadyState | UnreadyState,
  { at, reason }: WorkerEventOf<"livenessFailed">,
  spec: PoolSpec,
): Transition {
  if (state.phase === "unready" && state.liveness !== undefined) return ignore(state);
  const readiness = state.phase === "ready" ? "passing" : state.readiness;
  return {
    state: { ...toUnready(state, at, reason), readiness, liveness: { reason, at } },
    effects: [emit(state, spec, { kind: "unready", reason })],
  };
}

export function becameUnready(state: ReadyState, event: WorkerEventOf<"becameUnready">, spec: PoolSpec): Transition {
  const { at, reason } = event;
  return { state: toUnready(state, at, reason), effects: [emit(state, spec, { kind: "unready", reason })] };
}

function toUnready(state: ReadyState | UnreadyState, at: Instant, reason: string): UnreadyState {
  const { deadline, pid, spawnedAt, due } = state;
  return {
    ...enter(state, at, reason),
    phase: "unready",
    deadline,
    pid,
    spawnedAt,
    due,
    readiness: "failing",
    answeredAt: undefined,
    liveness: undefined,
  };
}

/** Its readiness fails in addition to its liveness, or before the proxy balances over it. */
export function becameUnreadyToo(state: UnreadyState): Transition {
  return { state: { ...state, readiness: "failing", answeredAt: undefined }, effects: [] };
}

export function answered<S extends BootingState | UnreadyState>(
  state: S,
  { at }: WorkerEventOf<"answered">,
): Transition {
  return state.answeredAt === undefined ? { state: { ...state, answeredAt: at }, effects: [] } : ignore(state);
}

export function silentInBoot(state: BootingState): Transition {
  return state.answeredAt === undefined ? ignore(state) : { state: { ...state, answeredAt: undefined }, effects: [] };
}

export function readyAgain(state: UnreadyState, event: WorkerEventOf<"becameReady">): Transition {
  return readyIfWell({ ...state, readiness: "passing" }, event.at);
}

export function becameAlive(state: UnreadyState, event: WorkerEventOf<"becameAlive">): Transition {
  return readyIfWell({ ...state, liveness: undefined }, event.at);
}

function readyIfWell(state: UnreadyState, at: Instant): Transition {
  if (state.readiness === "failing" || state.liveness !== undefined) return ignore(state);
  const { deadline, pid, spawnedAt, due } = state;
  const common = enter(state, at, "running");
  return { state: { ...common, phase: "ready", deadline, pid, spawnedAt, due, isStandby: false }, effects: [] };
}

/** The reason why it is unready has changed. While liveness fails, its reason stays. */
export function waitsUnready(
  state: UnreadyState,
  { at, reason }: WorkerEventOf<"waiting">,
  spec: PoolSpec,
): Transition {
  if (state.liveness !== undefined || state.reason === reason) return ignore(state);
  const emitted = emit(state, spec, { kind: "waiting", afterMs: at - state.since, reason });
  return { state: { ...state, reason }, effects: [emitted] };
}

export function promote(state: ReadyState, { reason }: WorkerEventOf<"promote">, spec: PoolSpec): Transition {
  if (!state.isStandby) return ignore(state);
  return { state: { ...state, isStandby: false }, effects: [emit(state, spec, { kind: "promoted", reason })] };
}

export function demote(state: ReadyState): Transition {
  return { state: { ...state, isStandby: true }, effects: [] };
}
