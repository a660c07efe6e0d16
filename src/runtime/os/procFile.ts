/** Small files under /proc, which the kernel hands out in one read: read into one buffer for all, because scrapes read thousands. */
import { closeSync, openSync, readSync } from "node:fs";

/** Longer than /proc/<pid>/stat (52 numbers), /proc/<pid>/limits (17 lines) and /proc/<pid>/smaps_rollup can be. */
const BUFFER_BYTES = 8192;

/** What the last readProcFile() read; good until the next. */
export const procBytes: Buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);

/** Reads a file to the beginning of procBytes and returns its length; undefined where it cannot be read. */
export function readProcFile(path: string): number | undefined {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return undefined;
  }
  try {
    return readSync(fd, procBytes, 0, BUFFER_BYTES, null);
  } catch {
    return undefined; // ESRCH: it ended between open and read.
  } finally {
    closeSync(fd);
  }
}

/** The text of a file; undefined where it cannot be read. */
export function readProcText(path: string): string | undefined {
  const length = readProcFile(path);
  return length === undefined ? undefined : procBytes.toString("latin1", 0, length);
}
