/**
 * Whether anybody accepts from a shared socket. An accept queue that is never empty is no proof of the opposite: under load
 * it fills as fast as it is emptied. Nobody accepts where connections that were seen to wait still do, all of them: the
 * queue is served in order, so that the first accept would have taken one of them. Pure.
 */
import type { Instant } from "../base/time.ts";

/** One look at a queue. */
export interface QueueSample {
  readonly at: Instant;
  readonly length: number;
  /** What tells the waiting connections apart; undefined where it was not asked for or cannot be known. */
  readonly waiting: ReadonlySet<string> | undefined;
}

/** What is remembered of a queue. */
export interface QueueState {
  /** Looks in a row at which somebody waited. */
  readonly filled: number;
  /** Connections that wait, all of them since this moment. */
  readonly held: { readonly since: Instant; readonly waiting: ReadonlySet<string> } | undefined;
}

export const EMPTY_QUEUE: QueueState = { filled: 0, held: undefined };

/** From so many filled looks in a row on, the connections are to be told apart. */
const SUSPICIOUS = 2;

/** Whether the next look has to tell the connections apart. */
export function isSuspicious({ filled }: QueueState): boolean {
  return filled >= SUSPICIOUS;
}

export function foldQueue(state: QueueState, { at, length, waiting }: QueueSample): QueueState {
  if (length === 0) return EMPTY_QUEUE;
  const filled = state.filled + 1;
  if (waiting === undefined || waiting.size === 0) return { filled, held: undefined };
  const { held } = state;
  const isHeld = held !== undefined && [...held.waiting].every((connection) => waiting.has(connection));
  return { filled, held: isHeld ? held : { since: at, waiting } };
}

/** How long nobody has accepted, as far as is known. */
export function stalledMs({ held }: QueueState, now: Instant): number {
  return held === undefined ? 0 : now - held.since;
}

/** How long workers that were never seen to wait on their socket may leave connections waiting. */
const UNSEEN_BOUND_MS = 5000;

/** The same for workers that were: single-threaded ones may all be busy with long requests. */
const SEEN_BOUND_MS = 30_000;

/** How long nobody may have accepted before the workers of a pool count as not ready. */
export function stallBoundMs(wasSeenToWait: boolean): number {
  return wasSeenToWait ? SEEN_BOUND_MS : UNSEEN_BOUND_MS;
}
