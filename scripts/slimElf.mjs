/**
 * Makes a runtime smaller and relocatable: removes what only debuggers read (symbol table, DWARF), and adds a run path
 * (DT_RUNPATH) so that the dynamic linker finds shared libraries relative to the executable. Pure: bytes in, bytes out.
 *
 * It does what `strip --strip-unneeded` and `patchelf --set-rpath` do, but only for executables in which both are simple:
 * everything that is not loaded stands at the end of the file, and the dynamic section has a spare entry (GNU ld leaves
 * five). Loaded bytes never move, so no address changes. Anything else is refused. Little-endian ELF64 only.
 *
 * Plain ESM for any Node.js >= 20, because it runs before the pinned runtime can.
 */

const EHDR_SIZE = 64;
const PHDR_SIZE = 56;
const SHDR_SIZE = 64;
const DYN_SIZE = 16;
const PT_LOAD = 1;
const SHF_ALLOC = 2n;
const SHT_STRTAB = 3;
const SHT_DYNAMIC = 6;
const SHT_NOBITS = 8;
const DT_NULL = 0n;
const DT_STRTAB = 5n;
const DT_STRSZ = 10n;
const DT_RPATH = 15n;
const DT_RUNPATH = 29n;

/** The file is not an executable that this module can change safely. */
export class UnsupportedElf extends Error {}

/**
 * Returns a stripped copy of an executable that looks for its shared libraries in `runPath` first.
 *
 * @param {Buffer} original the whole file
 * @param {string} runPath directories separated by ":", `$ORIGIN` is the executable's own directory
 * @returns {Buffer}
 * @throws {UnsupportedElf}
 */
export function slimElf(original, runPath) {
  const sections = readSections(original);
  const kept = sections.filter(({ flags }) => (flags & SHF_ALLOC) !== 0n);
  const end = Math.max(...kept.map(({ type, offset, size }) => (type === SHT_NOBITS ? 0 : offset + size)));
  const segments = readSegments(original);
  requireThat(
    segments.every(({ offset, fileSize }) => offset + fileSize <= end),
    "a segment reaches beyond the last loaded section",
  );
  requireThat(
    kept.every(({ index, link }) => index === 0 || link <= kept.length),
    "a loaded section refers to one that is removed",
  );
  requireThat(
    kept.every(({ index }, at) => index === at + 1),
    "a section that is not loaded stands between loaded ones",
  );

  const loaded = Buffer.from(original.subarray(0, end));
  addRunPath(loaded, segments, kept, runPath);
  return appendSectionTable(loaded, kept);
}

/** @returns {string[]} the directories of DT_RUNPATH, in order; empty if there is none */
export function readRunPath(file) {
  const dynamic = readSections(file).find(({ type }) => type === SHT_DYNAMIC);
  if (dynamic === undefined) return [];
  const entries = readDynamic(file, dynamic);
  const runPath = entries.find(({ tag }) => tag === DT_RUNPATH);
  const strings = entries.find(({ tag }) => tag === DT_STRTAB);
  if (runPath === undefined || strings === undefined) return [];
  const address = Number(strings.value + runPath.value);
  const segment = readSegments(file).find(
    ({ type, address: start, fileSize }) => type === PT_LOAD && address >= start && address < start + fileSize,
  );
  requireThat(segment !== undefined, "the run path is not in a loaded segment");
  const at = segment.offset + address - segment.address;
  return file.toString("latin1", at, file.indexOf(0, at)).split(":");
}

/** Writes the string into the padding after a segment, where it is mapped, and a spare dynamic entry that points to it. */
function addRunPath(file, segments, sections, runPath) {
  const dynamic = sections.find(({ type }) => type === SHT_DYNAMIC);
  requireThat(dynamic !== undefined, "it is linked statically");
  const entries = readDynamic(file, dynamic);
  requireThat(!entries.some(({ tag }) => tag === DT_RPATH || tag === DT_RUNPATH), "it has a run path already");
  const strings = entries.find(({ tag }) => tag === DT_STRTAB);
  requireThat(strings !== undefined, "it has no dynamic strings");
  const spare = entries.findIndex(({ tag }) => tag === DT_NULL);
  // The last entry must stay a null, which ends the list.
  requireThat(spare >= 0 && (spare + 2) * DYN_SIZE <= dynamic.size, "its dynamic section has no spare entry");

  const text = Buffer.from(`${runPath}\0`, "latin1");
  const place = segments.find((segment) => hasRoomBehind(file, segments, segment, text.length, strings.value));
  requireThat(place !== undefined, "no segment has padding for the run path");
  text.copy(file, place.offset + place.fileSize);
  const value = BigInt(place.address + place.fileSize) - strings.value;
  file.writeBigUInt64LE(DT_RUNPATH, dynamic.offset + spare * DYN_SIZE);
  file.writeBigUInt64LE(value, dynamic.offset + spare * DYN_SIZE + 8);
  // The dynamic linker does not look at this size, but tools that print run paths do.
  const size = entries.findIndex(({ tag }) => tag === DT_STRSZ);
  if (size >= 0) file.writeBigUInt64LE(value + BigInt(text.length), dynamic.offset + size * DYN_SIZE + 8);
  file.writeBigUInt64LE(BigInt(place.fileSize + text.length), place.header + 32);
  file.writeBigUInt64LE(BigInt(place.memorySize + text.length), place.header + 40);
}

