/** Whether a worker that ended by itself may run again, and after how long: a sliding budget and a growing wait. */

import type { Instant } from "../base/time.ts";
import { formatDuration } from "../base/units.ts";
import type { RestartPolicy } from "./spec.ts";

/** What a slot remembers of its unplanned exits. */
export interface CrashHistory {
  /** Unplanned exits inside the budget's window, newest first. */
  readonly recent: readonly Instant[];
  /** Crashes in a row without an uptime of `resetAfterMs` between them. */
  readonly streak: number;
  /** How long the process lived that crashed last; 0 before any crash. */
  readonly lastUptimeMs: number;
}

export const NO_CRASHES: CrashHistory = { recent: [], streak: 0, lastUptimeMs: 0 };

/**
 * How long a worker must live after its crashes before it may count as ready where no probe tells: `settleMs` after the
 * first crash, and from the second crash in a row on twice its last life, so that a crash loop never looks ready.
 */
export function decideProvingMs(
  { streak, lastUptimeMs }: CrashHistory,
  policy: RestartPolicy,
  settleMs: number,
): number {
  if (streak === 0) return 0;
  if (streak === 1) return settleMs;
  return Math.max(settleMs, Math.min(2 * lastUptimeMs, policy.backoff.resetAfterMs));
}

export type RestartDecision =
  | { readonly kind: "restart"; readonly delayMs: number; readonly history: CrashHistory; readonly reason: string }
  | { readonly kind: "give-up"; readonly history: CrashHistory; readonly reason: string };

/**
 * Decides after an unplanned exit at `at` of a process that lived `uptimeMs`. `random` is 0 … 1 and only spreads the
 * wait. Without a budget only the newest exits are remembered, so the history stays bounded.
 */
export function decideRestart(
  history: CrashHistory,
  at: Instant,
  uptimeMs: number,
  random: number,
  policy: RestartPolicy,
): RestartDecision {
  const { maxRestarts, windowMs, backoff } = policy;
  const remembered = maxRestarts === undefined ? 1 : maxRestarts + 1;
  const recent = [at, ...history.recent].filter((exit) => at - exit <= windowMs).slice(0, remembered);
  const streak = uptimeMs >= backoff.resetAfterMs ? 1 : history.streak + 1;
  const next: CrashHistory = { recent, streak, lastUptimeMs: uptimeMs };
  if (maxRestarts !== undefined && recent.length > maxRestarts) {
    const times = `${recent.length} unplanned exit${recent.length === 1 ? "" : "s"}`;
    return {
      kind: "give-up",
      history: next,
      reason: `${times} within ${formatDuration(windowMs)}, allowed are ${maxRestarts}`,
    };
  }
  if (streak === 1) return { kind: "restart", delayMs: 0, history: next, reason: "first crash: restart at once" };
  // Bounded, because 0 times infinity after a very long streak would be no number.
  const growth = Math.min(backoff.factor ** (streak - 2), Number.MAX_VALUE);
  const waitMs = Math.min(backoff.initialMs * growth, backoff.maxMs);
  const delayMs = Math.max(0, waitMs * (1 + backoff.jitter * (2 * random - 1)));
  return {
    kind: "restart",
    delayMs,
    history: next,
    reason: `crash ${streak} in a row: wait ${formatDuration(delayMs)}`,
  };
}
