/** Parser and merger of the workers' metrics, compared with Python's prometheus_client and with sums of its samples. */
import assert from "node:assert/strict";
import { MergedMetrics } from "../../src/metrics/merge.ts";
import { type ParsedExposition, parseExposition, SeriesMemo } from "../../src/metrics/parse.ts";
import { SeededRandom } from "../support/random.ts";
import { exposition, type MetricSchema, randomSchema } from "./expositions.ts";
import { type OracleFormat, type OracleSample, PrometheusOracle } from "./prometheusOracle.ts";
import { FuzzFailure, type FuzzTarget, mutated } from "./target.ts";

const BATCH = 1000;

type Series = Map<string, number>;

/** Key of a series: its name and its sorted labels. */
function keyOf(name: string, labels: Iterable<readonly [string, string]>): string {
  return `${name} ${JSON.stringify([...labels].toSorted(([a], [b]) => (a < b ? -1 : 1)))}`;
}

/** The name of a label after the merge, which renames labels that it uses itself. */
function ownName(name: string): string {
  return name === "pool" || name === "worker" ? `exported_${name}` : name;
}

/** Labels with `le` normalized as a number, because there are several notations. */
function labelPairs(labels: Readonly<Record<string, string>>, rename: (name: string) => string): [string, string][] {
  return Object.entries(labels).map(([name, value]) => [
    rename(name),
    name === "le" ? String(Number(value.replace("+Inf", "Infinity"))) : value,
  ]);
}

/** The series that Python parses, without those that are not summed. The first of equal series counts. */
function seriesOfOracle(samples: readonly OracleSample[], rename = ownName): Series {
  const series: Series = new Map();
  for (const { name, labels, value, type } of samples) {
    if (type === "summary" && "quantile" in labels) continue;
    if (name.endsWith("_created")) continue;
    const key = keyOf(name, labelPairs(labels, rename));
    if (!series.has(key)) series.set(key, value);
  }
  return series;
}

const LABEL = /([a-zA-Z0-9_]+)="((?:[^"\\]|\\.)*)"/gu;

function readLabels(text: string): [string, string][] {
  return [...text.matchAll(LABEL)].map(([, name = "", value = ""]) => [
    name,
    value.replace(/\\(.)/gu, (_, char: string) => (char === "n" ? "\n" : char)),
  ]);
}

/** The series that our parser returns. */
function seriesOfParsed({ families }: ParsedExposition): Series {
  const series: Series = new Map();
  for (const family of families) {
    // Python appends _total to every sample of a counter.
    const name = family.type === "counter" && !family.name.endsWith("_total") ? `${family.name}_total` : family.name;
    if ("values" in family) {
      for (const [labels, value] of family.values) series.set(keyOf(name, readLabels(labels)), value);
      continue;
    }
    for (const [text, { bounds, counts, sum, count }] of family.distributions) {
      const labels = readLabels(text);
      for (const [index, bound] of bounds.entries())
        series.set(keyOf(`${name}_bucket`, [...labels, ["le", String(bound)]]), counts[index] ?? Number.NaN);
      if (family.type === "histogram") series.set(keyOf(`${name}_bucket`, [...labels, ["le", "Infinity"]]), count);
      series.set(keyOf(`${name}_sum`, labels), sum);
      series.set(keyOf(`${name}_count`, labels), count);
    }
  }
  return series;
}

function assertSame(ours: Series, theirs: Series): void {
  for (const [key, value] of theirs) {
    assert.ok(ours.has(key), `${key} is missing`);
    assertClose(key, ours.get(key) ?? Number.NaN, value);
  }
  for (const key of ours.keys()) assert.ok(theirs.has(key), `${key} is unexpected`);
}

function assertClose(key: string, a: number, b: number): void {
  const isClose = Object.is(a, b) || a === b || Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b));
  assert.ok(isClose, `${key}: ${a} instead of ${b}`);
}

