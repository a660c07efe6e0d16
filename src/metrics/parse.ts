/**
 * Parses a program's /metrics: Prometheus' text format and the parts of OpenMetrics that matter for merging. Pure.
 * The text is untrusted: malformed lines and lines beyond a limit are dropped and counted, and the parser never
 * throws.
 *
 * Timestamps, exemplars, `_created` and summary quantiles are dropped, because they have no meaning for a sum over
 * workers. Formats: see exposition.ts.
 */
import { escapeLabel } from "./exposition.ts";

/** Labels that the merged exposition sets itself; a program's own are renamed `exported_pool` and `exported_worker`. */
const OWN_LABELS: ReadonlySet<string> = new Set(["pool", "worker"]);

const MAX_SAMPLES = 20_000;
const MAX_NAME_LENGTH = 200;
const MAX_LABELS = 32;
/** Maximum length of all labels of one sample together, as printed. */
const MAX_LABELS_LENGTH = 4096;
const MAX_HELP_LENGTH = 1000;
const MAX_BOUNDS = 200;
const MAX_REMEMBERED = 20_000;

/** What was dropped, in samples or lines. */
export interface Dropped {
  /** Unparsable, or with an invalid value. */
  malformed: number;
  /** Above a limit. */
  limit: number;
  /** Of a type that cannot be summed. */
  unsupported: number;
}

/** Values by labels; the labels are sorted by name and formatted as printed: `a="1",b="2"`. */
export type ValuesByLabels = Map<string, number>;

/** One histogram or summary; `counts` has one cumulative entry for each bound. */
export interface Distribution {
  /** Upper bounds, ascending, without +Inf; empty for a summary. */
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

interface Named {
  /** The name as used by its samples: for a counter, with `_total` if its samples have it. */
  readonly name: string;
  readonly help: string;
}

export type ValueFamily = Named & { readonly type: "counter" | "gauge" | "unknown"; readonly values: ValuesByLabels };

export type DistributionFamily = Named & {
  readonly type: "histogram" | "summary";
  readonly distributions: ReadonlyMap<string, Distribution>;
};

export type ParsedFamily = ValueFamily | DistributionFamily;

export interface ParsedExposition {
  /** In input order, each name once. */
  readonly families: readonly ParsedFamily[];
  readonly dropped: Readonly<Dropped>;
}

/** Parses `text`; `memo` speeds up series that were parsed before, since workers of a pool expose the same ones. */
export function parseExposition(text: string, memo: SeriesMemo = new SeriesMemo()): ParsedExposition {
  return new Parser(memo).parse(text);
}

/** Name and labels of a sample. */
interface Series {
  readonly name: string;
  readonly labels: string;
  /** Labels of a bucket without its bound, and the bound; undefined if the sample is not a bucket. */
  readonly bucket: { readonly labels: string; readonly bound: number } | undefined;
}

/** Caches parsed names and labels by their source text. Bounded: the cache is cleared when it is full. */
export class SeriesMemo {
  readonly #known = new Map<string, Series>();

  get(written: string): Series | undefined {
    return this.#known.get(written);
  }

