/** The content of a packaged file. It is in several packages, but is compressed only once. */
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { constants, crc32, deflateRaw } from "node:zlib";

const compress = promisify(deflateRaw);

/** Ends a deflate stream: an empty last block. */
export const DEFLATE_END = Buffer.from([0x03, 0x00]);

export class Content {
  readonly bytes: Buffer;
  #crc32: number | undefined;
  #deflated: Promise<Buffer> | undefined;

  constructor(bytes: Buffer | string) {
    this.bytes = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
  }

  static read(path: string): Content {
    return new Content(readFileSync(path));
  }

  get crc32(): number {
    this.#crc32 ??= crc32(this.bytes);
    return this.#crc32;
  }

  /**
   * Deflate blocks that end at a byte boundary, without a last block. They refer to nothing before them, so the blocks of
   * several contents can follow each other in one stream.
   */
  deflate(): Promise<Buffer> {
    this.#deflated ??= compress(this.bytes, { level: 6, finishFlush: constants.Z_SYNC_FLUSH });
    return this.#deflated;
  }
}

/** A file of a package; `path` is relative to the package's root. */
export interface Entry {
  readonly path: string;
  /** Permission bits; 0644 by default. */
  readonly mode?: number;
  readonly content: Content;
}

/** Entries below a directory. */
export function below(directory: string, entries: readonly Entry[]): Entry[] {
  return entries.map((entry) => ({ ...entry, path: `${directory}/${entry.path}` }));
}

/** Stable order, independent of the locale. */
export function sorted(entries: readonly Entry[]): Entry[] {
  const ordered = [...entries].sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const [index, { path }] of ordered.entries())
    if (path === ordered[index + 1]?.path) throw new Error(`two files of a package have the path ${path}`);
  return ordered;
}
