/** Whether a worker that exited by itself restarts, and after what backoff: a restart limit in a sliding window. */

import type { Instant } from "../../base/time.ts";
import { formatDuration } from "../../base/units.ts";
import { type ExitStatus, mayFollowStopSignal } from "../exit.ts";
import type { RestartPolicy } from "../spec.ts";

/** What a slot remembers of its unplanned exits. */
export interface CrashHistory {
  /** Crashes and failed starts within the window of the restart limit, newest first. */
  readonly recent: readonly Instant[];
  /** Crashes in a row without an uptime of `resetAfterMs` between them. */
  readonly streak: number;
  /** Uptime of the process that crashed last; 0 before any crash. */
  readonly lastUptimeMs: number;
}

export const NO_CRASHES: CrashHistory = { recent: [], streak: 0, lastUptimeMs: 0 };

/**
 * How long a worker without probes must run after its crashes before it may count as ready: `settleMs` after the first
 * crash. From the second crash in a row, twice its last uptime, so that a crash loop never looks ready.
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

/** What an exit that the controller did not request means. */
export type ExitVerdict =
  /** A failure: counts against the restart limit, with backoff. */
  | { readonly kind: "crash" }
  /** Planned by the worker itself: replaced without counting. */
  | { readonly kind: "expected"; readonly reason: string }
  /** The slot stays down. `isFailure`: the worker failed rather than completed. */
  | { readonly kind: "final"; readonly isFailure: boolean; readonly reason: string };

/** An exit that the controller did not request. */
export interface OwnExit {
  readonly status: ExitStatus;
  /** Whether the controller was shutting down while its workers should still serve. */
  readonly isDuringShutdown: boolean;
}

/** An expected exit with a shorter uptime, or before the worker was ready, may be a loop. */
const SUSPECT_UPTIME_MS = 1000;

/** Decides what an exit means; `stopSignal` is the worker's. */
export function judgeExit(
  { status, isDuringShutdown }: OwnExit,
  stopSignal: string,
  policy: RestartPolicy,
): ExitVerdict {
  // systemd with KillMode=control-group, for one, signals the workers together with the controller.
  if (isDuringShutdown && mayFollowStopSignal(status, stopSignal)) {
    const reason = "the controller is shutting down";
    return policy.condition === "always" ? { kind: "expected", reason } : { kind: "final", isFailure: false, reason };
  }
  const isExpected = status.kind === "code" && policy.expectedExitCodes.includes(status.code);
  const isSuccess = isExpected || (status.kind === "code" && status.code === 0);
  switch (policy.condition) {
    case "always":
      return isExpected ? { kind: "expected", reason: "an expected exit code" } : { kind: "crash" };
    case "on-failure":
      if (!isSuccess) return { kind: "crash" };
      return { kind: "final", isFailure: false, reason: "completed, restart.policy is on-failure" };
    case "never":
      return { kind: "final", isFailure: !isSuccess, reason: "restart.policy is never" };
  }
}

/**
 * Decides after an unplanned exit at `at` of a process that lived `uptimeMs`. `random` is 0 … 1 and only spreads the
 * backoff. Without a restart limit only the newest exit is remembered, so the history stays bounded.
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
    const times = recent.length === 1 ? "1 crash or failed start" : `${recent.length} crashes or failed starts`;
    return {
      kind: "give-up",
      history: next,
      reason: `${times} within ${formatDuration(windowMs)}; the limit is ${maxRestarts}`,
    };
  }
  if (streak === 1) return { kind: "restart", delayMs: 0, history: next, reason: "first crash" };
  const delayMs = backoffMs(streak, random, policy);
  return {
    kind: "restart",
    delayMs,
    history: next,
    reason: `crash ${streak} in a row`,
  };
}

/**
 * Decides after an expected exit: the replacement starts at once. A worker that repeatedly exits right after its start must
 * not spin: from the second such exit in a row it backs off as after crashes. The restart limit does not apply.
 */
export function decideExpectedRestart(
  history: CrashHistory,
  uptimeMs: number,
  wasReady: boolean,
  random: number,
  policy: RestartPolicy,
): { readonly delayMs: number; readonly history: CrashHistory; readonly reason: string } {
  if (wasReady && uptimeMs >= SUSPECT_UPTIME_MS)
    return { delayMs: 0, history: { ...history, streak: 0 }, reason: "replaced at once" };
  const streak = history.streak + 1;
  const next: CrashHistory = { ...history, streak, lastUptimeMs: uptimeMs };
  if (streak === 1) return { delayMs: 0, history: next, reason: "replaced at once" };
  const delayMs = backoffMs(streak, random, policy);
  return {
    delayMs,
    history: next,
    reason: `exit ${streak} in a row right after the start`,
  };
}

function backoffMs(streak: number, random: number, { backoff }: RestartPolicy): number {
  // Bounded, because 0 times infinity after a very long streak would be no number.
  const growth = Math.min(backoff.factor ** (streak - 2), Number.MAX_VALUE);
  const waitMs = Math.min(backoff.initialMs * growth, backoff.maxMs);
  return Math.max(0, waitMs * (1 + backoff.jitter * (2 * random - 1)));
}
