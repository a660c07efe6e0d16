/**
 * One log file: appends whole records, rotates it by size, and opens it again on request. All steps run one after the
 * other on libuv's thread pool. A step that fails leaves a state from which the next attempt continues, so that no
 * record is lost, cut or written twice.
 */
import { constants, write } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { LogTarget } from "../sink.ts";
import { compressFile, type Pace } from "./compressFile.ts";
import { planAppend, planShift, uncompressedFiles } from "./rotation.ts";

/** Read and write, because the end of an existing file is checked for an unfinished record. */
const OPEN_FLAGS =
  constants.O_RDWR |
  constants.O_APPEND |
  constants.O_CREAT |
  constants.O_NOFOLLOW |
  constants.O_NONBLOCK |
  constants.O_NOCTTY;
const TEMPORARY_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const MODE = 0o640;
const NEWLINE = 0x0a;

export interface RotationSettings {
  /** Size that the file does not exceed; may be infinite. */
  readonly maxBytes: number;
  /** Number of rotated files to keep. */
  readonly keep: number;
  readonly isCompressed: boolean;
}

export interface LogFileListener {
  /** There may be files to compress. */
  readonly onRotated: () => void;
  /** The file cannot be rotated and grows until the next attempt, after another `maxBytes`. */
  readonly onRotationFailed: (error: NodeJS.ErrnoException) => void;
}

export class LogFile implements LogTarget {
  readonly path: string;
  rotation: RotationSettings;
  /** Bytes that the system has taken. */
  bytesWritten = 0;
  rotations = 0;
  /** Attempts to open, write or rotate that failed. */
  errors = 0;

  readonly #listener: LogFileListener;
  readonly #directory: string;
  readonly #name: string;
  #handle: FileHandle | undefined;
  /** Size of the open file. */
  #sizeBytes = 0;
  /** Size at which the last rotation failed; 0 if it succeeded. */
  #unrotatedBytes = 0;
  /** Bytes at the end of the file that belong to records whose append has failed meanwhile. */
  #unfinishedBytes = 0;
  #isAbandoned = false;
  #last: Promise<unknown> = Promise.resolve();

  constructor(path: string, rotation: RotationSettings, listener: LogFileListener) {
    this.path = path;
    this.rotation = rotation;
    this.#listener = listener;
    this.#directory = dirname(path);
    this.#name = basename(path);
  }

