/** The flag --pid of commands that inspect one process of a worker. */
import { PID_BOUNDS } from "../admin/api.ts";
import type { Context, Flag } from "./command.ts";
import { usage } from "./commandLine.ts";

export const PID_FLAG = { type: "string", value: "PID" } as const satisfies Omit<Flag, "doc">;

/** The value of --pid; undefined if absent. @throws ControllerError USAGE */
export function pidOf(context: Context, command: string): number | undefined {
  const text = context.text("pid");
  if (text === undefined) return undefined;
  const pid = /^\d+$/u.test(text) ? Number(text) : Number.NaN;
  if (pid >= PID_BOUNDS.least && pid <= PID_BOUNDS.most) return pid;
  throw usage(`--pid: expected a process id, got "${text}"`, `monoceros ${command}`);
}
