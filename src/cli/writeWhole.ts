/** Writes an output file completely or not at all. */
import { closeSync, fsyncSync, linkSync, openSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ControllerError, codeOf, messageOf } from "../base/errors.ts";

export interface WriteOptions {
  /** A file whose permissions the new one gets, without execution. */
  readonly like: string;
  /** Whether an existing file is replaced. */
  readonly replaces: boolean;
}

/** @throws ControllerError FILE_UNWRITABLE */
export function writeWhole(file: string, text: string, { like, replaces }: WriteOptions): void {
  const temporary = join(dirname(file), `.${basename(file)}.${process.pid}.tmp`);
  try {
    const mode = (statSync(like, { throwIfNoEntry: false })?.mode ?? 0o644) & 0o666;
    const fd = openSync(temporary, "wx", mode | 0o200);
    try {
      const bytes = Buffer.from(text);
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    // A link, unlike a rename, never replaces a file.
    if (replaces) renameSync(temporary, file);
    else linkSync(temporary, file);
  } catch (error) {
    const exists = codeOf(error) === "EEXIST" && !replaces;
    throw new ControllerError(
      "FILE_UNWRITABLE",
      `Cannot write "${file}": ${exists ? "it exists already" : (codeOf(error) ?? messageOf(error))}`,
      { cause: error, hint: exists ? "Choose another file, or replace it with --force." : undefined },
    );
  } finally {
    rmSync(temporary, { force: true });
  }
}
