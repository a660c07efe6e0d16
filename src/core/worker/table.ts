/**
 * The worker state machine: a total table of phases and events; a missing cell does not compile. Every change of a
 * worker's state goes through it, and docs/states.md is generated from it. It decides without side effects: effects are
 * returned, and time and chance come with the event.
 */
import { InvariantError } from "../../base/errors.ts";
import type { PoolSpec } from "../spec.ts";
import { crashed } from "./crash.ts";
import { ignore, type Transition, type WorkerEvent, type WorkerEventKind, type WorkerEventOf } from "./event.ts";
import {
  answered,
  becameAlive,
  becameUnready,
  becameUnreadyToo,
  demote,
  livenessFailed,
  promote,
  readyAgain,
  silentInBoot,
  waitsUnready,
} from "./health.ts";
import {
  hardLimitInBoot,
  hardLimitInStop,
  lifespanIsOver,
  limitReached,
  relimit,
  replace,
  reprieve,
} from "./limits.ts";
import { admit } from "./spawn.ts";
import {
  bootDeadline,
  excuse,
  extendBoot,
  readyAfterBoot,
  release,
  spawned,
  spawnFailed,
  start,
  startAtDeadline,
  startupFailed,
  waitsInBoot,
} from "./start.ts";
import type { WorkerState } from "./state.ts";
import {
  countInFlight,
  drained,
  endDrain,
  exitedDraining,
  exitedStopping,
  extendGrace,
  graceIsOver,
  killLeaving,
  killRunning,
  killSpawning,
  killWaiting,
  stop,
  stopAgain,
  stopBooting,
  stopDraining,
  stopSpawning,
  stopWaiting,
  vacated,
} from "./stop.ts";

type Cell<P extends WorkerState["phase"], K extends WorkerEventKind> = (
  state: Extract<WorkerState, { phase: P }>,
  event: WorkerEventOf<K>,
  spec: PoolSpec,
) => Transition;

type Table = { readonly [P in WorkerState["phase"]]: { readonly [K in WorkerEventKind]: Cell<P, K> } };

/** Whether `event` is about a process or a deadline that the slot no longer has. */
export function isStale(state: WorkerState, event: WorkerEvent): boolean {
  // A timer may fire while the event that ends its phase waits to be handled.
  if (event.kind === "deadline") return state.deadline === undefined || event.at < state.deadline;
  return "incarnation" in event && event.incarnation !== state.incarnation;
}

/** Decides what `event` means for the worker. A stale event changes nothing. */
export function stepWorker(state: WorkerState, event: WorkerEvent, spec: PoolSpec): Transition {
  if (isStale(state, event)) return ignore(state);
  const row: { readonly [K in WorkerEventKind]: unknown } = table[state.phase];
  return (row[event.kind] as (s: WorkerState, e: WorkerEvent, p: PoolSpec) => Transition)(state, event, spec);
}

function impossible(state: WorkerState, event: WorkerEvent): Transition {
  throw new InvariantError(`impossible event ${JSON.stringify(event)} in worker state ${JSON.stringify(state)}`);
}

/** What a slot without a process makes of an event. A late event of its last process changes nothing. */
const WITHOUT_PROCESS = {
  start: ignore,
  admit: ignore,
  spawned: ignore,
  spawnFailed: ignore,
  answered: ignore,
  becameReady: ignore,
  becameUnready: ignore,
  waiting: ignore,
  startupFailed: ignore,
  livenessFailed: ignore,
  becameAlive: ignore,
  extended: ignore,
  replace: ignore,
  inFlight: ignore,
  limitReached: ignore,
  drained: ignore,
  exited: ignore,
  vacated: ignore,
  release: ignore,
  excuse: ignore,
  relimit: ignore,
  reprieve: ignore,
  promote: ignore,
  demote: ignore,
} as const;

/** What a slot with a process makes of an event, unless its phase says otherwise. */
const WITH_PROCESS = { ...WITHOUT_PROCESS, spawned: impossible, spawnFailed: impossible } as const;

export const table: Table = {
  down: { ...WITHOUT_PROCESS, start, release, excuse, deadline: ignore, stop: ignore, kill: ignore },
  queued: { ...WITHOUT_PROCESS, admit, deadline: startAtDeadline, stop: stopWaiting, kill: killWaiting },
  spawning: {
    ...WITHOUT_PROCESS,
    spawned,
    spawnFailed,
    exited: impossible,
    deadline: ignore,
    stop: stopSpawning,
    kill: killSpawning,
  },
  booting: {
    ...WITH_PROCESS,
    answered,
    becameReady: readyAfterBoot,
    becameUnready: silentInBoot,
    waiting: waitsInBoot,
    startupFailed,
    extended: extendBoot,
    limitReached: hardLimitInBoot,
    relimit,
    exited: crashed,
    deadline: bootDeadline,
    stop: stopBooting,
    kill: killRunning,
  },
  ready: {
    ...WITH_PROCESS,
    becameUnready,
    livenessFailed,
    replace,
    limitReached,
    relimit,
    reprieve,
    promote,
    demote,
    exited: crashed,
    deadline: lifespanIsOver,
    stop,
    kill: killRunning,
  },
  unready: {
    ...WITH_PROCESS,
    answered,
    becameReady: readyAgain,
    becameUnready: becameUnreadyToo,
    waiting: waitsUnready,
    livenessFailed,
    becameAlive,
    replace,
    limitReached,
    relimit,
    reprieve,
    exited: crashed,
    deadline: lifespanIsOver,
    stop,
    kill: killRunning,
  },
  draining: {
    ...WITH_PROCESS,
    inFlight: countInFlight,
    limitReached: hardLimitInStop,
    drained,
    exited: exitedDraining,
    deadline: endDrain,
    stop: stopDraining,
    kill: killLeaving,
  },
  stopping: {
    ...WITH_PROCESS,
    extended: extendGrace,
    limitReached: hardLimitInStop,
    exited: exitedStopping,
    vacated,
    deadline: graceIsOver,
    stop: stopAgain,
    kill: killLeaving,
  },
  backoff: { ...WITHOUT_PROCESS, deadline: startAtDeadline, stop: stopWaiting, kill: killWaiting },
};
