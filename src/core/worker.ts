/**
 * The worker machine: one slot's process from spawn to the emptiness of its process group. A total table phase × event;
 * a missing cell does not compile. It decides, it touches nothing: effects are returned, time and chance come in with
 * the event.
 *
 * Invariants: at most one live incarnation a slot; one deadline a state, and handling it moves or clears it; an event
 * of an older incarnation never gets here (see isStale); a stop is over only when the whole group is gone.
 */
import { InvariantError } from "../base/errors.ts";
import { after, type Instant } from "../base/time.ts";
import { formatDuration } from "../base/units.ts";
import type { LimitKind, ReplaceReason, StopReason, WorkerLifecycleEvent } from "./event.ts";
import { type ExitStatus, formatExit } from "./exit.ts";
import type { Incarnation, Slot } from "./identity.ts";
import { decideLifespanMs } from "./limits.ts";
import {
  type CrashHistory,
  decideExpectedRestart,
  decideProvingMs,
  decideRestart,
  type ExitVerdict,
  judgeExit,
  NO_CRASHES,
} from "./restart.ts";
import type { PoolSpec } from "./spec.ts";

/** What is to happen when the slot is empty again. */
type Next =
  | "down" /* stay down */
  | "respawn" /* planned: run again, not counted */
  | "restart"; /* unplanned: run again if the policy allows */

interface Common {
  readonly slot: Slot;
  /** Of the live process; where there is none, of the last one. */
  readonly incarnation: Incarnation;
  /** What that process was launched with (PoolSpec.revision); 0 before the first. */
  readonly revision: number;
  /** When this phase began. */
  readonly since: Instant;
  readonly crashes: CrashHistory;
  /** Unplanned restarts so far. */
  readonly restarts: number;
  readonly lastExit: ExitStatus | undefined;
  readonly reason: string;
}

/** A stop that is asked for. */
export interface StopOrder {
  readonly cause: StopReason;
  readonly reason: string;
  readonly next: Next;
  /** The state of the slot after an exit for which `restart.policy` starts no other process. */
  readonly ends?: "completed" | "failed";
  /** A signal that every process of the worker received before this stop, and when the controller received it. */
  readonly hadSignal?: { readonly signal: string; readonly at: Instant } | undefined;
}

/** Why a worker must be replaced, and since when. */
export interface Due {
  readonly cause: ReplaceReason;
  readonly reason: string;
  readonly at: Instant;
}

/** No process; only `start` brings one. */
export interface DownState extends Common {
  readonly phase: "down";
  readonly deadline: undefined;
  /**
   * free: may be used; held: an operator stopped it; gave-up: its restarts are used up; completed, failed: it exited, and
   * `restart.policy` starts no other process.
   */
  readonly kind: "free" | "held" | "gave-up" | "completed" | "failed";
}
/** Waits for its turn, is being spawned, or runs and is not ready yet (pid). */
export interface StartingState extends Common {
  readonly phase: "starting";
  /** Its turn; once it runs, when it counts as ready (spec.readiness "observed") or as failed ("probed"). */
  readonly deadline: Instant | undefined;
  /** How long it must have been seen serving to count as ready, if it has no probes. */
  readonly settleMs: number;
  readonly pid: number | undefined;
  readonly spawnedAt: Instant | undefined;
  /** The end of its lifespan, drawn at the spawn; undefined before the spawn, and if unlimited. */
  readonly agesAt: Instant | undefined;
  /** Since when it is seen serving (spec.readiness "observed"); undefined while it is not. */
  readonly observedAt: Instant | undefined;
  /** What it waits for and what the last attempt returned; undefined while unknown. */
  readonly waitsFor: string | undefined;
  /** A stop that came while the spawn was under way. */
  readonly pendingStop: StopOrder | undefined;
}
export interface ReadyState extends Common {
  readonly phase: "ready";
  /** The end of its lifespan; undefined once it is due, and if unlimited. */
  readonly deadline: Instant | undefined;
  readonly pid: number;
  readonly spawnedAt: Instant;
  /** Why a limit or a rollout requires its replacement, and since when; the pool decides when to replace it. */
  readonly due: Due | undefined;
  /** Kept out of the balance until another one fails; the pool decides. */
  readonly isSpare: boolean;
}
/** Runs, but its readiness or its liveness fails. It is ready again when both pass. */
export interface UnreadyState extends Common {
  readonly phase: "unready";
  readonly deadline: Instant | undefined;
  readonly pid: number;
  readonly spawnedAt: Instant;
  readonly due: Due | undefined;
  readonly readiness: "passing" | "failing";
  /** Why its liveness fails, since when; undefined while it passes. */
  readonly liveness: { readonly reason: string; readonly at: Instant } | undefined;
}
/** Gets no new requests; leaves when the running ones are done or the deadline passes. */
export interface DrainingState extends Common {
  readonly phase: "draining";
  readonly deadline: Instant;
  readonly pid: number;
  readonly spawnedAt: Instant;
  readonly order: StopOrder;
  /** Requests it still works on, as far as is known. */
  readonly inFlight: number;
}
/** Was told to stop, or left survivors in its group; ends when the group is empty. */
export interface StoppingState extends Common {
  readonly phase: "stopping";
  /** When the whole group is killed; undefined once it was. */
  readonly deadline: Instant | undefined;
  readonly pid: number;
  readonly spawnedAt: Instant;
  readonly order: StopOrder;
}
/** Waits before an unplanned restart. */
export interface BackoffState extends Common {
  readonly phase: "backoff";
  readonly deadline: Instant;
}

export type WorkerState =
  | DownState
  | StartingState
  | ReadyState
  | UnreadyState
  | DrainingState
  | StoppingState
  | BackoffState;

