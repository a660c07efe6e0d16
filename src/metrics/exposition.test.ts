import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseFormat, formatMetrics, type Metric } from "./exposition.ts";

const METRICS: readonly Metric<number>[] = [
  { name: "up", type: "gauge", help: "Plain.", labels: [], samples: (value) => [{ labels: [], value }] },
  {
    name: "exits_total",
    type: "counter",
    help: 'A "quoted" \\ word\nand a second line.',
    labels: ["pool", "status"],
    samples: () => [
      { labels: ["web", "0"], value: 3 },
      { labels: ['a"b\\c\nd', "SIGKILL"], value: 0.25 },
    ],
  },
  {
    name: "wait_seconds",
    type: "histogram",
    help: "Waits.",
    labels: ["pool"],
    bounds: [0.5, 1],
    samples: () => [{ labels: ["web"], counts: [1, 0, 2], sum: 9.5 }],
  },
  {
    name: "bare_seconds",
    type: "histogram",
    help: "No labels.",
    labels: [],
    bounds: [1],
    samples: () => [{ labels: [], counts: [0, 0], sum: 0 }],
  },
  { name: "nothing", type: "gauge", help: "Has no samples.", labels: ["pool"], samples: () => [] },
];

test("the Prometheus text has help, type and samples of each metric, and histograms are cumulative", () => {
  assert.equal(
    formatMetrics(METRICS, 1, "prometheus"),
    `# HELP up Plain.
# TYPE up gauge
up 1
# HELP exits_total A "quoted" \\\\ word\\nand a second line.
# TYPE exits_total counter
exits_total{pool="web",status="0"} 3
exits_total{pool="a\\"b\\\\c\\nd",status="SIGKILL"} 0.25
# HELP wait_seconds Waits.
# TYPE wait_seconds histogram
wait_seconds_bucket{pool="web",le="0.5"} 1
wait_seconds_bucket{pool="web",le="1"} 1
wait_seconds_bucket{pool="web",le="+Inf"} 3
wait_seconds_sum{pool="web"} 9.5
wait_seconds_count{pool="web"} 3
# HELP bare_seconds No labels.
# TYPE bare_seconds histogram
bare_seconds_bucket{le="1"} 0
bare_seconds_bucket{le="+Inf"} 0
bare_seconds_sum 0
bare_seconds_count 0
`,
  );
});

test("the OpenMetrics text names counters without _total, writes bounds as floats and ends with EOF", () => {
  assert.equal(
    formatMetrics(METRICS.slice(0, 3), 1, "openmetrics"),
    `# HELP up Plain.
# TYPE up gauge
up 1
# HELP exits A \\"quoted\\" \\\\ word\\nand a second line.
# TYPE exits counter
exits_total{pool="web",status="0"} 3
exits_total{pool="a\\"b\\\\c\\nd",status="SIGKILL"} 0.25
# HELP wait_seconds Waits.
# TYPE wait_seconds histogram
wait_seconds_bucket{pool="web",le="0.5"} 1
wait_seconds_bucket{pool="web",le="1.0"} 1
wait_seconds_bucket{pool="web",le="+Inf"} 3
wait_seconds_sum{pool="web"} 9.5
wait_seconds_count{pool="web"} 3
# EOF
`,
  );
});

test("infinities and NaN have the spelling of Prometheus", () => {
  for (const [value, text] of [
    [Number.POSITIVE_INFINITY, "+Inf"],
    [Number.NEGATIVE_INFINITY, "-Inf"],
    [Number.NaN, "NaN"],
    [2 ** 64 - 1, "18446744073709552000"],
    [1e-7, "1e-7"],
  ] as const) {
    assert.match(
      formatMetrics(METRICS.slice(0, 1), value, "prometheus"),
      new RegExp(`^up ${RegExp.escape(text)}$`, "mu"),
    );
  }
});

test("OpenMetrics is chosen only if the Accept header prefers it", () => {
  for (const [accept, format] of [
    [undefined, "prometheus"],
    ["*/*", "prometheus"],
    ["text/plain", "prometheus"],
    ["application/openmetrics-text", "openmetrics"],
    ["application/openmetrics-text; version=1.0.0; charset=utf-8", "openmetrics"],
    ["application/openmetrics-text;version=0.0.1", "prometheus"],
    ["application/openmetrics-text;q=0.1,text/plain;q=0.9", "prometheus"],
    ["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", "openmetrics"],
    ["application/openmetrics-text;q=0", "prometheus"],
    ["application/openmetrics-text;q=nonsense", "prometheus"],
  ] as const) {
    assert.equal(chooseFormat(accept), format, accept ?? "no header");
  }
});