/** A target whose cases need the oracle, which parses the texts of a whole batch at once. */
function oracleTarget<Case extends { readonly texts: readonly (readonly [OracleFormat, string])[] }>(
  name: string,
  make: (random: SeededRandom) => Case,
  check: (made: Case, read: readonly (readonly OracleSample[] | string)[]) => void,
): FuzzTarget {
  const prepare = (seed: number, count: number): Case[] =>
    Array.from({ length: count }, (_, index) => {
      try {
        return make(new SeededRandom(seed + index));
      } catch (error) {
        throw new FuzzFailure(name, seed + index, "", error);
      }
    });
  return {
    name,
    run: async (seed, cases) => {
      using oracle = new PrometheusOracle();
      // The oracle parses the next batch while this one is checked.
      let next = prepare(seed, Math.min(cases, BATCH));
      let reading = oracle.read(next.flatMap(({ texts }) => texts));
      for (let begun = 0; begun < cases; begun += BATCH) {
        const batch = next;
        const read = await reading;
        const following = begun + BATCH;
        next = prepare(seed + following, Math.max(0, Math.min(cases - following, BATCH)));
        reading = oracle.read(next.flatMap(({ texts }) => texts));
        // A failed case ends the oracle while it parses.
        reading.catch(() => {});
        let at = 0;
        for (const [index, made] of batch.entries()) {
          try {
            check(made, read.slice(at, at + made.texts.length));
          } catch (error) {
            throw new FuzzFailure(name, seed + begun + index, made.texts, error);
          }
          at += made.texts.length;
        }
      }
      await reading;
    },
  };
}

// The parser

const NOISE = [
  "{",
  "}",
  '"',
  "\\",
  ",",
  "=",
  " ",
  "\n",
  "\t",
  "#",
  "# TYPE ",
  "# HELP ",
  "counter",
  "histogram",
  "NaN",
  "+Inf",
].concat([
  "1",
  "-1",
  "e5",
  "0x1",
  "_total",
  "_bucket",
  "_sum",
  "_count",
  "_created",
  'le="',
  "le=",
  "é",
  "\u0000",
  "\r",
  "# EOF\n",
  " # {} 1",
]);

interface ParserCase {
  readonly texts: readonly (readonly [OracleFormat, string])[];
  readonly isValid: boolean;
}

/** Shared by all cases, as by the scrapes of a pool. It must never change a result. */
const MEMO = new SeriesMemo();

export const PROMETHEUS_PARSER = oracleTarget(
  "prometheusParser",
  (random): ParserCase => {
    const format = random.chance(0.3) ? "openmetrics" : "prometheus";
    const text = exposition(randomSchema(random), format, random);
    const isValid = random.chance(0.5);
    return { texts: [[format, isValid ? text : mutated(text, NOISE, random)]], isValid };
  },
  ({ texts, isValid }, [read]) => {
    const text = texts[0]?.[1] ?? "";
    const parsed = parseExposition(text);
    assert.deepEqual(parseExposition(text, MEMO), parsed, "the memo changes the result");
    if (isValid) {
      assert.ok(typeof read === "object", `the oracle rejects it: ${read}`);
      assertSame(seriesOfParsed(parsed), withCounts(seriesOfOracle(read)));
      assert.deepEqual(parsed.dropped, { malformed: 0, limit: 0, unsupported: 0 });
      return;
    }
    for (const family of parsed.families) {
      const isSum = family.type === "counter";
      if (isSum && "values" in family)
        for (const value of family.values.values()) assert.ok(value >= 0 && Number.isFinite(value), "a counter");
    }
    // One parser may reject an edited text completely and the other only some lines. Values that both return must agree.
    if (typeof read !== "object" || parsed.dropped.malformed > 0) return;
    // Our parser ends at # EOF in both formats.
    if (texts[0]?.[0] === "prometheus" && text.includes("# EOF")) return;
    // Python's OpenMetrics parser takes the first character of the value for the missing blank.
    if (texts[0]?.[0] === "openmetrics" && /\}[^ \n]/u.test(text)) return;
    const theirs = seriesOfOracle(read);
    for (const [key, value] of seriesOfParsed(parsed)) {
      const other = theirs.get(key);
      // If the +Inf bucket differs from the count, our parser uses the count.
      if (other !== undefined && !key.includes('["le","Infinity"]')) assertClose(key, value, other);
    }
  },
);

