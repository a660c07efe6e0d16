/** Random expositions of a program: its metrics, and their values in one of the two formats. */
import type { SeededRandom } from "../support/random.ts";
import type { OracleFormat } from "./prometheusOracle.ts";
import { textOf } from "./target.ts";

export interface MetricSchema {
  readonly name: string;
  readonly type: "counter" | "bare counter" | "gauge" | "untyped" | "histogram" | "summary" | "undeclared";
  readonly help: string | undefined;
  /** Formatted labels of each series, without braces. */
  readonly series: readonly string[];
  readonly bounds: readonly string[];
}

const TYPES = ["counter", "counter", "bare counter", "gauge", "untyped", "histogram", "histogram", "summary"].concat([
  "undeclared",
]) as MetricSchema["type"][];
const LABEL_NAMES = ["a", "b", "path", "_x1", "pool", "worker", "code", "B"];
const VALUE_PARTS = [
  "a",
  "B",
  " ",
  "  ",
  ",",
  "=",
  "{",
  "}",
  "#",
  " # ",
  "/",
  "\\\\",
  '\\"',
  "\\n",
  "é",
  "🎉",
  "\t",
  "'",
  "0",
];
const HELP_PARTS = ["Help", " ", "of", "\\n", "\\\\", "é", "{", "#", '"', "TYPE"];
const BOUNDS = [["0.1", "1.0", "10.0"], ["0.005", "0.5"], ["-1.0", "0.0", "1e+06"], []];

function labelsOf(random: SeededRandom): string {
  const names = new Set<string>();
  for (let count = random.between(0, 3); count > 0; count--) names.add(random.pick(LABEL_NAMES));
  return [...names].map((name) => `${name}="${textOf(VALUE_PARTS, random, 4)}"`).join(",");
}

/** Metrics with distinct names. */
export function randomSchema(random: SeededRandom): readonly MetricSchema[] {
  const result: MetricSchema[] = [];
  for (let index = random.between(1, 2); index > 0; index--) {
    const type = random.pick(TYPES);
    const base = `${random.pick(["http", "x:y", "_a", "Z"])}_${index}`;
    const name = type === "counter" || (type === "undeclared" && random.chance(0.5)) ? `${base}_total` : base;
    const bySeries = new Map<string, string>();
    for (let count = random.between(1, 2); count > 0; count--) {
      const labels = labelsOf(random);
      bySeries.set(
        labels
          .split(/(?<="),/u)
          .toSorted()
          .join(),
        labels,
      );
    }
    const help = random.chance(0.7) ? textOf(HELP_PARTS, random, 5).trim() || undefined : undefined;
    result.push({ name, type, help, series: [...bySeries.values()], bounds: random.pick(BOUNDS) });
  }
  return result;
}

function countOf(random: SeededRandom): number {
  return random.chance(0.9) ? random.between(0, 1000) : random.between(0, 2 ** 40);
}

/** A number in one of the usual notations. */
function formatNumber(value: number, random: SeededRandom): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return random.pick([
    String(value),
    value.toExponential(),
    Number.isInteger(value) && Math.abs(value) < 1e15 ? `${value}.0` : String(value),
  ]);
}

function anyNumber(random: SeededRandom): number {
  return random.pick([0, 1, -1, 0.1, -2.5e-7, 1e21, 123_456_789, Number.NaN, Number.POSITIVE_INFINITY, random.next()]);
}

/** The exposition of a program at one moment. */
export function exposition(schema: readonly MetricSchema[], format: OracleFormat, random: SeededRandom): string {
  const isOpen = format === "openmetrics";
  // OpenMetrics requires a timestamp on all samples of a group or on none.
  const isTimed = random.chance(0.1);
  let text = "";
  const gap = () => (isOpen || random.chance(0.95) ? " " : random.pick(["  ", "\t"]));
  const add = (name: string, labels: readonly string[], value: string): void => {
    const inner = labels.filter((each) => each !== "").join(",");
    const comma = !isOpen && inner !== "" && random.chance(0.05) ? "," : "";
    const braces = inner === "" && random.chance(0.8) ? "" : `{${inner}${comma}}`;
    const time = isTimed || (!isOpen && random.chance(0.05)) ? ` ${isOpen ? "1700000000.5" : "1700000000500"}` : "";
    text += `${name}${braces}${braces === "" ? " " : gap()}${value}${time}\n`;
  };
  for (const { name, type, help, series, bounds } of schema) {
    // OpenMetrics has no counters without _total and no samples without a declaration.
    const isBare = type === "bare counter";
    if (isOpen && (isBare || type === "undeclared")) continue;
    const family = isOpen && type === "counter" ? name.slice(0, -6) : name;
    const declared = isBare ? "counter" : type === "untyped" && isOpen ? "unknown" : type;
    // Series of a family are contiguous, because Python's parser of the Prometheus format forgets a type at another sample.
    if (help !== undefined && type !== "undeclared")
      text += `# HELP ${family} ${isOpen ? help.replaceAll('"', '\\"') : help}\n`;
    if (type !== "undeclared") text += `# TYPE ${family} ${declared}\n`;
    for (const labels of series) {
      if (type === "histogram") {
        let count = 0;
        for (const bound of bounds) {
          count += countOf(random);
          add(
            `${name}_bucket`,
            random.chance(0.5) ? [labels, `le="${bound}"`] : [`le="${bound}"`, labels],
            formatNumber(count, random),
          );
        }
        count += countOf(random);
        add(`${name}_bucket`, [labels, 'le="+Inf"'], formatNumber(count, random));
        // OpenMetrics allows no sum if observations may be negative.
        if (!isOpen || !bounds.some((bound) => bound.startsWith("-")))
          add(`${name}_sum`, [labels], formatNumber(countOf(random) / 8, random));
        if (!isOpen || !bounds.some((bound) => bound.startsWith("-")))
          add(`${name}_count`, [labels], formatNumber(count, random));
      } else if (type === "summary") {
        if (random.chance(0.5))
          add(name, [labels, 'quantile="0.5"'], formatNumber(Math.abs(anyNumber(random)), random));
        add(`${name}_sum`, [labels], formatNumber(countOf(random) / 8, random));
        add(`${name}_count`, [labels], formatNumber(countOf(random), random));
      } else {
        const isCounter = type.endsWith("counter") || name.endsWith("_total");
        add(name, [labels], formatNumber(isCounter ? countOf(random) : anyNumber(random), random));
        if (isOpen && type === "counter" && random.chance(0.2)) add(`${family}_created`, [labels], "1.7e+09");
      }
    }
  }
  return isOpen ? `${text}# EOF\n` : text;
}
