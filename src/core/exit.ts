/** How a process ended. */

/** Exit code, or the signal that ended the process. */
export type ExitStatus =
  | { readonly kind: "code"; readonly code: number }
  | { readonly kind: "signal"; readonly signal: string };

/** An exit as a person reads it: "exited with code 3" or "killed by SIGSEGV". */
export function formatExit(status: ExitStatus): string {
  return status.kind === "code" ? `exited with code ${status.code}` : `killed by ${status.signal}`;
}

/** The exit as one bounded label: "0" … "255" or the name of the signal. */
export function exitLabel(status: ExitStatus): string {
  return status.kind === "code" ? String(status.code) : status.signal;
}
