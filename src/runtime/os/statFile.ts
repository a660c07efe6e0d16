/**
 * Reads /proc/<pid>/stat for thousands of processes at a time: parses the numbers directly from the bytes, without a
 * string for each field.
 */
import { procBytes, readProcFile } from "./procFile.ts";
import { type ProcessStat, statOf } from "./procfs.ts";

const SPACE = 32;
const OPEN = 40;
const CLOSE = 41;
const MINUS = 45;
const ZERO = 48;

/** Fields from the state, which is field 3, to the resident pages, field 24 (proc_pid_stat(5)). */
const FIRST_NUMBER = 4;
const LAST_NUMBER = 24;

/** The numbers of the last file read; field n is at index n. */
const numbers = new Float64Array(LAST_NUMBER + 1);

/** The same as readStat(); undefined if the process has exited. */
export function readStatQuickly(pid: number): ProcessStat | undefined {
  const length = readProcFile(`/proc/${pid}/stat`);
  if (length === undefined) return undefined;
  // The name may contain any character, including parentheses; later fields contain no parentheses.
  const open = procBytes.indexOf(OPEN);
  const close = procBytes.lastIndexOf(CLOSE, length - 1);
  if (open < 0 || close < open || close + 2 >= length) return undefined;
  let at = close + 4;
  for (let field = FIRST_NUMBER; field <= LAST_NUMBER; field++) {
    let value = 0;
    const isNegative = procBytes[at] === MINUS;
    if (isNegative) at++;
    for (; at < length; at++) {
      const byte = procBytes[at] ?? SPACE;
      if (byte === SPACE) break;
      value = value * 10 + byte - ZERO;
    }
    numbers[field] = isNegative ? -value : value;
    at++;
  }
  const command = procBytes.toString("utf8", open + 1, close);
  return statOf(pid, command, String.fromCharCode(procBytes[close + 2] ?? 0), (field) => numbers[field] ?? 0);
}
