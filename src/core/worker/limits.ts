/** Limits and rollouts: a worker that reaches a limit is due, and the pool decides when it is replaced. */
import { after, type Instant } from "../../base/time.ts";
import { formatDuration } from "../../base/units.ts";
import type { LimitKind } from "../event.ts";
import { decideLifespanMs } from "../policy/limits.ts";
import type { PoolSpec } from "../spec.ts";
import { afterEffects, emit, ignore, type Transition, type WorkerEventOf } from "./event.ts";
import type { ActiveState, BootingState, DrainingState, ReadyState, StoppingState, UnreadyState } from "./state.ts";
import { beginStop, emitDrained, isKilled, killNow } from "./stop.ts";

/** When a process that was spawned at `spawnedAt` reaches its lifespan; undefined if unlimited. */
export function decideAgesAt(spawnedAt: Instant, random: number, { limits }: PoolSpec): Instant | undefined {
  const lifespanMs = decideLifespanMs(limits, random);
  return lifespanMs === undefined ? undefined : after(spawnedAt, lifespanMs);
}

export function lifespanIsOver(state: ReadyState | UnreadyState, { at }: { at: Instant }, spec: PoolSpec): Transition {
  return becomeDue(state, at, "lifespan", `lived ${formatDuration(at - state.spawnedAt)}`, spec);
}

export function limitReached(
  state: ReadyState | UnreadyState,
  { at, limit, reason }: WorkerEventOf<"limitReached">,
  spec: PoolSpec,
): Transition {
  if (limit !== "memory_hard")
    return state.due === undefined ? becomeDue(state, at, limit, reason, spec) : ignore(state);
  const emitted = emit(state, spec, { kind: "limit_reached", limit, reason });
  // A run that was cut off has failed; another process of a service replaces the killed one.
  const next = spec.type === "oneshot" ? "restart" : "respawn";
  return afterEffects([emitted], beginStop(state, at, { cause: limit, reason, next }, spec));
}

function becomeDue(
  state: ReadyState | UnreadyState,
  at: Instant,
  limit: LimitKind,
  reason: string,
  spec: PoolSpec,
): Transition {
  const due = { cause: limit, reason: `${limit} limit: ${reason}`, at };
  return {
    state: { ...state, deadline: undefined, due },
    effects: [emit(state, spec, { kind: "limit_reached", limit, reason })],
  };
}

/** Above its hard memory limit before it was ready: counts like a crash, because the next process may do the same. */
export function hardLimitInBoot(
  state: BootingState,
  { at, limit, reason }: WorkerEventOf<"limitReached">,
  spec: PoolSpec,
): Transition {
  if (limit !== "memory_hard") return ignore(state);
  const emitted = emit(state, spec, { kind: "limit_reached", limit, reason });
  return afterEffects([emitted], beginStop(state, at, { cause: limit, reason, next: "restart" }, spec));
}

/** Above its hard memory limit while it drains or stops: killed at once, which cuts off requests in flight. */
export function hardLimitInStop(
  state: StoppingState | DrainingState,
  { at, limit, reason }: WorkerEventOf<"limitReached">,
  spec: PoolSpec,
): Transition {
  if (limit !== "memory_hard" || isKilled(state)) return ignore(state);
  const emitted = [emit(state, spec, { kind: "limit_reached", limit, reason })];
  if (state.phase === "draining") emitted.push(emitDrained(state, at, spec));
  return afterEffects(emitted, killNow(state, at, reason, state.order, spec));
}

/** A rollout replaces it. A limit that it reached before takes precedence. */
export function replace(state: ReadyState | UnreadyState, { at, reason }: WorkerEventOf<"replace">): Transition {
  if (state.due !== undefined) return ignore(state);
  return { state: { ...state, deadline: undefined, due: { cause: "rollout", reason, at } }, effects: [] };
}

/** The lifespan of the pool changed; it counts from the spawn. */
export function relimit(state: ActiveState, { random }: WorkerEventOf<"relimit">, spec: PoolSpec): Transition {
  const agesAt = decideAgesAt(state.spawnedAt, random, spec);
  if (state.phase === "booting") return { state: { ...state, agesAt }, effects: [] };
  return state.due === undefined ? { state: { ...state, deadline: agesAt }, effects: [] } : ignore(state);
}

/** Its replacement was abandoned. If its lifespan is over, a new one starts now: it would be due again at once. */
export function reprieve(
  state: ReadyState | UnreadyState,
  { at, random }: WorkerEventOf<"reprieve">,
  spec: PoolSpec,
): Transition {
  const agesAt = decideAgesAt(state.spawnedAt, random, spec);
  const deadline = agesAt !== undefined && agesAt <= at ? decideAgesAt(at, random, spec) : agesAt;
  return { state: { ...state, due: undefined, deadline }, effects: [] };
}