/**
 * Adds sum and count, which OpenMetrics omits for histograms with negative bounds. The count is that of the last bucket, and
 * the sum that of `known`, or 0.
 */
function withCounts(series: Series, known?: Series): Series {
  for (const [key, value] of series) {
    const [, name, labels] = /^(\S+)_bucket (.*)$/u.exec(key) ?? [];
    if (name === undefined || labels === undefined) continue;
    const pairs = JSON.parse(labels) as [string, string][];
    if (!pairs.some(([label, bound]) => label === "le" && bound === "Infinity")) continue;
    const rest = pairs.filter(([label]) => label !== "le");
    if (!series.has(keyOf(`${name}_count`, rest))) series.set(keyOf(`${name}_count`, rest), value);
    const sum = keyOf(`${name}_sum`, rest);
    if (!series.has(sum)) series.set(sum, known?.get(sum) ?? 0);
  }
  return series;
}

// The merger

interface MergeCase {
  /** The merged metrics in one or both formats. */
  readonly texts: readonly (readonly [OracleFormat, string])[];
  readonly expected: Series;
  /** Counters without _total. */
  readonly bare: ReadonlySet<string>;
}

/** Adds the expected sums. They are computed with our parser, which the other target checks. */
function addExpected(expected: Series, parsed: ParsedExposition, slot: number, isLast: boolean): void {
  for (const family of parsed.families) {
    const isSum = family.type !== "gauge" && family.type !== "unknown";
    if (!isSum && !isLast) continue;
    const own: [string, string][] = isSum
      ? [["pool", "w"]]
      : [
          ["pool", "w"],
          ["worker", `w-${slot}`],
        ];
    for (const [key, value] of seriesOfParsed({ ...parsed, families: [family] })) {
      const at = key.indexOf(" ");
      const whole = keyOf(key.slice(0, at), [...own, ...(JSON.parse(key.slice(at + 1)) as [string, string][])]);
      expected.set(whole, (isSum ? (expected.get(whole) ?? 0) : 0) + value);
    }
  }
}

export const PROMETHEUS_MERGER = oracleTarget(
  "prometheusMerger",
  (random): MergeCase => {
    const schema: readonly MetricSchema[] = randomSchema(random);
    const merged = new MergedMetrics();
    const expected: Series = new Map();
    for (let slot = random.between(0, 2); slot >= 0; slot--) {
      const incarnations = random.chance(0.7) ? 1 : 2;
      for (let incarnation = 1; incarnation <= incarnations; incarnation++) {
        const source = { pool: "w", slot, incarnation };
        const parsed = parseExposition(exposition(schema, "prometheus", random));
        merged.observe(source, parsed);
        if (incarnation < incarnations && random.chance(0.5)) merged.ended(source);
        addExpected(expected, parsed, slot, incarnation === incarnations);
      }
    }
    const texts: [OracleFormat, string][] = [["prometheus", merged.format("prometheus")]];
    if (random.chance(0.3)) texts.push(["openmetrics", merged.format("openmetrics")]);
    const bare = new Set(schema.filter(({ type }) => type === "bare counter").map(({ name }) => name));
    return { texts, expected, bare };
  },
  ({ expected, bare }, read) => {
    for (const samples of read) {
      assert.ok(typeof samples === "object", `the oracle rejects the merged metrics: ${samples}`);
      // OpenMetrics has no counter without _total, and Python appends it to counters of the Prometheus format.
      const named = samples.map((sample) =>
        sample.type === "unknown" && bare.has(sample.name) ? { ...sample, name: `${sample.name}_total` } : sample,
      );
      assertSame(
        withCounts(
          seriesOfOracle(named, (name) => name),
          expected,
        ),
        expected,
      );
    }
  },
);
