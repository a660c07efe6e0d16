/** How processbin ends: by a stop signal (128 + its number, as a shell reports it) or after a time. */

import { constants } from "node:os";
import type { Flags } from "./flags.ts";

/** Installs the behaviour for SIGTERM and SIGINT; `drain` resolves when no request is in progress. */
export function handleSignals(flags: Flags, drain: () => Promise<void>): void {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (flags.ignoreSignals) return;
      const delay = new Promise((resolve) => setTimeout(resolve, flags.signalDelayMs));
      void Promise.all([delay, drain()]).then(() => process.exit(128 + constants.signals[signal]));
    });
  }
}

/** Exits after the time in the flags, and keeps the program alive until then; without a time, indefinitely. */
export function scheduleExit(flags: Flags): void {
  if (flags.exitAfterMs !== undefined) setTimeout(() => process.exit(flags.exitCode), flags.exitAfterMs);
  else setInterval(() => {}, 2 ** 31 - 1);
}
