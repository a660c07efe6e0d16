/** Checks that /proc belongs to this process's PID namespace. */
import { readlinkSync } from "node:fs";
import { ControllerError } from "../../base/errors.ts";

/**
 * Checks that /proc shows this process under its own pid. Otherwise a stop could not see which processes to wait for,
 * and signals and memory limits would apply to the wrong processes. @throws ControllerError PROC_UNUSABLE
 */
export function requireOwnProc(): void {
  const hint = "Mount it with `mount -t proc proc /proc`, or start with `unshare --mount-proc`";
  let self: string;
  try {
    self = readlinkSync("/proc/self");
  } catch (error) {
    throw new ControllerError("PROC_UNUSABLE", "Cannot use /proc: it is not mounted", {
      cause: error,
      hint,
    });
  }
  if (self === String(process.pid)) return;
  const message = `Cannot use /proc: it belongs to another PID namespace, where this process is ${self} instead of ${process.pid}`;
  throw new ControllerError("PROC_UNUSABLE", message, { hint });
}
