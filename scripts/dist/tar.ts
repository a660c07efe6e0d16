/** Writes tar files and compressed tar files. The same entries give the same bytes; all files belong to root. */
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { Content, DEFLATE_END, type Entry } from "./content.ts";
import { EPOCH } from "./release.ts";

const BLOCK = 512;
/** The content of small files is compressed together with the headers around it. */
const SMALL = 1 << 16;

export interface TarOptions {
  /** Whether directories have entries of their own, as layers of an image need. */
  readonly hasDirectories?: boolean;
}

/** The uncompressed archive, in pieces. */
export function tar(entries: readonly Entry[], { hasDirectories = false }: TarOptions = {}): Content[] {
  const pieces: Content[] = [];
  let small: Buffer[] = [];
  const flush = () => {
    if (small.length > 0) pieces.push(new Content(Buffer.concat(small)));
    small = [];
  };
  const made = new Set(["."]);
  for (const { path, mode = 0o644, content } of entries) {
    if (hasDirectories) for (const name of missingParents(path, made)) small.push(header(`${name}/`, "5", 0o755, 0));
    const size = content.bytes.length;
    small.push(header(path, "0", mode, size));
    if (size > SMALL) {
      flush();
      pieces.push(content);
    } else small.push(content.bytes);
    small.push(Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK));
  }
  small.push(Buffer.alloc(2 * BLOCK));
  flush();
  return pieces;
}

/** The archive in gzip format. */
export async function gzip(pieces: readonly Content[]): Promise<Buffer> {
  // Deflate; no name, no time; Unix.
  const start = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
  const end = Buffer.alloc(8);
  end.writeUInt32LE(
    pieces.reduce((sum, { bytes }) => crc32(bytes, sum), 0),
    0,
  );
  end.writeUInt32LE(pieces.reduce((sum, { bytes }) => sum + bytes.length, 0) >>> 0, 4);
  return Buffer.concat([start, ...(await Promise.all(pieces.map((piece) => piece.deflate()))), DEFLATE_END, end]);
}

function missingParents(path: string, made: Set<string>): string[] {
  const missing: string[] = [];
  for (let at = dirname(path); !made.has(at); at = dirname(at)) {
    made.add(at);
    missing.unshift(at);
  }
  return missing;
}

function header(path: string, type: "0" | "5", mode: number, size: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const [prefix, name] = splitName(path);
  const octal = (value: number, length: number, at: number) =>
    block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, at, "latin1");
  block.write(name, 0);
  octal(mode, 8, 100);
  octal(0, 8, 108);
  octal(0, 8, 116);
  octal(size, 12, 124);
  octal(EPOCH, 12, 136);
  block.write(" ".repeat(8), 148, "latin1");
  block.write(type, 156, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  block.write("root", 265, "latin1");
  block.write("root", 297, "latin1");
  octal(0, 8, 329);
  octal(0, 8, 337);
  block.write(prefix, 345);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

/** A name of more than 100 bytes is split at a slash. */
function splitName(path: string): readonly [prefix: string, name: string] {
  if (Buffer.byteLength(path) <= 100) return ["", path];
  const at = path.indexOf("/", path.length - 101);
  if (at < 1 || at > 155) throw new Error(`tar cannot express the path ${path}`);
  return [path.slice(0, at), path.slice(at + 1)];
}