  set(written: string, series: Series): void {
    if (this.#known.size >= MAX_REMEMBERED) this.#known.clear();
    this.#known.set(ownCopy(written), series);
  }
}

/** Copies a string: a substring would keep the whole text it came from in memory. */
export function ownCopy(text: string): string {
  return Array.from(text).join("");
}

/** A distribution while its lines are read. */
interface Draft {
  readonly buckets: Map<number, number>;
  sum: number | undefined;
  count: number | undefined;
}

interface DraftFamily {
  readonly type: "histogram" | "summary";
  readonly name: string;
  readonly drafts: Map<string, Draft>;
}

/** The family that a sample name belongs to, and which part of it. */
type Place =
  | { readonly kind: "value"; readonly type: ValueFamily["type"] }
  | { readonly kind: "part"; readonly type: "histogram" | "summary"; readonly base: string; readonly part: Part }
  | { readonly kind: "skip" }
  | { readonly kind: "unsupported" };

type Part = "bucket" | "sum" | "count";

const PARTS: readonly Part[] = ["bucket", "sum", "count"];

const GAUGE: Place = { kind: "value", type: "gauge" };
const UNKNOWN: Place = { kind: "value", type: "unknown" };
const SKIP: Place = { kind: "skip" };
const UNSUPPORTED: Place = { kind: "unsupported" };

/** The places of samples whose own name is declared by a `# TYPE` line. */
const DECLARED = {
  counter: { kind: "value", type: "counter" },
  gauge: GAUGE,
  info: GAUGE,
  stateset: GAUGE,
  untyped: UNKNOWN,
  unknown: UNKNOWN,
  summary: SKIP,
  histogram: UNSUPPORTED,
  gaugehistogram: UNSUPPORTED,
} as const satisfies Record<string, Place>;
type DeclaredType = keyof typeof DECLARED;

class Parser {
  readonly #memo: SeriesMemo;
  readonly #types = new Map<string, DeclaredType>();
  readonly #helps = new Map<string, string>();
  readonly #families = new Map<string, ValueFamily | DraftFamily>();
  readonly #places = new Map<string, Place>();
  readonly #dropped: Dropped = { malformed: 0, limit: 0, unsupported: 0 };
  #samples = 0;

  constructor(memo: SeriesMemo) {
    this.#memo = memo;
  }

