/** How a process exited. */
import { formatRoundSize } from "../base/units.ts";

/** Exit code, or the signal that ended the process. */
export type ExitStatus =
  | { readonly kind: "code"; readonly code: number }
  | {
      readonly kind: "signal";
      readonly signal: string;
      /** Set if the kernel killed it because memory ran out; `limit_bytes` is that of the control group, null without one. */
      readonly out_of_memory?: { readonly limit_bytes: number | null };
    };

/** Signals that request a process to exit, with their numbers: shells and frameworks turn them into exit codes (128 + n). */
const REQUESTS_TO_END: ReadonlyMap<string, number> = new Map([
  ["SIGHUP", 1],
  ["SIGINT", 2],
  ["SIGQUIT", 3],
  ["SIGTERM", 15],
]);

/**
 * Whether a process with this exit `status` may have received a request to exit: `stopSignal`, or another signal with this
 * usual meaning. Exit code 0 counts too, because a graceful shutdown ends with it.
 */
export function mayFollowStopSignal(status: ExitStatus, stopSignal: string): boolean {
  if (status.kind === "signal") return status.signal === stopSignal || REQUESTS_TO_END.has(status.signal);
  return status.code === 0 || [...REQUESTS_TO_END.values()].includes(status.code - 128);
}

/** An exit as a person reads it: "exited with code 3" or "killed by SIGSEGV". */
export function formatExit(status: ExitStatus): string {
  if (status.kind === "code") return `exited with code ${status.code}`;
  if (status.out_of_memory === undefined) return `killed by ${status.signal}`;
  const limit = status.out_of_memory.limit_bytes;
  return `killed by the kernel: out of memory${limit === null ? "" : ` (limit ${formatRoundSize(limit)})`}`;
}

/** The exit as one bounded label: "0" … "255" or the name of the signal. */
export function exitLabel(status: ExitStatus): string {
  return status.kind === "code" ? String(status.code) : status.signal;
}
