/**
 * Decides whether workers accept connections from a shared socket. A queue that is never empty proves nothing: under load it
 * fills as fast as workers empty it. No worker accepts if all connections that were seen waiting are still waiting: the
 * queue is served in order, so the first accept would have removed one of them. Pure.
 */
import type { Instant } from "../../base/time.ts";

/** One sample of a queue. */
export interface QueueSample {
  readonly at: Instant;
  readonly length: number;
  /** Identities of the waiting connections; undefined if not requested or unknown. */
  readonly waiting: ReadonlySet<string> | undefined;
}

/** State kept for a queue. */
export interface QueueState {
  /** Consecutive samples with waiting connections. */
  readonly filled: number;
  /** Connections that have all been waiting since this moment. */
  readonly held: { readonly since: Instant; readonly waiting: ReadonlySet<string> } | undefined;
}

export const EMPTY_QUEUE: QueueState = { filled: 0, held: undefined };

/** After this many consecutive non-empty samples the connections must be identified. */
const SUSPICIOUS = 2;

/** Whether the next sample must identify the connections. */
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

/** How long no worker has accepted a connection, as far as is known. */
export function stalledMs({ held }: QueueState, now: Instant): number {
  return held === undefined ? 0 : now - held.since;
}

/** Bound for pools whose workers were never seen waiting on their socket. */
const UNSEEN_BOUND_MS = 5000;

/** Bound for pools whose workers were: single-threaded workers may all be busy with long requests. */
const SEEN_BOUND_MS = 30_000;

/** How long the workers of a pool may accept no connection before they count as unready. */
export function stallBoundMs(wasSeenToWait: boolean): number {
  return wasSeenToWait ? SEEN_BOUND_MS : UNSEEN_BOUND_MS;
}
