/**
 * Reads files of the kernel. Small ones, which it returns in one read, are read into one shared buffer, because a scrape
 * reads thousands.
 */
import { closeSync, constants, openSync, readdirSync, readFileSync, readSync } from "node:fs";

/** Longer than /proc/<pid>/stat (52 numbers), /proc/<pid>/limits (17 lines) and /proc/<pid>/smaps_rollup can be. */
const BUFFER_BYTES = 8192;

/** The bytes of the last readProcFile(); valid until the next call. */
export const procBytes: Buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);

/** Reads a file to the start of procBytes and returns its length; undefined if it cannot be read. */
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
    return undefined; // ESRCH: the process exited between open and read.
  } finally {
    closeSync(fd);
  }
}

/** The text of a small file; undefined if it cannot be read. */
export function readProcText(path: string): string | undefined {
  const length = readProcFile(path);
  return length === undefined ? undefined : procBytes.toString("latin1", 0, length);
}

/** The text of a file of any size; undefined if it cannot be read. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** Up to `length` bytes of a file from `position` on; undefined if they cannot be read. Never waits for a pipe. */
export function readAt(path: string, position: number | bigint, length: number): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, readSync(fd, bytes, 0, length, position));
  } catch {
    return undefined;
  } finally {
    closeSync(fd);
  }
}

/** The number in a file; undefined if it cannot be read. */
export function readNumber(path: string): number | undefined {
  const text = readText(path);
  return text === undefined ? undefined : Number(text);
}

/** The names in a directory; none if it cannot be read. */
export function listNames(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