  parse(text: string): ParsedExposition {
    let start = 0;
    while (start < text.length) {
      const found = text.indexOf("\n", start);
      const end = found === -1 ? text.length : found;
      while (text[start] === " " || text[start] === "\t") start++;
      const line = text.slice(start, text[end - 1] === "\r" ? end - 1 : end);
      start = end + 1;
      if (line === "# EOF") break;
      if (line.startsWith("#")) this.#readComment(line);
      else if (line.trim() !== "") this.#readSample(line);
    }
    const families = [...this.#families.values()].map((family) => ("drafts" in family ? this.#finish(family) : family));
    return { families, dropped: this.#dropped };
  }

  #readComment(line: string): void {
    const [, keyword, name = "", rest = ""] = /^#\s+(HELP|TYPE)\s+(\S+)(?:\s+(.*))?$/su.exec(line) ?? [];
    if (keyword === undefined || this.#types.size > MAX_SAMPLES || name.length > MAX_NAME_LENGTH) return;
    if (keyword === "HELP") {
      if (!this.#helps.has(name) && this.#helps.size <= MAX_SAMPLES)
        this.#helps.set(name, unescapeText(rest.slice(0, MAX_HELP_LENGTH)));
      return;
    }
    const type = rest.trim();
    // A type declared later does not change samples that were already read.
    if (Object.hasOwn(DECLARED, type) && !this.#types.has(name)) this.#types.set(name, type as DeclaredType);
  }

  #readSample(line: string): void {
    if (this.#samples >= MAX_SAMPLES) {
      this.#dropped.limit++;
      return;
    }
    const sample = this.#split(line);
    if (sample === undefined) {
      this.#dropped.malformed++;
      return;
    }
    this.#samples++;
    const { series, value } = sample;
    const { name, labels } = series;
    const place = this.#places.getOrInsertComputed(name, (each) => this.#placeOf(each));
    if (place.kind === "skip") return;
    if (place.kind === "unsupported") this.#dropped.unsupported++;
    else if (place.kind === "value") this.#addValue(name, place.type, labels, value);
    else this.#addPart(place, series, value);
  }

  /** Fast path: most lines have a single space outside of labels, the one before the value. */
  #split(line: string): SplitSample | undefined {
    const blank = line.lastIndexOf(" ");
    const written = line.slice(0, Math.max(0, blank));
    const known = this.#memo.get(written);
    if (known === undefined) {
      const sample = splitSample(line);
      if (sample?.end === blank) this.#memo.set(written, sample.series);
      return sample;
    }
    const value = parseValue(line.slice(blank + 1));
    return value === undefined ? splitSample(line) : { series: known, value, end: blank };
  }

  /** The type of a name, from its declaration; an undeclared `_total` is a counter. */
  #placeOf(name: string): Place {
    const declared = this.#types.get(name);
    // Some libraries declare the creation time as a separate gauge.
    const mayBeCreation = declared === undefined || declared === "gauge";
    if (mayBeCreation && name.endsWith("_created") && this.#isSummed(name.slice(0, -8))) return SKIP;
    return declared === undefined ? this.#placeBySuffix(name) : DECLARED[declared];
  }

  #placeBySuffix(name: string): Place {
    for (const part of PARTS) {
      if (!name.endsWith(`_${part}`)) continue;
      const base = name.slice(0, -part.length - 1);
      const type = this.#types.get(base);
      if (type === "histogram" || (type === "summary" && part !== "bucket")) return { kind: "part", type, base, part };
      if (type === "gaugehistogram") return UNSUPPORTED;
    }
    if (this.#types.get(name.replace(/_g(?:count|sum)$/u, "")) === "gaugehistogram") return UNSUPPORTED;
    if (this.#types.get(name.replace(/_info$/u, "")) === "info") return GAUGE;
    return name.endsWith("_total") ? DECLARED.counter : UNKNOWN;
  }

  #isSummed(base: string): boolean {
    const types = [this.#types.get(base), this.#types.get(`${base}_total`)];
    return types.some((type) => type === "counter" || type === "histogram" || type === "summary");
  }

  #addValue(name: string, type: ValueFamily["type"], labels: string, value: number): void {
    if (type === "counter" && !(Number.isFinite(value) && value >= 0)) {
      this.#dropped.malformed++;
      return;
    }
    const create = () => ({ name, type, help: this.#helpOf(name), values: new Map<string, number>() });
    const family = this.#families.getOrInsertComputed(name, create);
    // A duplicate series, or a name that already belongs to a distribution.
    if (!("values" in family) || family.values.has(labels)) this.#dropped.malformed++;
    else family.values.set(labels, value);
  }

  #addPart({ type, base, part }: Extract<Place, { kind: "part" }>, series: Series, value: number): void {
    const family = this.#families.getOrInsertComputed(base, () => ({ type, name: base, drafts: new Map() }));
    const split = part === "bucket" ? series.bucket : { labels: series.labels, bound: 0 };
    if (!("drafts" in family) || split === undefined || !Number.isFinite(value)) {
      this.#dropped.malformed++;
      return;
    }
    const create = (): Draft => ({ buckets: new Map(), sum: undefined, count: undefined });
    const draft = family.drafts.getOrInsertComputed(split.labels, create);
    const isKnown = part === "bucket" ? draft.buckets.has(split.bound) : draft[part] !== undefined;
    if (isKnown) this.#dropped.malformed++;
    else if (part !== "bucket") draft[part] = value;
    else if (draft.buckets.size > MAX_BOUNDS) this.#dropped.limit++;
    else draft.buckets.set(split.bound, value);
  }

  #finish({ type, name, drafts }: DraftFamily): DistributionFamily {
    const distributions = new Map<string, Distribution>();
    for (const [labels, draft] of drafts) {
      const distribution = distributionOf(draft);
      if (distribution === undefined) this.#dropped.malformed++;
      else distributions.set(labels, distribution);
    }
    return { type, name, help: this.#helpOf(name), distributions };
  }

  #helpOf(name: string): string {
    return this.#helps.get(name) ?? this.#helps.get(name.replace(/_(?:total|info)$/u, "")) ?? "";
  }
}

/** undefined if the counts contradict one another. */
function distributionOf({ buckets, sum = 0, count }: Draft): Distribution | undefined {
  const total = count ?? buckets.get(Number.POSITIVE_INFINITY);
  if (total === undefined) return undefined;
  buckets.delete(Number.POSITIVE_INFINITY);
  const sorted = [...buckets].toSorted(([a], [b]) => a - b);
  let below = 0;
  for (const [, each] of [...sorted, [0, total] as const]) {
    if (each < below) return undefined;
    below = each;
  }
  return { bounds: sorted.map(([bound]) => bound), counts: sorted.map(([, each]) => each), sum, count: total };
}

const NAME = /[a-zA-Z_:][a-zA-Z0-9_:]*/uy;
const LABEL = /[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(,|(?=\}))/uy;
/** The value, and a timestamp or an exemplar, which are ignored. */
const VALUE = /[ \t]*(\S+)[ \t]*(?:$|[ \t]-?[0-9.eE+-]+[ \t]*(?:$|#)|#)/uy;

interface SplitSample {
  readonly series: Series;
  readonly value: number;
  /** Offset where name and labels end. */
  readonly end: number;
}

function splitSample(line: string): SplitSample | undefined {
  NAME.lastIndex = 0;
  const name = NAME.exec(line)?.[0];
  if (name === undefined || name.length > MAX_NAME_LENGTH) return undefined;
  let at = name.length;
  let labels = "";
  if (line[at] === "{") {
    const read = readLabels(line, at + 1);
    if (read === undefined) return undefined;
    ({ labels, at } = read);
  }
  VALUE.lastIndex = at;
  const text = VALUE.exec(line)?.[1];
  const value = text === undefined ? undefined : parseValue(text);
  if (value === undefined) return undefined;
  return { series: { name: ownCopy(name), labels, bucket: splitBound(labels) }, value, end: at };
}

/** The labels after the opening brace at `start - 1`, formatted as printed, and the offset where they end. */
function readLabels(line: string, start: number): { labels: string; at: number } | undefined {
  const pairs: (readonly [string, string])[] = [];
  let at = start;
  for (;;) {
    while (line[at] === " " || line[at] === "\t") at++;
    if (line[at] === "}") break;
    LABEL.lastIndex = at;
    const match = LABEL.exec(line);
    if (match === null || pairs.length >= MAX_LABELS) return undefined;
    const name = match[1] ?? "";
    pairs.push([OWN_LABELS.has(name) ? `exported_${name}` : name, escapeLabel(unescapeText(match[2] ?? ""))]);
    at = LABEL.lastIndex;
  }
  pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  if (pairs.some(([name], index) => name === pairs[index - 1]?.[0])) return undefined;
  const labels = pairs.map(([name, value]) => `${name}="${value}"`).join(",");
  return labels.length > MAX_LABELS_LENGTH ? undefined : { labels, at: at + 1 };
}

/** Parses a number as Go's ParseFloat does, limited to the forms that programs write. */
function parseValue(text: string): number | undefined {
  if (/^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/u.test(text)) return Number(text);
  if (/^[+-]?Inf(?:inity)?$/iu.test(text)) return text.startsWith("-") ? -Infinity : Infinity;
  return /^NaN$/iu.test(text) ? Number.NaN : undefined;
}

/** Separates the bound from the labels of a bucket. */
function splitBound(labels: string): { labels: string; bound: number } | undefined {
  const match = /(?:^|,)le="([^"]*)"/u.exec(labels);
  const bound = match === null ? undefined : parseValue(match[1] ?? "");
  if (match === null || bound === undefined || Number.isNaN(bound)) return undefined;
  const rest = labels.slice(0, match.index) + labels.slice(match.index + match[0].length);
  return { labels: rest.startsWith(",") ? rest.slice(1) : rest, bound };
}

function unescapeText(text: string): string {
  return text.includes("\\") ? text.replace(/\\([\\"n])/gu, (_, char: string) => (char === "n" ? "\n" : char)) : text;
}