  /** Appends the first records of [offset, offset + length); `done` receives the number of their bytes. */
  write(records: Buffer, offset: number, length: number, done: Parameters<LogTarget["write"]>[3]): void {
    this.#inOrder(() => this.#append(records, offset, offset + length)).then(
      (count) => done(null, count),
      (error: NodeJS.ErrnoException) => {
        this.errors++;
        done(error, 0);
      },
    );
  }

  /** The records of the failed write will not be written: what the file has of them is to be removed. */
  abandon(): void {
    this.#isAbandoned = this.#unfinishedBytes > 0;
  }

  /** Opens the file if it is not open, so that it exists before the first record. */
  open(): Promise<void> {
    return this.#inOrder(async () => {
      this.#handle ??= await this.#open();
    });
  }

  /** Opens the path again. If that fails, the previous file stays open. Rejects with the system's error. */
  reopen(): Promise<void> {
    return this.#inOrder(() => this.#reopen());
  }

  close(): Promise<void> {
    return this.#inOrder(async () => {
      const handle = this.#handle;
      this.#handle = undefined;
      await handle?.close();
    });
  }

  /** Compresses the newest uncompressed rotated file; resolves with false if there is none. */
  async compressNext(pace: Pace): Promise<boolean> {
    const { open, readdir, rename, rm } = await fileSystem();
    const [name] = uncompressedFiles(await readdir(this.#directory), this.#name);
    if (name === undefined || !this.rotation.isCompressed) return false;
    const temporary = `${this.path}.gz.tmp`;
    try {
      await using source = await open(join(this.#directory, name), constants.O_RDONLY | constants.O_NOFOLLOW);
      await rm(temporary, { force: true });
      await using target = await open(temporary, TEMPORARY_FLAGS, MODE);
      await compressFile(source, target, pace);
      await target.sync();
      await this.#inOrder(async () => {
        // Rotations may have given the file another number, or removed it.
        const current = await this.#find(await source.stat());
        if (current === undefined) return;
        await rename(temporary, `${current}.gz`);
        await rm(current);
      });
    } finally {
      await rm(temporary, { force: true });
    }
    return true;
  }

  /** Path of the uncompressed rotated file with this inode; undefined if it was removed. */
  async #find({ dev, ino }: { dev: number; ino: number }): Promise<string | undefined> {
    const { lstat, readdir } = await fileSystem();
    for (const name of uncompressedFiles(await readdir(this.#directory), this.#name)) {
      const path = join(this.#directory, name);
      const stats = await lstat(path);
      if (stats.dev === dev && stats.ino === ino) return path;
    }
    return undefined;
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#last.then(work);
    this.#last = run.catch(() => {});
    return run;
  }

  async #append(records: Buffer, from: number, to: number): Promise<number> {
    this.#handle ??= await this.#open();
    if (this.#isAbandoned) await this.#cutUnfinished();
    let append = this.#plan(records, from, to);
    if (append.rotates) {
      await this.#rotate();
      append = this.#plan(records, from, to);
    }
    // Another program may have filled the new file meanwhile.
    const bytes = append.rotates ? to - from : append.bytes;
    if (bytes < this.#unfinishedBytes) await this.#cutUnfinished();
    return this.#write(this.#handle, records, from, from + bytes);
  }

  #plan(records: Buffer, from: number, to: number) {
    const usedBytes = this.#sizeBytes - this.#unfinishedBytes - this.#unrotatedBytes;
    return planAppend(usedBytes, this.rotation.maxBytes, records, from, to);
  }

  /** Writes [from, to), continuing after what a failed attempt has left in the file. */
  #write({ fd }: FileHandle, records: Buffer, from: number, to: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const writeRest = () =>
        write(fd, records, from + this.#unfinishedBytes, to - from - this.#unfinishedBytes, null, onWritten);
      const onWritten = (error: NodeJS.ErrnoException | null, count: number) => {
        if (error !== null) {
          // Whole records in the file count, so that each file takes as many as it can.
          const wholeBytes = records.lastIndexOf(NEWLINE, from + this.#unfinishedBytes - 1) + 1 - from;
          if (this.#unfinishedBytes === 0 || wholeBytes <= 0) {
            reject(error);
            return;
          }
          this.#unfinishedBytes -= wholeBytes;
          resolve(wholeBytes);
          return;
        }
        this.#sizeBytes += count;
        this.bytesWritten += count;
        this.#unfinishedBytes += count;
        if (this.#unfinishedBytes < to - from) {
          writeRest();
          return;
        }
        this.#unfinishedBytes = 0;
        resolve(to - from);
      };
      writeRest();
    });
  }

  /** Removes the bytes of records that are written elsewhere, or not at all. */
  async #cutUnfinished(): Promise<void> {
    const handle = this.#handle;
    if (handle !== undefined && this.#unfinishedBytes > 0) {
      const { size } = await handle.stat();
      // Otherwise another program has changed the file, and these bytes are no longer at its end.
      if (size === this.#sizeBytes) await handle.truncate(size - this.#unfinishedBytes);
      this.#sizeBytes = size === this.#sizeBytes ? size - this.#unfinishedBytes : size;
    }
    this.#unfinishedBytes = 0;
    this.#isAbandoned = false;
  }

  async #rotate(): Promise<void> {
    const handle = this.#handle;
    if (handle === undefined) return;
    await this.#cutUnfinished();
    const { size, dev, ino } = await handle.stat();
    if (size < this.#sizeBytes) {
      // Another program has truncated the file, as copytruncate of logrotate does.
      this.#sizeBytes = size;
      this.#unrotatedBytes = 0;
      return;
    }
    try {
      // Otherwise another program has moved the file away, or the previous rotation failed after the renames.
      if (await this.#isAtPath(dev, ino)) {
        await this.#shift();
        this.rotations++;
      }
    } catch (error) {
      this.errors++;
      this.#unrotatedBytes = this.#sizeBytes;
      this.#listener.onRotationFailed(error as NodeJS.ErrnoException);
      return;
    }
    await this.#reopen();
    this.#listener.onRotated();
  }

  async #isAtPath(dev: number, ino: number): Promise<boolean> {
    const { lstat } = await fileSystem();
    const stats = await lstat(this.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw error;
    });
    return stats?.dev === dev && stats.ino === ino;
  }

  async #shift(): Promise<void> {
    const { readdir, rename, rm } = await fileSystem();
    const { removals, renames } = planShift(await readdir(this.#directory), this.#name, this.rotation.keep);
    for (const name of removals) await rm(join(this.#directory, name), { force: true });
    for (const { from, to } of renames) await rename(join(this.#directory, from), join(this.#directory, to));
  }

  async #reopen(): Promise<void> {
    await this.#cutUnfinished();
    const previous = this.#handle;
    this.#handle = await this.#open();
    await previous?.close();
  }

  async #open(): Promise<FileHandle> {
    const { open } = await fileSystem();
    const handle = await open(this.path, OPEN_FLAGS, MODE);
    try {
      const stats = await handle.stat();
      if (!stats.isFile()) throw Object.assign(new Error(`"${this.path}" is not a file`), { code: "EINVAL" });
      const sizeBytes = stats.size + (await endLastRecord(handle, stats.size));
      this.#sizeBytes = sizeBytes;
      this.#unrotatedBytes = 0;
      return handle;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }
}

/** Ends a record that a killed controller or a crash of the system has cut; returns the number of bytes added. */
async function endLastRecord(handle: FileHandle, sizeBytes: number): Promise<number> {
  if (sizeBytes === 0) return 0;
  const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, sizeBytes - 1);
  if (buffer[0] === NEWLINE) return 0;
  await handle.write("\n");
  return 1;
}

/** Loaded on demand: it costs 2 ms, which a controller without log files saves. */
function fileSystem(): Promise<typeof import("node:fs/promises")> {
  return import("node:fs/promises");
}