/** Events carry the time; `random` is 0 … 1 where a decision needs chance. */
export type WorkerEvent =
  | {
      readonly kind: "start";
      readonly at: Instant;
      readonly delayMs: number;
      /** How long it must be seen to serve to count as ready where no probe tells; 0 unless given. */
      readonly settleMs?: number;
      readonly reason: string;
    }
  | {
      readonly kind: "spawned";
      readonly at: Instant;
      readonly incarnation: Incarnation;
      readonly pid: number;
      readonly random: number;
    }
  | {
      readonly kind: "spawnFailed";
      readonly at: Instant;
      readonly incarnation: Incarnation;
      readonly reason: string;
      readonly random: number;
    }
  /** Its probes pass or, if it has none, it is seen serving. */
  | { readonly kind: "becameReady"; readonly at: Instant; readonly incarnation: Incarnation }
  | { readonly kind: "becameUnready"; readonly at: Instant; readonly incarnation: Incarnation; readonly reason: string }
  | {
      readonly kind: "limitReached";
      readonly at: Instant;
      readonly incarnation: Incarnation;
      readonly limit: LimitKind;
      readonly reason: string;
    }
  /** It runs, but it will not become ready. */
  | { readonly kind: "startupFailed"; readonly at: Instant; readonly incarnation: Incarnation; readonly reason: string }
  /** It runs, but it works no more. */
  | {
      readonly kind: "livenessFailed";
      readonly at: Instant;
      readonly incarnation: Incarnation;
      readonly reason: string;
    }
  /** It works, or works again. */
  | { readonly kind: "becameAlive"; readonly at: Instant; readonly incarnation: Incarnation }
  /** What it waits for to become ready, and what the last attempt returned. */
  | { readonly kind: "waiting"; readonly at: Instant; readonly incarnation: Incarnation; readonly reason: string }
  /** It is to be replaced although it is well. */
  | { readonly kind: "replace"; readonly at: Instant; readonly incarnation: Incarnation; readonly reason: string }
  /** How many requests a worker that drains still works on. */
  | { readonly kind: "inFlight"; readonly at: Instant; readonly incarnation: Incarnation; readonly count: number }
  | { readonly kind: "drained"; readonly at: Instant; readonly incarnation: Incarnation }
  /** The leader was reaped; `survivors` tells whether its group or session still has processes. */
  | {
      readonly kind: "exited";
      readonly at: Instant;
      readonly incarnation: Incarnation;
      readonly status: ExitStatus;
      readonly survivors: boolean;
      readonly random: number;
      /** Whether the controller was shutting down while its workers were still to serve; false unless given. */
      readonly isDuringShutdown?: boolean;
    }
  /** The last survivor is gone. */
  | { readonly kind: "vacated"; readonly at: Instant; readonly incarnation: Incarnation; readonly random: number }
  | { readonly kind: "deadline"; readonly at: Instant; readonly random: number }
  | { readonly kind: "stop"; readonly at: Instant; readonly order: StopOrder }
  | { readonly kind: "kill"; readonly at: Instant; readonly reason: string };

export type WorkerEventKind = WorkerEvent["kind"];

/**
 * What the driver has to do. `signal` goes to the whole group, and to processes that left it once the leader is gone;
 * scope "leader" goes to the leader alone, scope "escaped" spares the group. `kill` is SIGKILL to the group and to all that left it.
 */
export type WorkerEffect =
  | { readonly kind: "spawn"; readonly slot: Slot; readonly incarnation: Incarnation; readonly revision: number }
  | {
      readonly kind: "signal";
      readonly slot: Slot;
      readonly incarnation: Incarnation;
      readonly pid: number;
      readonly signal: string;
      readonly scope: "group" | "leader" | "escaped";
    }
  | { readonly kind: "kill"; readonly slot: Slot; readonly incarnation: Incarnation; readonly pid: number }
  | { readonly kind: "tell"; readonly event: WorkerLifecycleEvent };

export interface Transition {
  readonly state: WorkerState;
  readonly effects: readonly WorkerEffect[];
}

type Cell<P extends WorkerState["phase"], K extends WorkerEventKind> = (
  state: Extract<WorkerState, { phase: P }>,
  event: Extract<WorkerEvent, { kind: K }>,
  spec: PoolSpec,
) => Transition;

type Table = { readonly [P in WorkerState["phase"]]: { readonly [K in WorkerEventKind]: Cell<P, K> } };

type Running = StartingState | ReadyState | UnreadyState | DrainingState | StoppingState;

/** An empty slot at its birth. */
export function newWorker(slot: Slot, at: Instant): WorkerState {
  const common = {
    slot,
    incarnation: 0,
    revision: 0,
    since: at,
    crashes: NO_CRASHES,
    restarts: 0,
    lastExit: undefined,
  };
  return { ...common, phase: "down", deadline: undefined, kind: "free", reason: "not started yet" };
}

/** Whether `event` is about a process that no longer lives in the slot. */
export function isStale(state: WorkerState, event: WorkerEvent): boolean {
  return "incarnation" in event && event.incarnation !== state.incarnation;
}

/** Decides what `event` means for the worker. A stale event changes nothing. */
export function stepWorker(state: WorkerState, event: WorkerEvent, spec: PoolSpec): Transition {
  if (isStale(state, event)) return { state, effects: [] };
  const row: { readonly [K in WorkerEventKind]: unknown } = table[state.phase];
  return (row[event.kind] as (s: WorkerState, e: WorkerEvent, p: PoolSpec) => Transition)(state, event, spec);
}

function common(state: WorkerState, at: Instant, reason: string): Common {
  const { slot, incarnation, revision, crashes, restarts, lastExit } = state;
  return { slot, incarnation, revision, since: at, crashes, restarts, lastExit, reason };
}

