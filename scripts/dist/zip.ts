/** Writes zip files (a wheel is one). The same entries give the same bytes. */
import { type Content, DEFLATE_END, type Entry } from "./content.ts";
import { EPOCH } from "./release.ts";

const VERSION_DEFLATE = 20;
const MADE_BY_UNIX = (3 << 8) | VERSION_DEFLATE;
const UTF8_NAMES = 0x0800;
const METHOD_DEFLATE = 8;
const REGULAR_FILE = 0o100000;

/** A zip file with these entries in this order. */
export async function zip(entries: readonly Entry[]): Promise<Buffer> {
  const files: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { path, mode = 0o644, content } of entries) {
    const data = Buffer.concat([await content.deflate(), DEFLATE_END]);
    const name = Buffer.from(path);
    const fields = describe(content, data.length, name.length);
    const local = Buffer.alloc(30);
    local.write("PK\x03\x04", "latin1");
    fields.copy(local, 4);
    const central = Buffer.alloc(46);
    central.write("PK\x01\x02", "latin1");
    central.writeUInt16LE(MADE_BY_UNIX, 4);
    fields.copy(central, 6);
    central.writeUInt32LE(((REGULAR_FILE | mode) << 16) >>> 0, 38);
    central.writeUInt32LE(offset, 42);
    files.push(local, name, data);
    directory.push(central, name);
    offset += local.length + name.length + data.length;
  }
  const index = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(index.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...files, index, end]);
}

/** The fields that the local and the central header have in common. */
function describe(content: Content, compressedSize: number, nameLength: number): Buffer {
  const fields = Buffer.alloc(26);
  const date = new Date(EPOCH * 1000);
  fields.writeUInt16LE(VERSION_DEFLATE, 0);
  fields.writeUInt16LE(UTF8_NAMES, 2);
  fields.writeUInt16LE(METHOD_DEFLATE, 4);
  fields.writeUInt16LE((date.getUTCHours() << 11) | (date.getUTCMinutes() << 5) | (date.getUTCSeconds() >> 1), 6);
  fields.writeUInt16LE(((date.getUTCFullYear() - 1980) << 9) | ((date.getUTCMonth() + 1) << 5) | date.getUTCDate(), 8);
  fields.writeUInt32LE(content.crc32, 10);
  fields.writeUInt32LE(compressedSize, 14);
  fields.writeUInt32LE(content.bytes.length, 18);
  fields.writeUInt16LE(nameLength, 22);
  return fields;
}
