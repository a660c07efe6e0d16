/** What happens to a worker, and what the driver must do about it. */
import type { Instant } from "../../base/time.ts";
import type { LimitKind, WorkerLifecycleEvent } from "../event.ts";
import type { ExitStatus } from "../exit.ts";
import type { Incarnation, Slot } from "../identity.ts";
import type { PoolSpec } from "../spec.ts";
import type { StopOrder, WorkerState } from "./state.ts";

/** An event about one process. It is ignored once the slot has another one. */
interface OfProcess {
  readonly at: Instant;
  readonly incarnation: Incarnation;
}

/** Events carry the time; `random` is 0 … 1 where a decision needs chance. */
export type WorkerEvent =
  | {
      readonly kind: "start";
      readonly at: Instant;
      readonly delayMs: number;
      /** How long it must be seen serving to count as ready without probes; 0 unless given. */
      readonly settleMs?: number;
      readonly reason: string;
    }
  /** The pool or the controller allows it to start. */
  | { readonly kind: "admit"; readonly at: Instant }
  | (OfProcess & { readonly kind: "spawned"; readonly pid: number; readonly random: number })
  | (OfProcess & { readonly kind: "spawnFailed"; readonly reason: string; readonly random: number })
  /** Behind a proxy: its probes pass, and the proxy may balance over it. */
  | (OfProcess & { readonly kind: "answered" })
  /** Its probes pass, and its proxy balances over it; without probes, it is seen serving. */
  | (OfProcess & { readonly kind: "becameReady" })
  | (OfProcess & { readonly kind: "becameUnready"; readonly reason: string })
  | (OfProcess & { readonly kind: "limitReached"; readonly limit: LimitKind; readonly reason: string })
  /** It runs, but it will not become ready. */
  | (OfProcess & { readonly kind: "startupFailed"; readonly reason: string })
  | (OfProcess & { readonly kind: "livenessFailed"; readonly reason: string })
  /** Its liveness probe passes for the first time, or again. */
  | (OfProcess & { readonly kind: "becameAlive" })
  /** What it waits for to become ready, and what the last attempt returned. */
  | (OfProcess & { readonly kind: "waiting"; readonly reason: string })
  /** It needs at least this much longer to start or to stop. */
  | (OfProcess & { readonly kind: "extended"; readonly ms: number })
  /** A rollout replaces it. */
  | (OfProcess & { readonly kind: "replace"; readonly reason: string })
  /** How many requests of a draining worker are in flight. */
  | (OfProcess & { readonly kind: "inFlight"; readonly count: number })
  | (OfProcess & { readonly kind: "drained" })
  /** The leader was reaped; `survivors` says whether its group or session still has processes. */
  | (OfProcess & {
      readonly kind: "exited";
      readonly status: ExitStatus;
      readonly survivors: boolean;
      readonly random: number;
      /** Whether the controller was shutting down and its workers were still to serve; false unless given. */
      readonly isDuringShutdown?: boolean;
    })
  /** The last survivor has exited. */
  | (OfProcess & { readonly kind: "vacated"; readonly random: number })
  | { readonly kind: "deadline"; readonly at: Instant; readonly random: number }
  | { readonly kind: "stop"; readonly at: Instant; readonly order: StopOrder }
  | { readonly kind: "kill"; readonly at: Instant; readonly reason: string }
  /** The pool does not keep this slot down any more: it may be used again. */
  | { readonly kind: "release"; readonly at: Instant; readonly reason?: string }
  /** Its failure has ended an operation, so it does not count against the pool as well. */
  | { readonly kind: "excuse"; readonly at: Instant }
  /** The lifespan of the pool changed. */
  | { readonly kind: "relimit"; readonly at: Instant; readonly random: number }
  /** It is not replaced after all, and gets another lifespan, so that the next attempt does not follow at once. */
  | { readonly kind: "reprieve"; readonly at: Instant; readonly random: number }
  /** A standby worker receives requests from now on. */
  | { readonly kind: "promote"; readonly at: Instant; readonly reason: string }
  /** A serving worker becomes a standby worker. */
  | { readonly kind: "demote"; readonly at: Instant };

export type WorkerEventKind = WorkerEvent["kind"];

export type WorkerEventOf<K extends WorkerEventKind> = Extract<WorkerEvent, { kind: K }>;

/**
 * What the driver must do. `signal` goes to the whole group, and to processes that left it once the leader has exited;
 * scope "leader" goes to the leader alone, scope "escaped" excludes the group. `kill` is SIGKILL to the group and to all
 * processes that left it.
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
  | { readonly kind: "emit"; readonly event: WorkerLifecycleEvent };

export interface Transition {
  readonly state: WorkerState;
  readonly effects: readonly WorkerEffect[];
}

/** `Omit` for each member of a union. */
export type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** The effect that emits a lifecycle event of the worker. */
export function emit(
  { slot, incarnation }: Pick<WorkerState, "slot" | "incarnation">,
  { name: pool }: PoolSpec,
  event: DistributiveOmit<WorkerLifecycleEvent, "pool" | "slot" | "incarnation">,
): WorkerEffect {
  return { kind: "emit", event: { pool, slot, incarnation, ...event } };
}

/** `next` after the effects `first`. */
export function afterEffects(first: readonly WorkerEffect[], next: Transition): Transition {
  return { state: next.state, effects: [...first, ...next.effects] };
}

/** A cell of the table: the event changes nothing. */
export function ignore(state: WorkerState): Transition {
  return { state, effects: [] };
}
