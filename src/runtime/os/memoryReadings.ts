/** Memory usage of a process, from /proc (proc_pid_statm(5), proc_pid_smaps(5)). */
import { procBytes, readProcFile, readProcText } from "./procFile.ts";

/** Resident pages of a process, read in microseconds; 0 for a zombie, undefined if the process does not exist. */
export function readRssPages(pid: number): number | undefined {
  const length = readProcFile(`/proc/${pid}/statm`);
  if (length === undefined) return undefined;
  // The second of seven numbers.
  let at = 0;
  while (at < length && procBytes[at] !== 32) at++;
  let pages = 0;
  for (at++; at < length; at++) {
    const digit = (procBytes[at] ?? 0) - 48;
    if (digit < 0 || digit > 9) break;
    pages = pages * 10 + digit;
  }
  return pages;
}

/**
 * Resident bytes of a process, with each shared page divided among its users. The kernel walks all pages: 1 ms per few
 * hundred megabytes. Undefined if the process does not exist, or is hidden because another user owns it.
 */
export function readPssBytes(pid: number): number | undefined {
  const kib = /^Pss:\s+(\d+) kB/mu.exec(readProcText(`/proc/${pid}/smaps_rollup`) ?? "")?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}
