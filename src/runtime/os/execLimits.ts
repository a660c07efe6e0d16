/**
 * Limits of execve(2): the length of one string and of all strings together (fs/exec.c). Above them every spawn fails
 * with a bare E2BIG, so a configuration that exceeds them is rejected. Pure.
 */
import { encodeOsText } from "../../base/osText.ts";

/** MAX_ARG_STRLEN, which is 32 pages, without the zero byte. */
const MAX_STRING_BYTES = 131_071;

/** ARG_MAX: the kernel accepts this much regardless of the stack limit. */
const LEAST_TOTAL_BYTES = 131_072;

/** Three quarters of the default stack. */
const MOST_TOTAL_BYTES = 6 << 20;

const POINTER_BYTES = 8;

/** Room for the variables that differ from slot to slot. */
const RESERVED_BYTES = 4096;

/** A value that is too long, and its configuration key. */
export interface ExecLimitProblem {
  readonly key: "args" | "env";
  /** A clause such as `argument 3 has 200000 bytes, …`. */
  readonly text: string;
  readonly hint: string;
}

/** The limit that a process would exceed; undefined if none. `stackBytes` is the soft limit of its stack. */
export function findExecLimitProblem(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  stackBytes: number | "unlimited",
): ExecLimitProblem | undefined {
  const hint = "Pass it in a file instead.";
  const limit = `the kernel accepts at most ${MAX_STRING_BYTES} for one`;
  let total = 0;
  for (const [index, arg] of args.entries()) {
    const bytes = encodeOsText(arg).length;
    if (bytes > MAX_STRING_BYTES)
      return { key: "args", text: `argument ${index + 1} has ${bytes} bytes, and ${limit} argument`, hint };
    total += bytes + 1 + POINTER_BYTES;
  }
  const variables = Object.entries(env);
  for (const [name, value] of variables) {
    const bytes = encodeOsText(`${name}=${value}`).length;
    if (bytes > MAX_STRING_BYTES)
      return { key: "env", text: `variable ${name} has ${bytes} bytes with its name, and ${limit} variable`, hint };
    total += bytes + 1 + POINTER_BYTES;
  }
  const quarter = stackBytes === "unlimited" ? MOST_TOTAL_BYTES : Math.floor(stackBytes / 4);
  const most = Math.max(LEAST_TOTAL_BYTES, Math.min(quarter, MOST_TOTAL_BYTES)) - RESERVED_BYTES;
  if (total <= most) return undefined;
  return {
    key: "env",
    text: `${args.length} arguments and ${variables.length} variables have ${total} bytes together, and the kernel accepts at most ${most} (a quarter of the stack limit)`,
    hint: "Pass large values in files, unset variables that workers do not need, or raise the stack limit of the controller.",
  };
}
