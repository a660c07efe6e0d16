/**
 * Decides where a log file may be rotated and which files move then. Rotated files are `<name>.1` (the newest) to
 * `<name>.<keep>`, with `.gz` appended when compressed. Pure.
 */

const NEWLINE = 0x0a;

/** The next append to a file: whole records only. */
export interface Append {
  /** Whether the file must be rotated first; `bytes` is then 0. */
  readonly rotates: boolean;
  readonly bytes: number;
}

/**
 * How many bytes of `records` in [from, to) may be appended to a file of `sizeBytes` so that it stays within `maxBytes`.
 * Records end with a newline. One that is longer than `maxBytes` gets a file of its own.
 */
export function planAppend(sizeBytes: number, maxBytes: number, records: Buffer, from: number, to: number): Append {
  const roomBytes = maxBytes - sizeBytes;
  if (to - from <= roomBytes) return { rotates: false, bytes: to - from };
  const last = roomBytes <= 0 ? -1 : records.lastIndexOf(NEWLINE, from + roomBytes - 1);
  if (last >= from) return { rotates: false, bytes: last + 1 - from };
  if (sizeBytes > 0) return { rotates: true, bytes: 0 };
  const first = records.indexOf(NEWLINE, from);
  return { rotates: false, bytes: (first < 0 || first >= to ? to : first + 1) - from };
}

/** A rotated file, by its name in the directory. */
interface Rotated {
  readonly name: string;
  readonly index: number;
  readonly isCompressed: boolean;
}

/** The rotated files of `base` among the names of its directory, the newest first. */
export function rotatedFiles(names: readonly string[], base: string): readonly Rotated[] {
  const found = names.flatMap((name): Rotated[] => {
    if (!name.startsWith(`${base}.`)) return [];
    // Longer numbers are dates, which logrotate appends.
    const [, digits, suffix] = /^([1-9]\d{0,2})(\.gz)?$/u.exec(name.slice(base.length + 1)) ?? [];
    return digits === undefined ? [] : [{ name, index: Number(digits), isCompressed: suffix !== undefined }];
  });
  return found.toSorted((a, b) => a.index - b.index);
}

/** What to do with the files of a directory, removals first, then renames in this order. */
export interface Shift {
  readonly removals: readonly string[];
  readonly renames: readonly { readonly from: string; readonly to: string }[];
}

/**
 * The steps that make room for a new file `base` and keep at most `keep` rotated ones. After a crash between two steps,
 * a gap remains in the numbers, which the next rotation fills. No step overwrites a file.
 */
export function planShift(names: readonly string[], base: string, keep: number): Shift {
  const rotated = rotatedFiles(names, base);
  const isPlain = new Set(rotated.flatMap(({ index, isCompressed }) => (isCompressed ? [] : [index])));
  // A file exists in both forms if a crash followed its compression; the uncompressed one is complete.
  const isSurplus = ({ index, isCompressed }: Rotated) => index > keep || (isCompressed && isPlain.has(index));
  const removals = rotated.filter(isSurplus).map(({ name }) => name);
  if (keep === 0) return { removals: [...removals, base], renames: [] };
  const kept = rotated.filter((each) => !isSurplus(each));
  const taken = new Set(kept.map(({ index }) => index));
  let free = 1;
  while (free <= keep && taken.has(free)) free++;
  if (free > keep) {
    free = keep;
    removals.push(...kept.filter(({ index }) => index === keep).map(({ name }) => name));
  }
  const renames = kept
    .filter(({ index }) => index < free)
    .toReversed()
    .map(({ name, index, isCompressed }) => ({
      from: name,
      to: `${base}.${index + 1}${isCompressed ? ".gz" : ""}`,
    }));
  return { removals, renames: [...renames, { from: base, to: `${base}.1` }] };
}

/** The rotated files that are still to be compressed, the newest first: in a flood the oldest may be removed meanwhile. */
export function uncompressedFiles(names: readonly string[], base: string): readonly string[] {
  return rotatedFiles(names, base).flatMap(({ name, isCompressed }) => (isCompressed ? [] : [name]));
}