function tell(state: WorkerState, spec: PoolSpec, event: TellBody): WorkerEffect {
  const base = { pool: spec.name, slot: state.slot, incarnation: state.incarnation };
  return { kind: "tell", event: { ...base, ...event } };
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
type TellBody = DistributiveOmit<WorkerLifecycleEvent, "pool" | "slot" | "incarnation">;

function ignore(state: WorkerState): Transition {
  return { state, effects: [] };
}

function impossible(state: WorkerState, event: WorkerEvent): Transition {
  throw new InvariantError(`impossible event ${JSON.stringify(event)} in worker state ${JSON.stringify(state)}`);
}

/** Fields that are unknown before the spawn. */
const UNBORN = {
  pid: undefined,
  spawnedAt: undefined,
  agesAt: undefined,
  observedAt: undefined,
  waitsFor: undefined,
  pendingStop: undefined,
} as const;

function spawnNext(
  state: WorkerState,
  at: Instant,
  reason: string,
  spec: PoolSpec,
  settleMs = state.phase === "starting" ? state.settleMs : 0,
): Transition {
  const next: StartingState = {
    ...common(state, at, reason),
    incarnation: state.incarnation + 1,
    revision: spec.revision,
    phase: "starting",
    deadline: undefined,
    settleMs,
    ...UNBORN,
  };
  const { slot, incarnation, revision } = next;
  return { state: next, effects: [{ kind: "spawn", slot, incarnation, revision }] };
}

function start(state: WorkerState, event: Extract<WorkerEvent, { kind: "start" }>, spec: PoolSpec): Transition {
  const told = tell({ ...state, incarnation: state.incarnation + 1 }, spec, {
    kind: "starting",
    delayMs: event.delayMs,
    reason: event.reason,
  });
  const waiting: StartingState = {
    ...common(state, event.at, event.reason),
    crashes: NO_CRASHES,
    phase: "starting",
    deadline: after(event.at, event.delayMs),
    settleMs: event.settleMs ?? 0,
    ...UNBORN,
  };
  if (event.delayMs > 0) return { state: waiting, effects: [told] };
  const { state: next, effects } = spawnNext(waiting, event.at, event.reason, spec);
  return { state: next, effects: [told, ...effects] };
}

function becomeReady(state: StartingState, at: Instant, spec: PoolSpec, pid: number, spawnedAt: Instant): Transition {
  const ready: ReadyState = {
    ...common(state, at, "running"),
    phase: "ready",
    deadline: state.agesAt,
    pid,
    spawnedAt,
    due: undefined,
    isSpare: false,
  };
  const evidence = spec.readiness.kind === "probed" ? "probe" : state.observedAt === undefined ? "none" : "listening";
  const told = tell(state, spec, { kind: "ready", afterMs: at - spawnedAt, evidence });
  if (ready.deadline === undefined || ready.deadline > at) return { state: ready, effects: [told] };
  // Its lifespan ended while it started.
  const next = lifespanIsOver(ready, { at }, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

function spawned(state: StartingState, event: Extract<WorkerEvent, { kind: "spawned" }>, spec: PoolSpec): Transition {
  const told = tell(state, spec, { kind: "spawned", pid: event.pid, revision: state.revision });
  const { at, pid } = event;
  const lifespanMs = decideLifespanMs(spec.limits, event.random);
  const agesAt = lifespanMs === undefined ? undefined : after(at, lifespanMs);
  const alive: StartingState = { ...state, pid, spawnedAt: at, agesAt };
  const next =
    state.pendingStop === undefined
      ? awaitReadiness(alive, at, spec, pid, at)
      : beginStop(alive, pid, at, at, state.pendingStop, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

/** It runs: ready when it answers its probes or is seen serving; without either, when it has run long enough. */
function awaitReadiness(
  state: StartingState,
  at: Instant,
  spec: PoolSpec,
  pid: number,
  spawnedAt: Instant,
): Transition {
  if (spec.readiness.kind === "probed") {
    const { timeoutMs } = spec.readiness;
    return {
      state: { ...state, deadline: timeoutMs === undefined ? undefined : after(spawnedAt, timeoutMs) },
      effects: [],
    };
  }
  const readyAt = decideReadyAt(state, spawnedAt, spec.readiness.surviveMs, spec);
  if (readyAt <= at) return becomeReady(state, at, spec, pid, spawnedAt);
  return { state: { ...state, deadline: readyAt }, effects: [] };
}

/** When a worker without probes counts as ready, as far as is known now. */
function decideReadyAt(state: StartingState, spawnedAt: Instant, surviveMs: number, spec: PoolSpec): Instant {
  const { observedAt, settleMs, crashes } = state;
  const proved = after(spawnedAt, decideProvingMs(crashes, spec.restart, spec.rollout.settleMs));
  const survived = Math.max(after(spawnedAt, surviveMs), proved) as Instant;
  if (observedAt === undefined) return survived;
  return Math.min(survived, Math.max(after(observedAt, settleMs), proved)) as Instant;
}

function spawnFailed(
  state: StartingState,
  event: Extract<WorkerEvent, { kind: "spawnFailed" }>,
  spec: PoolSpec,
): Transition {
  const told = tell(state, spec, { kind: "spawn_failed", reason: event.reason });
  if (state.pendingStop !== undefined && state.pendingStop.next === "down") {
    return { state: settle(state, event.at, state.pendingStop), effects: [told] };
  }
  const next = decideAfterCrash(state, event.at, 0, event.random, event.reason, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

/** Down after a stop: held if an operator requested it, completed or failed by the restart policy, otherwise free. */
function settle(state: WorkerState, at: Instant, order: StopOrder): DownState {
  const kind = order.cause === "operator" ? "held" : (order.ends ?? "free");
  return { ...common(state, at, order.reason), phase: "down", deadline: undefined, kind };
}

function decideAfterCrash(
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
    const down: DownState = { ...common(remembering, at, reason), phase: "down", deadline: undefined, kind: "gave-up" };
    return { state: down, effects: [tell(state, spec, { kind: "gave_up", reason })] };
  }
  return restartAfter(remembering, at, decision.delayMs, reason, spec);
}

function restartAfter(state: WorkerState, at: Instant, delayMs: number, reason: string, spec: PoolSpec): Transition {
  const counted: WorkerState = { ...state, restarts: state.restarts + 1 };
  const told = tell(state, spec, { kind: "backing_off", delayMs, reason });
  if (delayMs > 0) {
    const backoff: BackoffState = { ...common(counted, at, reason), phase: "backoff", deadline: after(at, delayMs) };
    return { state: backoff, effects: [told] };
  }
  const next = spawnNext(counted, at, reason, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

/** It exited by itself, and the restart policy starts no other process. */
function endForGood(state: WorkerState, at: Instant, reason: string, isFailure: boolean, spec: PoolSpec): Transition {
  const kind = isFailure ? "failed" : "completed";
  const down: DownState = { ...common(state, at, reason), phase: "down", deadline: undefined, kind };
  return { state: down, effects: [tell(state, spec, { kind: "ended", isFailure, reason })] };
}

/** It exited as expected: the next process starts without counting against the slot. */
function respawnExpected(
  state: StartingState | ReadyState | UnreadyState,
  at: Instant,
  uptimeMs: number,
  random: number,
  what: string,
  spec: PoolSpec,
): Transition {
  const {
    delayMs,
    history,
    reason: how,
  } = decideExpectedRestart(state.crashes, uptimeMs, state.phase !== "starting", random, spec.restart);
  const reason = `${what}, ${how}`;
  const remembering: WorkerState = { ...state, crashes: history };
  if (delayMs > 0) return restartAfter(remembering, at, delayMs, reason, spec);
  const next = spawnNext(remembering, at, reason, spec, 0);
  const told = tell(next.state, spec, { kind: "starting", delayMs: 0, reason });
  return { state: next.state, effects: [told, ...next.effects] };
}

/** Stops that nothing in front of the worker can soften: it is broken, or all traffic has ended already. */
const WITHOUT_DRAIN: ReadonlySet<StopReason> = new Set([
  "shutdown",
  "memory_hard",
  "liveness",
  "startup",
  "survivors",
] satisfies StopReason[]);

/** It is to leave: first no new requests where somebody can send them elsewhere, then the stop signal. */
function beginLeave(state: ReadyState | UnreadyState, at: Instant, order: StopOrder, spec: PoolSpec): Transition {
  if (spec.drainMs === undefined || spec.drainMs <= 0 || WITHOUT_DRAIN.has(order.cause)) {
    return beginStop(state, state.pid, state.spawnedAt, at, order, spec);
  }
  const { pid, spawnedAt } = state;
  const draining: DrainingState = {
    ...common(state, at, order.reason),
    phase: "draining",
    deadline: after(at, spec.drainMs),
    pid,
    spawnedAt,
    order,
    inFlight: 0,
  };
  const told = tell(state, spec, { kind: "draining", pid, boundMs: spec.drainMs, reason: order.reason });
  return { state: draining, effects: [told] };
}

function beginStop(
  state: Exclude<Running, StoppingState>,
  pid: number,
  spawnedAt: Instant,
  at: Instant,
  order: StopOrder,
  spec: PoolSpec,
): Transition {
  // A proxy that does not answer does not handle signals either: the same thread would.
  const isDeaf = order.cause === "liveness" && spec.role === "proxy";
  const graceMs = order.cause === "memory_hard" || isDeaf ? 0 : spec.signalTimeoutMs;
  const hard = graceMs <= 0;
  const stopping: StoppingState = {
    ...common(state, at, order.reason),
    phase: "stopping",
    deadline: hard ? undefined : after(at, graceMs),
    pid,
    spawnedAt,
    order,
  };
  const signal = hard ? "SIGKILL" : spec.stopSignal;
  const isSignaled = !hard && hasHadStopSignal(stopping, spec);
  const reason = isSignaled ? `${order.reason}; it has received ${signal} already` : order.reason;
  const told = tell(state, spec, { kind: "stopping", pid, signal, graceMs, cause: order.cause, reason });
  // Many servers treat a second signal as a request to stop immediately.
  if (isSignaled) return { state: stopping, effects: [told] };
  const { slot, incarnation } = state;
  // Without its leader a group is all that is left.
  const scope = order.cause === "survivors" ? "group" : spec.stopSignalTarget;
  const act: WorkerEffect = hard
    ? { kind: "kill", slot, incarnation, pid }
    : { kind: "signal", slot, incarnation, pid, signal, scope };
  return { state: stopping, effects: [told, act] };
}

/** Whether the processes of a stopping worker received the stop signal together with the controller. */
function hasHadStopSignal({ order, spawnedAt }: StoppingState, { stopSignal, role }: PoolSpec): boolean {
  const { hadSignal } = order;
  // A proxy blocks signals.
  return role === "workers" && hadSignal !== undefined && hadSignal.signal === stopSignal && spawnedAt < hadSignal.at;
}

function exitedTold(
  state: Running,
  pid: number,
  spawnedAt: Instant,
  event: Extract<WorkerEvent, { kind: "exited" }>,
  spec: PoolSpec,
  planned: boolean,
  cause?: "expected" | "completed",
): WorkerEffect {
  const uptimeMs = event.at - spawnedAt;
  const body = { kind: "exited", pid, status: event.status, planned, uptimeMs } as const;
  return tell(state, spec, cause === undefined ? body : { ...body, cause });
}

/** What an unrequested exit of a leader means. */
function verdictOf(event: Extract<WorkerEvent, { kind: "exited" }>, spec: PoolSpec): ExitVerdict {
  const { status, isDuringShutdown = false } = event;
  return judgeExit({ status, isDuringShutdown }, spec.stopSignal, spec.restart);
}

function causeOf(verdict: ExitVerdict): "expected" | "completed" | undefined {
  if (verdict.kind === "expected") return "expected";
  return verdict.kind === "final" && !verdict.isFailure ? "completed" : undefined;
}

/** What to do when the survivors of an exit have exited. */
function orderAfter(verdict: ExitVerdict, what: string): StopOrder {
  const common = { cause: "survivors", reason: `${what}, processes of its group are left` } as const;
  switch (verdict.kind) {
    case "crash":
      return { ...common, next: "restart" };
    case "expected":
      return { ...common, next: "respawn" };
    case "final":
      return { ...common, next: "down", ends: verdict.isFailure ? "failed" : "completed" };
  }
}

/** The leader ended by itself. Survivors of its group must go before the slot may be used again. */
function crashed(
  state: StartingState | ReadyState | UnreadyState,
  event: Extract<WorkerEvent, { kind: "exited" }>,
  spec: PoolSpec,
): Transition {
  if (state.pid === undefined || state.spawnedAt === undefined) return impossible(state, event);
  const { pid, spawnedAt } = state;
  const verdict = verdictOf(event, spec);
  const exit = formatExit(event.status);
  const what = verdict.kind === "crash" ? exit : `${exit}: ${verdict.reason}`;
  const gone = { ...state, lastExit: event.status };
  const cause = causeOf(verdict);
  const told = exitedTold(state, pid, spawnedAt, event, spec, cause !== undefined, cause);
  const next = event.survivors
    ? beginStop(gone, pid, spawnedAt, event.at, orderAfter(verdict, what), spec)
    : afterExit(gone, verdict, event, event.at - spawnedAt, what, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

function afterExit(
  gone: StartingState | ReadyState | UnreadyState,
  verdict: ExitVerdict,
  { at, random }: Extract<WorkerEvent, { kind: "exited" }>,
  uptimeMs: number,
  what: string,
  spec: PoolSpec,
): Transition {
  switch (verdict.kind) {
    case "crash":
      return decideAfterCrash(gone, at, uptimeMs, random, what, spec);
    case "expected":
      return respawnExpected(gone, at, uptimeMs, random, what, spec);
    case "final":
      return endForGood(gone, at, what, verdict.isFailure, spec);
  }
}

/** The leader ended while it drained: what it was told to do is done, if nothing of its group is left. */
function exitedDraining(
  state: DrainingState,
  event: Extract<WorkerEvent, { kind: "exited" }>,
  spec: PoolSpec,
): Transition {
  const told = exitedTold(state, state.pid, state.spawnedAt, event, spec, true);
  const gone: DrainingState = { ...state, lastExit: event.status };
  const stopping = beginStop(gone, state.pid, state.spawnedAt, event.at, state.order, spec);
  if (event.survivors) return { state: stopping.state, effects: [told, ...stopping.effects] };
  const next = emptied(stopping.state as StoppingState, event.at, event.random, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

function exitedStopping(
  state: StoppingState,
  event: Extract<WorkerEvent, { kind: "exited" }>,
  spec: PoolSpec,
): Transition {
  const told = exitedTold(state, state.pid, state.spawnedAt, event, spec, true);
  const gone: StoppingState = { ...state, lastExit: event.status };
  if (event.survivors) {
    // The group has received its signal, unless the target is the leader. Processes that left the group are known only
    // now.
    const { slot, incarnation, pid } = state;
    const scope = spec.stopSignalTarget === "leader" ? "group" : "escaped";
    const signal: WorkerEffect = { kind: "signal", slot, incarnation, pid, signal: spec.stopSignal, scope };
    const kill: WorkerEffect = { kind: "kill", slot, incarnation, pid };
    const act = state.deadline === undefined ? [kill] : hasHadStopSignal(state, spec) ? [] : [signal];
    return { state: gone, effects: [told, ...act] };
  }
  const next = emptied(gone, event.at, event.random, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

/** The slot is empty: do what was to be done next. */
function emptied(state: StoppingState, at: Instant, random: number, spec: PoolSpec): Transition {
  const { order } = state;
  const stays = order.next === "down";
  const told = tell(state, spec, {
    kind: "stopped",
    durationMs: at - state.since,
    next: stays ? "stay down" : "respawn",
  });
  if (order.next === "down") {
    const { ends, reason } = order;
    const ended =
      ends === undefined ? [] : [tell(state, spec, { kind: "ended", isFailure: ends === "failed", reason })];
    return { state: settle(state, at, order), effects: [told, ...ended] };
  }
  const next =
    order.next === "respawn"
      ? // The next one may only go when this one is known to run: it would fail like all.
        spawnNext({ ...state, crashes: NO_CRASHES }, at, `replaced: ${order.reason}`, spec, spec.rollout.settleMs)
      : decideAfterCrash(state, at, state.since - state.spawnedAt, random, order.reason, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

function vacated(state: StoppingState, event: Extract<WorkerEvent, { kind: "vacated" }>, spec: PoolSpec): Transition {
  return emptied(state, event.at, event.random, spec);
}

function stopWaiting(state: StartingState, event: Extract<WorkerEvent, { kind: "stop" }>, spec: PoolSpec): Transition {
  if (state.pid !== undefined && state.spawnedAt !== undefined) {
    return beginStop(state, state.pid, state.spawnedAt, event.at, event.order, spec);
  }
  if (state.deadline === undefined) return { state: { ...state, pendingStop: event.order }, effects: [] };
  return { state: settle(state, event.at, event.order), effects: [] };
}

function stop(
  state: ReadyState | UnreadyState,
  event: Extract<WorkerEvent, { kind: "stop" }>,
  spec: PoolSpec,
): Transition {
  return beginLeave(state, event.at, event.order, spec);
}

function stopBackoff(state: BackoffState, event: Extract<WorkerEvent, { kind: "stop" }>): Transition {
  return { state: settle(state, event.at, event.order), effects: [] };
}

/**
 * A stop during a stop can only make it final: shutdown overrules a planned respawn. What is final stays, but a slot that
 * an operator holds, or that has completed, is free when there are too many.
 */
function stopAgain(state: StoppingState | DrainingState, event: Extract<WorkerEvent, { kind: "stop" }>): Transition {
  const staysInUse = state.order.cause === "operator" || state.order.ends !== undefined;
  const isSurplus = staysInUse && event.order.cause === "scale";
  if (event.order.next !== "down" || (state.order.next === "down" && !isSurplus)) return ignore(state);
  return { state: { ...state, order: event.order, reason: event.order.reason }, effects: [] };
}

/** At a shutdown all traffic has ended before workers are stopped, so there is nothing left to wait for. */
function stopDraining(state: DrainingState, event: Extract<WorkerEvent, { kind: "stop" }>, spec: PoolSpec): Transition {
  const next = stopAgain(state, event).state as DrainingState;
  return WITHOUT_DRAIN.has(event.order.cause) ? leave(next, event, spec) : { state: next, effects: [] };
}

function killNow(
  state: StoppingState | DrainingState | ReadyState | UnreadyState,
  at: Instant,
  reason: string,
  order: StopOrder,
  spec: PoolSpec,
): Transition {
  const { slot, incarnation, pid, spawnedAt } = state;
  const since = state.phase === "stopping" ? state.since : at;
  const next: StoppingState = {
    ...common(state, since, order.reason),
    phase: "stopping",
    deadline: undefined,
    pid,
    spawnedAt,
    order,
  };
  const kill: WorkerEffect = { kind: "kill", slot, incarnation, pid };
  // Killing again may help (something may have been born meanwhile), but it is no second event.
  const isKilled = state.phase === "stopping" && state.deadline === undefined;
  return { state: next, effects: isKilled ? [kill] : [tell(state, spec, { kind: "killed", pid, reason }), kill] };
}

function graceIsOver(
  state: StoppingState,
  event: Extract<WorkerEvent, { kind: "deadline" }>,
  spec: PoolSpec,
): Transition {
  const reason = `still there ${formatDuration(event.at - state.since)} after ${spec.stopSignal}`;
  return killNow(state, event.at, reason, state.order, spec);
}

function killLeaving(
  state: StoppingState | DrainingState,
  event: Extract<WorkerEvent, { kind: "kill" }>,
  spec: PoolSpec,
): Transition {
  return killNow(state, event.at, event.reason, { ...state.order, next: "down" }, spec);
}

function killRunning(
  state: ReadyState | UnreadyState,
  event: Extract<WorkerEvent, { kind: "kill" }>,
  spec: PoolSpec,
): Transition {
  return killNow(state, event.at, event.reason, { cause: "shutdown", reason: event.reason, next: "down" }, spec);
}

function killStarting(state: StartingState, event: Extract<WorkerEvent, { kind: "kill" }>, spec: PoolSpec): Transition {
  const order: StopOrder = { cause: "shutdown", reason: event.reason, next: "down" };
  const { pid, spawnedAt } = state;
  if (pid === undefined || spawnedAt === undefined)
    return stopWaiting(state, { kind: "stop", at: event.at, order }, spec);
  const alive: UnreadyState = {
    ...common(state, state.since, state.reason),
    phase: "unready",
    deadline: undefined,
    pid,
    spawnedAt,
    due: undefined,
    readiness: "failing",
    liveness: undefined,
  };
  return killNow(alive, event.at, event.reason, order, spec);
}

function killBackoff(state: BackoffState, event: Extract<WorkerEvent, { kind: "kill" }>): Transition {
  return { state: settle(state, event.at, { cause: "shutdown", reason: event.reason, next: "down" }), effects: [] };
}

/** Its turn came, it has lived long enough to count as ready, or it took too long to become ready. */
function startingDeadline(
  state: StartingState,
  event: Extract<WorkerEvent, { kind: "deadline" }>,
  spec: PoolSpec,
): Transition {
  const { pid, spawnedAt } = state;
  if (pid === undefined || spawnedAt === undefined) return spawnNext(state, event.at, state.reason, spec);
  if (spec.readiness.kind === "observed") return becomeReady(state, event.at, spec, pid, spawnedAt);
  const missing = state.waitsFor === undefined ? "" : `: ${state.waitsFor}`;
  return failStart(
    state,
    event.at,
    `not ready ${formatDuration(event.at - spawnedAt)} after its start${missing}`,
    spec,
  );
}

function startupFailed(
  state: StartingState,
  event: Extract<WorkerEvent, { kind: "startupFailed" }>,
  spec: PoolSpec,
): Transition {
  return failStart(state, event.at, event.reason, spec);
}

/** It will not become ready: stopped, and counted like a crash. */
function failStart(state: StartingState, at: Instant, reason: string, spec: PoolSpec): Transition {
  const { pid, spawnedAt } = state;
  if (pid === undefined || spawnedAt === undefined) return ignore(state);
  const told = tell(state, spec, { kind: "unready", reason });
  const next = beginStop(state, pid, spawnedAt, at, { cause: "startup", reason, next: "restart" }, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

function backoffIsOver(
  state: BackoffState,
  event: Extract<WorkerEvent, { kind: "deadline" }>,
  spec: PoolSpec,
): Transition {
  return spawnNext(state, event.at, state.reason, spec);
}

function lifespanIsOver(state: ReadyState | UnreadyState, event: { at: Instant }, spec: PoolSpec): Transition {
  return overLimit(state, event.at, "lifespan", `lived ${formatDuration(event.at - state.spawnedAt)}`, spec);
}

function limitReached(
  state: ReadyState | UnreadyState,
  event: Extract<WorkerEvent, { kind: "limitReached" }>,
  spec: PoolSpec,
): Transition {
  const { limit, reason } = event;
  if (limit !== "memory_hard")
    return state.due === undefined ? overLimit(state, event.at, limit, reason, spec) : ignore(state);
  const told = tell(state, spec, { kind: "limit_reached", limit, reason });
  const order: StopOrder = { cause: limit, reason, next: "respawn" };
  const next = beginStop(state, state.pid, state.spawnedAt, event.at, order, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

/** Above its hard limit before it was ready: killed, and counted like a crash, for the next one may do the same. */
function hardLimitInStart(
  state: StartingState,
  event: Extract<WorkerEvent, { kind: "limitReached" }>,
  spec: PoolSpec,
): Transition {
  const { pid, spawnedAt } = state;
  const { at, limit, reason } = event;
  if (limit !== "memory_hard" || pid === undefined || spawnedAt === undefined) return ignore(state);
  const told = tell(state, spec, { kind: "limit_reached", limit, reason });
  const next = beginStop(state, pid, spawnedAt, at, { cause: limit, reason, next: "restart" }, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

/** It leaves already, but not soon enough for a hard limit. What is in flight is cut off. */
function hardLimitInLeave(
  state: StoppingState | DrainingState,
  event: Extract<WorkerEvent, { kind: "limitReached" }>,
  spec: PoolSpec,
): Transition {
  const { at, limit, reason } = event;
  const isKilled = state.phase === "stopping" && state.deadline === undefined;
  if (limit !== "memory_hard" || isKilled) return ignore(state);
  const told = [tell(state, spec, { kind: "limit_reached", limit, reason })];
  if (state.phase === "draining")
    told.push(tell(state, spec, { kind: "drained", afterMs: at - state.since, cut: state.inFlight }));
  const next = killNow(state, at, reason, state.order, spec);
  return { state: next.state, effects: [...told, ...next.effects] };
}

function overLimit(
  state: ReadyState | UnreadyState,
  at: Instant,
  limit: LimitKind,
  reason: string,
  spec: PoolSpec,
): Transition {
  const due = { cause: limit, reason: `${limit} limit: ${reason}`, at };
  return {
    state: { ...state, deadline: undefined, due },
    effects: [tell(state, spec, { kind: "limit_reached", limit, reason })],
  };
}

/** A rollout wants another one in its place; that overrules no limit that wants it too. */
function replace(state: ReadyState | UnreadyState, event: Extract<WorkerEvent, { kind: "replace" }>): Transition {
  if (state.due !== undefined) return ignore(state);
  const due = { cause: "rollout" as const, reason: event.reason, at: event.at };
  return { state: { ...state, deadline: undefined, due }, effects: [] };
}

/** Removed from load balancing at once; the pool decides when it is replaced. Its age goes on. */
function livenessFailed(
  state: ReadyState | UnreadyState,
  event: Extract<WorkerEvent, { kind: "livenessFailed" }>,
  spec: PoolSpec,
): Transition {
  if (state.phase === "unready" && state.liveness !== undefined) return ignore(state);
  const { at, reason } = event;
  const readiness = state.phase === "ready" ? "passing" : state.readiness;
  return {
    state: { ...toUnready(state, at, reason), readiness, liveness: { reason, at } },
    effects: [tell(state, spec, { kind: "unready", reason })],
  };
}

function toUnready(state: ReadyState | UnreadyState, at: Instant, reason: string): UnreadyState {
  const { deadline, pid, spawnedAt, due } = state;
  return {
    ...common(state, at, reason),
    phase: "unready",
    deadline,
    pid,
    spawnedAt,
    due,
    readiness: "failing",
    liveness: undefined,
  };
}

function readyAfterStart(
  state: StartingState,
  event: Extract<WorkerEvent, { kind: "becameReady" }>,
  spec: PoolSpec,
): Transition {
  const { pid, spawnedAt } = state;
  // A slot that waits for its turn has the number of the process before, whose last answer may be late.
  if (pid === undefined || spawnedAt === undefined) return ignore(state);
  if (spec.readiness.kind === "probed") return becomeReady(state, event.at, spec, pid, spawnedAt);
  if (state.observedAt !== undefined) return ignore(state);
  return awaitReadiness({ ...state, observedAt: event.at }, event.at, spec, pid, spawnedAt);
}

/** Its readiness passes again. */
function readyAgain(state: UnreadyState, event: Extract<WorkerEvent, { kind: "becameReady" }>): Transition {
  return serveIfWell({ ...state, readiness: "passing" }, event.at);
}

/** It recovered before it was replaced. */
function becameAlive(state: UnreadyState, event: Extract<WorkerEvent, { kind: "becameAlive" }>): Transition {
  return serveIfWell({ ...state, liveness: undefined }, event.at);
}

function serveIfWell(state: UnreadyState, at: Instant): Transition {
  if (state.readiness === "failing" || state.liveness !== undefined) return ignore(state);
  const { deadline, pid, spawnedAt, due } = state;
  const ready: ReadyState = {
    ...common(state, at, "running"),
    phase: "ready",
    deadline,
    pid,
    spawnedAt,
    due,
    isSpare: false,
  };
  return { state: ready, effects: [] };
}

function becameUnready(
  state: ReadyState,
  event: Extract<WorkerEvent, { kind: "becameUnready" }>,
  spec: PoolSpec,
): Transition {
  const { at, reason } = event;
  return { state: toUnready(state, at, reason), effects: [tell(state, spec, { kind: "unready", reason })] };
}

/** Its readiness fails too, so that it would not serve if it were alive. */
function becameUnreadyToo(state: UnreadyState): Transition {
  return { state: { ...state, readiness: "failing" }, effects: [] };
}

/** The reason why it is not ready yet is known or has changed. */
function waitsInStart(
  state: StartingState,
  event: Extract<WorkerEvent, { kind: "waiting" }>,
  spec: PoolSpec,
): Transition {
  if (state.pid === undefined || state.spawnedAt === undefined) return ignore(state);
  const { at, reason } = event;
  const told = tell(state, spec, { kind: "waiting", afterMs: at - state.spawnedAt, reason });
  return { state: { ...state, waitsFor: reason }, effects: [told] };
}

/** The reason why it is unready has changed. While liveness fails, its reason stays. */
function waitsUnready(
  state: UnreadyState,
  event: Extract<WorkerEvent, { kind: "waiting" }>,
  spec: PoolSpec,
): Transition {
  if (state.liveness !== undefined || state.reason === event.reason) return ignore(state);
  const { at, reason } = event;
  return {
    state: { ...state, reason },
    effects: [tell(state, spec, { kind: "waiting", afterMs: at - state.since, reason })],
  };
}

function countInFlight(state: DrainingState, event: Extract<WorkerEvent, { kind: "inFlight" }>): Transition {
  return { state: { ...state, inFlight: event.count }, effects: [] };
}

function drained(state: DrainingState, event: Extract<WorkerEvent, { kind: "drained" }>, spec: PoolSpec): Transition {
  return leave({ ...state, inFlight: 0 }, event, spec);
}

/** Drained, or the time for it is over: what is still in flight is cut off by the stop. */
function leave(state: DrainingState, event: { at: Instant }, spec: PoolSpec): Transition {
  const told = tell(state, spec, { kind: "drained", afterMs: event.at - state.since, cut: state.inFlight });
  const next = beginStop(state, state.pid, state.spawnedAt, event.at, state.order, spec);
  return { state: next.state, effects: [told, ...next.effects] };
}

/** Every phase and every event; docs/states.md is printed from it. */
export const table: Table = {
  down: {
    start,
    spawned: ignore,
    spawnFailed: ignore,
    becameReady: ignore,
    becameUnready: ignore,
    limitReached: ignore,
    startupFailed: ignore,
    livenessFailed: ignore,
    becameAlive: ignore,
    waiting: ignore,
    replace: ignore,
    inFlight: ignore,
    drained: ignore,
    exited: ignore,
    vacated: ignore,
    deadline: impossible,
    stop: ignore,
    kill: ignore,
  },
  starting: {
    start: ignore,
    spawned,
    spawnFailed,
    becameReady: readyAfterStart,
    becameUnready: ignore,
    limitReached: hardLimitInStart,
    startupFailed,
    livenessFailed: ignore,
    becameAlive: ignore,
    waiting: waitsInStart,
    replace: ignore,
    inFlight: ignore,
    drained: ignore,
    exited: crashed,
    vacated: ignore,
    deadline: startingDeadline,
    stop: stopWaiting,
    kill: killStarting,
  },
  ready: {
    start: ignore,
    spawned: impossible,
    spawnFailed: impossible,
    becameReady: ignore,
    becameUnready,
    limitReached,
    startupFailed: ignore,
    livenessFailed,
    becameAlive: ignore,
    waiting: ignore,
    replace,
    inFlight: ignore,
    drained: ignore,
    exited: crashed,
    vacated: ignore,
    deadline: lifespanIsOver,
    stop,
    kill: killRunning,
  },
  unready: {
    start: ignore,
    spawned: impossible,
    spawnFailed: impossible,
    becameReady: readyAgain,
    becameUnready: becameUnreadyToo,
    limitReached,
    startupFailed: ignore,
    livenessFailed,
    becameAlive,
    waiting: waitsUnready,
    replace,
    inFlight: ignore,
    drained: ignore,
    exited: crashed,
    vacated: ignore,
    deadline: lifespanIsOver,
    stop,
    kill: killRunning,
  },
  draining: {
    start: ignore,
    spawned: impossible,
    spawnFailed: impossible,
    becameReady: ignore,
    becameUnready: ignore,
    limitReached: hardLimitInLeave,
    startupFailed: ignore,
    livenessFailed: ignore,
    becameAlive: ignore,
    waiting: ignore,
    replace: ignore,
    inFlight: countInFlight,
    drained,
    exited: exitedDraining,
    vacated: ignore,
    deadline: leave,
    stop: stopDraining,
    kill: killLeaving,
  },
  stopping: {
    start: ignore,
    spawned: impossible,
    spawnFailed: impossible,
    becameReady: ignore,
    becameUnready: ignore,
    limitReached: hardLimitInLeave,
    startupFailed: ignore,
    livenessFailed: ignore,
    becameAlive: ignore,
    waiting: ignore,
    replace: ignore,
    inFlight: ignore,
    drained: ignore,
    exited: exitedStopping,
    vacated,
    deadline: graceIsOver,
    stop: stopAgain,
    kill: killLeaving,
  },
  backoff: {
    start: ignore,
    spawned: ignore,
    spawnFailed: ignore,
    becameReady: ignore,
    becameUnready: ignore,
    limitReached: ignore,
    startupFailed: ignore,
    livenessFailed: ignore,
    becameAlive: ignore,
    waiting: ignore,
    replace: ignore,
    inFlight: ignore,
    drained: ignore,
    exited: ignore,
    vacated: ignore,
    deadline: backoffIsOver,
    stop: stopBackoff,
    kill: killBackoff,
  },
};