/** Whether `length` bytes behind a segment are unused zeros in the file and belong to no other segment in memory. */
function hasRoomBehind(file, segments, segment, length, stringsAddress) {
  if (segment.type !== PT_LOAD || segment.fileSize !== segment.memorySize) return false;
  const from = segment.offset + segment.fileSize;
  const address = segment.address + segment.fileSize;
  // An entry's value is an unsigned offset from the dynamic strings.
  if (BigInt(address) < stringsAddress) return false;
  if (from + length > file.length || file.subarray(from, from + length).some((byte) => byte !== 0)) return false;
  return segments.every(
    (other) =>
      other === segment ||
      other.type !== PT_LOAD ||
      ((other.offset >= from + length || other.offset + other.fileSize <= from) &&
        (other.address >= address + length || other.address + other.memorySize <= address)),
  );
}

/** The kept sections keep their numbers, so references between them stay true; a table of their names follows. */
function appendSectionTable(loaded, kept) {
  const names = ["", ...kept.map(({ name }) => name), ".shstrtab"];
  const nameOffsets = [];
  let namesText = "";
  for (const name of names) {
    nameOffsets.push(namesText.length);
    namesText += `${name}\0`;
  }
  const namesAt = loaded.length;
  const tableAt = Math.ceil((namesAt + namesText.length) / 8) * 8;
  const result = Buffer.alloc(tableAt + names.length * SHDR_SIZE);
  loaded.copy(result);
  result.write(namesText, namesAt, "latin1");
  for (const [at, { header }] of kept.entries()) {
    header.copy(result, tableAt + (at + 1) * SHDR_SIZE);
    result.writeUInt32LE(nameOffsets[at + 1], tableAt + (at + 1) * SHDR_SIZE);
  }
  const last = tableAt + (names.length - 1) * SHDR_SIZE;
  result.writeUInt32LE(nameOffsets[names.length - 1], last);
  result.writeUInt32LE(SHT_STRTAB, last + 4);
  result.writeBigUInt64LE(BigInt(namesAt), last + 24);
  result.writeBigUInt64LE(BigInt(namesText.length), last + 32);
  result.writeBigUInt64LE(1n, last + 48);
  result.writeBigUInt64LE(BigInt(tableAt), 40);
  result.writeUInt16LE(names.length, 60);
  result.writeUInt16LE(names.length - 1, 62);
  return result;
}

/** Sections without the null one. */
function readSections(file) {
  const isElf64 = file.length > EHDR_SIZE && file.readUInt32BE(0) === 0x7f454c46 && file[4] === 2 && file[5] === 1;
  requireThat(isElf64, "it is not a little-endian ELF64 file");
  const tableAt = Number(file.readBigUInt64LE(40));
  const count = file.readUInt16LE(60);
  const namesIndex = file.readUInt16LE(62);
  requireThat(file.readUInt16LE(58) === SHDR_SIZE && count > 1, "it has no section table");
  requireThat(tableAt + count * SHDR_SIZE <= file.length, "it is cut off");
  const headers = Array.from({ length: count }, (_, index) =>
    file.subarray(tableAt + index * SHDR_SIZE, tableAt + (index + 1) * SHDR_SIZE),
  );
  requireThat(namesIndex < count, "its section names are missing");
  const namesAt = Number(headers[namesIndex].readBigUInt64LE(24));
  return headers.slice(1).map((header, at) => {
    const nameAt = namesAt + header.readUInt32LE(0);
    return {
      index: at + 1,
      header,
      name: file.toString("latin1", nameAt, file.indexOf(0, nameAt)),
      type: header.readUInt32LE(4),
      flags: header.readBigUInt64LE(8),
      offset: Number(header.readBigUInt64LE(24)),
      size: Number(header.readBigUInt64LE(32)),
      link: header.readUInt32LE(40),
    };
  });
}

function readSegments(file) {
  const tableAt = Number(file.readBigUInt64LE(32));
  requireThat(file.readUInt16LE(54) === PHDR_SIZE, "it has no program headers");
  return Array.from({ length: file.readUInt16LE(56) }, (_, index) => {
    const header = tableAt + index * PHDR_SIZE;
    return {
      header,
      type: file.readUInt32LE(header),
      offset: Number(file.readBigUInt64LE(header + 8)),
      address: Number(file.readBigUInt64LE(header + 16)),
      fileSize: Number(file.readBigUInt64LE(header + 32)),
      memorySize: Number(file.readBigUInt64LE(header + 40)),
    };
  });
}

function readDynamic(file, { offset, size }) {
  return Array.from({ length: Math.floor(size / DYN_SIZE) }, (_, index) => ({
    tag: file.readBigUInt64LE(offset + index * DYN_SIZE),
    value: file.readBigUInt64LE(offset + index * DYN_SIZE + 8),
  }));
}

function requireThat(holds, problem) {
  if (!holds) throw new UnsupportedElf(`cannot slim this executable: ${problem}`);
}
