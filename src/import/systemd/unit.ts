/** Reader for systemd unit files: sections, continued lines, repeated keys, and the quoting of command lines. */
import { SourceError } from "../draft.ts";

export interface UnitEntry {
  readonly section: string;
  readonly key: string;
  readonly value: string;
  /** `file:line`. */
  readonly where: string;
}

/** All assignments in the order of the file. @throws SourceError */
export function parseUnit(text: string, file: string): UnitEntry[] {
  const entries: UnitEntry[] = [];
  let section: string | undefined;
  let pending = "";
  let start = 0;
  for (const [index, raw] of text.split(/\r?\n/u).entries()) {
    if (/^\s*[#;]/u.test(raw)) continue;
    if (pending === "") start = index + 1;
    if (raw.endsWith("\\")) {
      pending += `${raw.slice(0, -1).trim()} `;
      continue;
    }
    const line = (pending + raw.trim()).trim();
    pending = "";
    if (line === "") continue;
    const where = `${file}:${start}`;
    const header = /^\[([^\]]+)\]$/u.exec(line);
    if (header !== null) {
      section = header[1] ?? "";
      continue;
    }
    const [, key, value = ""] = /^([A-Za-z][\w-]*)\s*=\s*(.*)$/su.exec(line) ?? [];
    if (section === undefined || key === undefined)
      throw new SourceError(
        `${where}: expected ${section === undefined ? "a section such as [Service]" : "Key=value"}, got ${JSON.stringify(line.slice(0, 60))}`,
      );
    entries.push({ section, key, value, where });
  }
  return entries;
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: "\u0007",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  s: " ",
  t: "\t",
  v: "\v",
};

/** Splits into words by systemd's rules: quotes around whole words, C escapes; undefined if a quote is not closed. */
export function splitUnitWords(text: string): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let at = 0; at < text.length; at += 1) {
    const char = text.charAt(at);
    if (char === "\\") {
      const match = /^\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|([0-7]{3})|(.))/su.exec(text.slice(at));
      if (match === null) return undefined;
      const [whole, hex, unicode, octal, simple = ""] = match;
      const code = hex ?? unicode ?? octal;
      word =
        (word ?? "") +
        (code === undefined
          ? (ESCAPES[simple] ?? simple)
          : String.fromCharCode(Number.parseInt(code, octal === undefined ? 16 : 8)));
      at += whole.length - 1;
    } else if (quote !== "") {
      if (char === quote) quote = "";
      else word += char;
    } else if (char === '"' || char === "'") {
      quote = char;
      word ??= "";
    } else if (/\s/u.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? "") + char;
  }
  if (quote !== "") return undefined;
  return word === undefined ? words : [...words, word];
}

/** Seconds by unit, in all spellings. */
const SPAN_UNITS: ReadonlyMap<string, number> = new Map(
  (
    [
      ["us usec", 1e-6],
      ["ms msec", 1e-3],
      [" s sec second seconds", 1],
      ["m min minute minutes", 60],
      ["h hr hour hours", 3600],
      ["d day days", 86_400],
      ["w week weeks", 604_800],
    ] as const
  ).flatMap(([names, factor]) => names.split(" ").map((name) => [name, factor] as const)),
);

/** Seconds of a time span such as `90`, `1min 30s` or `500ms`; undefined if it is `infinity` or no time span. */
export function parseSpan(text: string): number | undefined {
  const trimmed = text.trim().toLowerCase();
  const part = /(\d+(?:\.\d+)?)\s*([a-z]*)\s*/uy;
  let total = 0;
  do {
    const [, number, unit = ""] = part.exec(trimmed) ?? [];
    const factor = SPAN_UNITS.get(unit);
    if (number === undefined || factor === undefined) return undefined;
    total += Number(number) * factor;
  } while (part.lastIndex < trimmed.length);
  return total;
}
