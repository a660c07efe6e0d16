/**
 * Prints metrics in the two text formats that Prometheus reads: its own 0.0.4 and OpenMetrics 1.0.
 *
 * Each metric is printed as one block; a metric without samples is omitted. Names, types and label names are trusted
 * (the catalog's lint test checks them); label values and help are escaped. Nothing is kept between two scrapes.
 * Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
 * https://prometheus.io/docs/specs/om/open_metrics_spec/
 */

export type ExpositionFormat = "prometheus" | "openmetrics";

/** The Content-Type of each format. */
export const CONTENT_TYPES: Readonly<Record<ExpositionFormat, string>> = {
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/** One value; `labels` are the values of the metric's labels, in order. */
export interface Sample {
  readonly labels: readonly string[];
  readonly value: number;
}

/** One distribution; `counts` has one entry more than the metric has bounds, and is not cumulative. */
export interface HistogramSample {
  readonly labels: readonly string[];
  readonly counts: readonly number[];
  readonly sum: number;
}

interface Described {
  readonly name: string;
  /** One sentence, written for readers of a dashboard. */
  readonly help: string;
  /** Names of the labels; every sample has a value for each. */
  readonly labels: readonly string[];
}

/** A metric whose samples are computed from a `Source` on demand. */
export type Metric<Source> = Described &
  (
    | { readonly type: "counter" | "gauge"; readonly samples: (source: Source) => Iterable<Sample> }
    | {
        readonly type: "histogram";
        /** Upper bounds of the buckets, ascending, without +Inf. */
        readonly bounds: readonly number[];
        readonly samples: (source: Source) => Iterable<HistogramSample>;
      }
  );

/** The whole exposition of `metrics`, in the given order. */
export function formatMetrics<Source>(
  metrics: readonly Metric<Source>[],
  source: Source,
  format: ExpositionFormat,
): string {
  let text = "";
  for (const metric of metrics) {
    const lines = metric.type === "histogram" ? histogramLines(metric, source, format) : valueLines(metric, source);
    if (lines !== "") text += formatHead(metric, format) + lines;
  }
  return format === "openmetrics" ? `${text}# EOF\n` : text;
}

/** The format that an `Accept` header prefers; Prometheus' own by default. */
export function chooseFormat(accept: string | undefined): ExpositionFormat {
  let openmetrics = 0;
  let prometheus = 0;
  for (const range of (accept ?? "").toLowerCase().split(",")) {
    const [type = "", ...parameters] = range.split(";").map((part) => part.trim());
    const quality = Number(parameters.find((each) => each.startsWith("q="))?.slice(2) ?? 1);
    if (type === "application/openmetrics-text") {
      const version = parameters.find((each) => each.startsWith("version="))?.slice(8);
      if (version === undefined || version === "1.0.0") openmetrics = Math.max(openmetrics, quality);
    } else if (type === "text/plain") {
      prometheus = Math.max(prometheus, quality);
    }
  }
  return openmetrics > prometheus ? "openmetrics" : "prometheus";
}

/** The HELP line (if help is known) and the TYPE line of a metric, which precede its samples. */
export function formatHead(
  metric: { readonly name: string; readonly help: string; readonly type: string },
  format: ExpositionFormat,
): string {
  const isOpen = format === "openmetrics";
  const family = isOpen && metric.type === "counter" ? metric.name.replace(/_total$/u, "") : metric.name;
  const escaped = metric.help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  const help = isOpen ? escaped.replaceAll('"', '\\"') : escaped;
  return `${help === "" ? "" : `# HELP ${family} ${help}\n`}# TYPE ${family} ${metric.type}\n`;
}

function valueLines<Source>(metric: Exclude<Metric<Source>, { type: "histogram" }>, source: Source): string {
  const { name, labels: names } = metric;
  const lines: string[] = [];
  for (const { labels, value } of metric.samples(source)) {
    const pairs = formatLabels(names, labels);
    lines.push(pairs === "" ? `${name} ${formatNumber(value)}\n` : `${name}{${pairs}} ${formatNumber(value)}\n`);
  }
  return lines.join("");
}

function histogramLines<Source>(
  metric: Extract<Metric<Source>, { type: "histogram" }>,
  source: Source,
  format: ExpositionFormat,
): string {
  const bounds = metric.bounds.map((bound) => formatBound(bound, format));
  let lines = "";
  for (const { labels, counts, sum } of metric.samples(source)) {
    const pairs = formatLabels(metric.labels, labels);
    const start = `${metric.name}_bucket{${pairs}${pairs === "" ? "" : ","}le="`;
    const end = pairs === "" ? "" : `{${pairs}}`;
    let count = 0;
    for (let index = 0; index <= bounds.length; index++) {
      count += counts[index] ?? 0;
      lines += `${start}${bounds[index] ?? "+Inf"}"} ${count}\n`;
    }
    lines += `${metric.name}_sum${end} ${formatNumber(sum)}\n${metric.name}_count${end} ${count}\n`;
  }
  return lines;
}

/** Formatted pairs by their array of values, because several metrics share one array. */
const KNOWN_PAIRS = new WeakMap<readonly string[], { readonly names: readonly string[]; readonly pairs: string }>();

/** `a="1",b="2"`; empty if there are no labels. */
function formatLabels(names: readonly string[], values: readonly string[]): string {
  const known = KNOWN_PAIRS.get(values);
  if (known !== undefined && (known.names === names || known.names.join() === names.join())) return known.pairs;
  const pairs = names.map((name, index) => `${name}="${escapeLabel(values[index] ?? "")}"`).join(",");
  KNOWN_PAIRS.set(values, { names, pairs });
  return pairs;
}

/** Escapes a label value for use between quotes. */
export function escapeLabel(value: string): string {
  if (!/[\\"\n]/u.test(value)) return value;
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

/** Formats a value; the same in both formats. */
export function formatNumber(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  return String(value);
}

/** Formats a bucket bound. OpenMetrics requires a floating point number, so that `le` has only one spelling. */
export function formatBound(bound: number, format: ExpositionFormat): string {
  return format === "openmetrics" && Number.isInteger(bound) ? `${bound}.0` : String(bound);
}
