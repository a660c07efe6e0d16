/** How much memory a process has, as /proc tells (proc_pid_statm(5), proc_pid_smaps(5)). */
import { closeSync, openSync, readSync } from "node:fs";

/** Longer than both files can be. */
const BUFFER_BYTES = 4096;

const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);

/** Resident pages of a process: a read of microseconds; 0 of a zombie, undefined where it is gone. */
export function readRssPages(pid: number): number | undefined {
  const length = readInto(`/proc/${pid}/statm`);
  if (length === undefined) return undefined;
  // The second of seven numbers.
  let at = 0;
  while (at < length && buffer[at] !== 32) at++;
  let pages = 0;
  for (at++; at < length; at++) {
    const digit = (buffer[at] ?? 0) - 48;
    if (digit < 0 || digit > 9) break;
    pages = pages * 10 + digit;
  }
  return pages;
}

/**
 * Resident bytes of a process with each shared page divided among those who share it. The kernel walks all its pages, which
 * takes a millisecond for each few hundred megabytes. Undefined where it is gone, or where a process of another user is hidden from us.
 */
export function readPssBytes(pid: number): number | undefined {
  const length = readInto(`/proc/${pid}/smaps_rollup`);
  const kib = length === undefined ? undefined : /^Pss:\s+(\d+) kB/mu.exec(buffer.toString("latin1", 0, length))?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}

/** Reads a small file into the buffer and returns its length; undefined where it cannot be read. */
function readInto(path: string): number | undefined {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return undefined;
  }
  try {
    return readSync(fd, buffer, 0, BUFFER_BYTES, null);
  } catch {
    return undefined; // ESRCH: it ended between open and read.
  } finally {
    closeSync(fd);
  }
}
