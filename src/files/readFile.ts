/**
 * Reads a whole file that another user may provide: only a regular file, at most `maxBytes`, and never on the main
 * thread. A pipe, an endless device or a hung file system therefore blocks only this one read.
 */
import { close, constants, fstat, lstat, open, read as readDescriptor, type Stats, stat } from "node:fs";
import { kindOf } from "./inspectPath.ts";

/** Default size limit. Configuration, variables, keys and tokens are far smaller. */
export const MAX_FILE_BYTES = 1 << 20;

/** Default time limit. A local disk takes milliseconds; a file system that takes this long is broken. */
const READ_MS = 10_000;

const CHUNK_BYTES = 65_536;

export interface FileContent {
  readonly bytes: Buffer;
  /** Status of the file that was read. */
  readonly stats: Stats;
}

/** Why a file cannot be read: `message` is a clause such as `it is a directory, expected a file`. */
export class FileError extends Error {
  override readonly name = "FileError";
}

export interface ReadOptions {
  readonly maxBytes?: number;
  /** Refuses a symbolic link at the path itself. */
  readonly isDirect?: boolean;
  readonly boundMs?: number;
}

/** The content of the file at `path`. Rejects with a FileError. */
export async function readWholeFile(path: string, options: ReadOptions = {}): Promise<FileContent> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const boundMs = options.boundMs ?? READ_MS;
  const timer = setTimeout(() => reject(new FileError(`it cannot be read within ${boundMs / 1000} s`)), boundMs);
  try {
    return await Promise.race([read(path, options), late]);
  } catch (error) {
    if (error instanceof FileError) throw error;
    throw new FileError(reasonOf(error as NodeJS.ErrnoException), { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

async function read(path: string, { maxBytes = MAX_FILE_BYTES, isDirect = false }: ReadOptions): Promise<FileContent> {
  // Opening a device may already have an effect.
  requireRegular(await promised<Stats>((done) => (isDirect ? lstat(path, done) : stat(path, done))));
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY | (isDirect ? constants.O_NOFOLLOW : 0);
  const fd = await promised<number>((done) => open(path, flags, done));
  try {
    // The file may have been replaced in the meantime.
    const stats = await promised<Stats>((done) => fstat(fd, done));
    requireRegular(stats);
    const chunks: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
      const count = await promised<number>((done) => readDescriptor(fd, buffer, 0, CHUNK_BYTES, null, done));
      if (count === 0) return { bytes: Buffer.concat(chunks), stats };
      chunks.push(buffer.subarray(0, count));
      bytes += count;
      if (bytes > maxBytes) throw new FileError(`it is larger than the ${maxBytes} bytes that are read`);
    }
  } finally {
    close(fd);
  }
}

/** Promisifies a function of node:fs. Loading node:fs/promises would add 2 ms to each start. */
function promised<T>(call: (done: (error: Error | null, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => call((error, value) => (error === null ? resolve(value) : reject(error))));
}

function requireRegular(stats: Stats): void {
  const kind = kindOf(stats);
  if (kind !== "file") throw new FileError(`it is a ${kind}, expected a file`);
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  ENOTDIR: "there is no such file",
  EACCES: "this user may not read it",
  EPERM: "this user may not read it",
  ENAMETOOLONG: "its name is too long",
  ELOOP: "it is a chain of symbolic links",
};

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  return REASONS[code ?? ""] ?? code ?? message;
}
