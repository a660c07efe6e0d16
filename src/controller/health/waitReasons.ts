/** States what an unready worker waits for. Pure. */
import { formatDuration } from "../../base/units.ts";
import type { ReadinessPolicy } from "../../core/spec.ts";
import { describeMethod } from "../../runtime/probe/probeMethods.ts";
import type { ProbeTarget } from "../../runtime/probe/prober.ts";

/** What a new worker waits for, before its first check has returned. */
export function firstReason(
  target: Pick<ProbeTarget, "address" | "startup" | "readiness" | "owner" | "readinessChannel">,
  readiness: ReadinessPolicy,
): string {
  if (readiness.kind === "observed") {
    const what = target.owner.shared === undefined ? "listens" : "waits on a socket of the pool";
    return unseenReason(`none of its processes ${what} yet`, readiness);
  }
  const probe = target.startup ?? target.readiness;
  if (probe === "notify") return `it has not reported ready through ${target.readinessChannel?.through} yet`;
  const what = probe && describeMethod(probe.method, target);
  return what === undefined ? "it has not answered yet" : `${what}: no answer yet`;
}

/** What a worker waits for that is not seen serving; `reason` is what the last look found. */
export function unseenReason(reason: string, readiness: ReadinessPolicy): string {
  if (readiness.kind !== "observed") return reason;
  return `${reason}, and it has run for less than ${formatDuration(readiness.surviveMs)}`;
}

/** What a worker waits for that passes its own checks. */
export function passedReason(readiness: ReadinessPolicy): string {
  return readiness.kind === "observed"
    ? "it serves, and must keep serving for rolling.min_ready"
    : "it answers, but the proxy does not route to it yet";
}
