import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { assertNeverDown, monotonicSeries, parseSeries } from "../../test/support/exposition.ts";
import { NODE, PYTHON } from "../../test/support/workerExpositions.ts";
import { MergedMetrics, type Source } from "./merge.ts";
import { parseExposition } from "./parse.ts";

function worker(slot: number, incarnation = 1, pool = "web"): Source {
  return { pool, slot, incarnation };
}

function show(merged: MergedMetrics, source: Source, text: string): void {
  merged.observe(source, parseExposition(text));
}

function totalOf(merged: MergedMetrics, series: string): number | undefined {
  return parseSeries(merged.format("prometheus")).get(series);
}

const COUNTER = "# TYPE a_total counter\na_total";

test("counters are summed per pool", () => {
  const merged = new MergedMetrics();
  show(merged, worker(0), `${COUNTER}{x="1"} 3`);
  show(merged, worker(1), `${COUNTER}{x="1"} 4`);
  show(merged, worker(0, 1, "api"), `${COUNTER}{x="1"} 50`);
  assert.equal(
    merged.format("prometheus"),
    '# TYPE a_total counter\na_total{pool="web",x="1"} 7\na_total{pool="api",x="1"} 50\n',
  );
});

test("counts of exited incarnations are kept", () => {
  const merged = new MergedMetrics();
  for (let incarnation = 1; incarnation <= 1000; incarnation++) {
    show(merged, worker(0, incarnation), `${COUNTER} 2`);
    show(merged, worker(0, incarnation), `${COUNTER} 5`);
    if (incarnation % 2 === 0) merged.ended(worker(0, incarnation));
  }
  assert.equal(totalOf(merged, 'a_total{pool="web"}'), 5000);
  assert.equal(merged.linesOf("web"), 1);
});

test("a counter that a live process resets keeps its sum", () => {
  const merged = new MergedMetrics();
  for (const value of [10, 12, 1, 3]) show(merged, worker(0), `${COUNTER} ${value}`);
  assert.equal(totalOf(merged, 'a_total{pool="web"}'), 15);
});

test("a series that a worker no longer exposes keeps its value", () => {
  const merged = new MergedMetrics();
  show(merged, worker(0), `${COUNTER}{x="1"} 10`);
  show(merged, worker(0), `${COUNTER}{x="2"} 1`);
  assert.equal(totalOf(merged, 'a_total{pool="web",x="1"}'), 10);
  show(merged, worker(0), `${COUNTER}{x="1"} 11`);
  assert.equal(totalOf(merged, 'a_total{pool="web",x="1"}'), 11);
});

test("results of an ended or older incarnation change nothing", () => {
  const merged = new MergedMetrics();
  show(merged, worker(0, 1), `${COUNTER} 5`);
  merged.ended(worker(0, 1));
  show(merged, worker(0, 1), `${COUNTER} 9`);
  assert.equal(totalOf(merged, 'a_total{pool="web"}'), 5);
  show(merged, worker(0, 2), `${COUNTER} 1`);
  show(merged, worker(0, 1), `${COUNTER} 9`);
  merged.ended(worker(0, 1));
  assert.equal(totalOf(merged, 'a_total{pool="web"}'), 6);
  show(merged, worker(0, 2), `${COUNTER} 2`);
  assert.equal(totalOf(merged, 'a_total{pool="web"}'), 7);
});

const HISTOGRAM = (buckets: Readonly<Record<string, number>>, sum: number, count: number) =>
  `# TYPE h histogram\n${Object.entries(buckets)
    .map(([le, value]) => `h_bucket{le="${le}"} ${value}\n`)
    .join("")}h_bucket{le="+Inf"} ${count}\nh_sum ${sum}\nh_count ${count}\n`;

test("a histogram with negative bounds has neither sum nor count in OpenMetrics, which forbids them", () => {
  const merged = new MergedMetrics();
  show(merged, worker(0), HISTOGRAM({ "-1": 1, "2": 3 }, 5, 4));
  assert.equal(totalOf(merged, 'h_sum{pool="web"}'), 5);
  assert.equal(
    merged.format("openmetrics"),
    `# TYPE h histogram
h_bucket{pool="web",le="-1.0"} 1
h_bucket{pool="web",le="2.0"} 3
h_bucket{pool="web",le="+Inf"} 4
# EOF
`,
  );
});

test("histograms are summed, and a decrease of any part is a reset", () => {
  const merged = new MergedMetrics();
  show(merged, worker(0), HISTOGRAM({ "1": 2, "5": 3 }, 10, 4));
  show(merged, worker(1), HISTOGRAM({ "1": 1, "5": 1 }, 1, 1));
  // As many as before in all, but of another kind.
  show(merged, worker(0), HISTOGRAM({ "1": 0, "5": 4 }, 12, 4));
  const series = parseSeries(merged.format("prometheus"));
  assert.deepEqual(Object.fromEntries(series), {
    'h_bucket{pool="web",le="1"}': 3,
    'h_bucket{pool="web",le="5"}': 8,
    'h_bucket{pool="web",le="+Inf"}': 9,
    'h_sum{pool="web"}': 23,
    'h_count{pool="web"}': 9,
  });
});

test("histograms with different buckets are summed over all bounds, and no bucket decreases", () => {
  const merged = new MergedMetrics();
  show(merged, worker(0), HISTOGRAM({ "1": 2, "5": 6 }, 10, 8));
  const before = monotonicSeries(merged.format("prometheus"));
  show(merged, worker(1), HISTOGRAM({ "2": 10, "5": 10 }, 20, 10));
  const now = monotonicSeries(merged.format("prometheus"));
  assertNeverDown(before, now);
  assert.equal(now.get('h_bucket{pool="web",le="1"}'), 2);
  assert.equal(now.get('h_bucket{pool="web",le="2"}'), 12);
  assert.equal(now.get('h_bucket{pool="web",le="5"}'), 16);
  merged.ended(worker(0));
  show(merged, worker(0, 2), HISTOGRAM({ "1": 1 }, 1, 1));
  assertNeverDown(now, monotonicSeries(merged.format("prometheus")));
});

test("summaries keep only sum and count", () => {
  const merged = new MergedMetrics();
  for (const slot of [0, 1]) show(merged, worker(slot), '# TYPE s summary\ns{quantile="0.5"} 1\ns_sum 2\ns_count 3');
  assert.equal(merged.format("prometheus"), '# TYPE s summary\ns_sum{pool="web"} 4\ns_count{pool="web"} 6\n');
});

test("gauges are separate by worker, and exist only for workers that answered last time", () => {
  const merged = new MergedMetrics();
  const gauge = (value: number) => `# TYPE g gauge\ng{worker="me"} ${value}\nplain 1\n${COUNTER} 1`;
  show(merged, worker(0), gauge(1));
  show(merged, worker(1), gauge(2));
  assert.equal(totalOf(merged, 'g{pool="web",worker="web-0",exported_worker="me"}'), 1);
  assert.equal(totalOf(merged, 'g{pool="web",worker="web-1",exported_worker="me"}'), 2);
  assert.equal(totalOf(merged, 'plain{pool="web",worker="web-1"}'), 1);
  merged.unanswered(worker(0));
  merged.ended(worker(1));
  assert.deepEqual([...parseSeries(merged.format("prometheus")).keys()], ['a_total{pool="web"}']);
  show(merged, worker(0), gauge(3));
  assert.equal(totalOf(merged, 'g{pool="web",worker="web-0",exported_worker="me"}'), 3);
});

test("a family whose type conflicts is dropped and counted until no worker exposes the other type", () => {
  const merged = new MergedMetrics();
  show(merged, worker(0), `${COUNTER} 5`);
  show(merged, worker(1), '# TYPE a_total gauge\na_total{x="1"} 1\na_total{x="2"} 1');
  assert.equal(merged.droppedOf("web").conflict, 2);
  assert.deepEqual([...parseSeries(merged.format("prometheus")).values()], [5]);
  merged.ended(worker(0));
  show(merged, worker(1), '# TYPE a_total gauge\na_total{x="1"} 1');
  assert.equal(merged.format("prometheus"), '# TYPE a_total gauge\na_total{pool="web",worker="web-1",x="1"} 1\n');
  assert.equal(merged.linesOf("web"), 1);
});

test("a name that another family's lines use is a conflict", () => {
  const merged = new MergedMetrics();
  show(merged, worker(0), HISTOGRAM({ "1": 1 }, 1, 1));
  show(merged, worker(1), "# TYPE h_count gauge\nh_count 7");
  assert.equal(merged.droppedOf("web").conflict, 1);
  assert.equal(totalOf(merged, 'h_count{pool="web"}'), 1);
});

test("the series of a pool are bounded, and dropped samples are counted", () => {
  const merged = new MergedMetrics();
  const churn = (incarnation: number) =>
    Array.from({ length: 1000 }, (_, index) => `r_total{id="${incarnation}-${index}"} 1`).join("\n");
  for (let incarnation = 1; incarnation <= 30; incarnation++) show(merged, worker(0, incarnation), churn(incarnation));
  assert.equal(merged.linesOf("web"), 20_000);
  assert.equal(merged.droppedOf("web").limit, 10_000);
  assert.equal(parseSeries(merged.format("prometheus")).size, 20_000);
});

test("gauges of exited workers leave nothing behind", () => {
  const merged = new MergedMetrics();
  for (let incarnation = 1; incarnation <= 1000; incarnation++)
    show(merged, worker(0, incarnation), `# TYPE g_${incarnation} gauge\ng_${incarnation}{pid="${incarnation}"} 1`);
  merged.ended(worker(0, 1000));
  assert.equal(merged.format("prometheus"), "");
});

test("expositions of Python and Node.js are merged and printed in both formats", () => {
  const merged = new MergedMetrics();
  for (const slot of [0, 1]) {
    show(merged, worker(slot), PYTHON);
    show(merged, worker(slot, 1, "node"), NODE);
  }
  const text = merged.format("prometheus");
  const series = parseSeries(text);
  assert.equal(series.get('http_requests_total{pool="web",method="GET",path="/a \\"b\\""}'), 14);
  assert.equal(series.get('http_request_seconds_bucket{pool="web",path="/",le="0.1"}'), 6);
  assert.equal(series.get('process_resident_memory_bytes{pool="web",worker="web-1"}'), 23_339_008);
  assert.equal(series.get('nodejs_gc_duration_seconds_count{pool="node",kind="minor"}'), 24);
  assert.equal(series.get('lat_sum{pool="node"}'), 24);
  // What comes out can be read again, and nothing is lost on the way.
  const again = parseExposition(text);
  assert.deepEqual(again.dropped, { malformed: 0, limit: 0, unsupported: 0 });
  const open = merged.format("openmetrics");
  assert.match(open, /^# TYPE http_requests counter$/mu);
  assert.match(open, /^http_request_seconds_bucket\{pool="web",path="\/",le="0.005"\} 2$/mu);
  assert.ok(open.endsWith("# EOF\n"));
  assert.equal(parseExposition(open).families.length, again.families.length);
});

test("rounding never decreases a sum", () => {
  const merged = new MergedMetrics();
  const text = (value: number) => `${COUNTER} ${value}`;
  let before = 0;
  for (let step = 1; step <= 2000; step++) {
    const slot = step % 7;
    show(merged, worker(slot, Math.ceil(step / 50)), text(0.1 * step));
    if (step % 50 === 0) for (let each = 0; each < 7; each++) merged.ended(worker(each, step / 50));
    const now = totalOf(merged, 'a_total{pool="web"}') ?? 0;
    assert.ok(now >= before, `${before} → ${now}`);
    before = now;
  }
});

/** Three workers that count, show, are reset, die and are replaced in any order. */
const step = fc.record({
  slot: fc.nat(2),
  what: fc.constantFrom("count", "show", "show and die", "die", "reset", "hang"),
  amount: fc.integer({ min: 0, max: 1000 }),
});

test("in any sequence of events no sum decreases, and no count is lost or counted twice", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const merged = new MergedMetrics();
      const processes = [0, 1, 2].map(() => ({ incarnation: 1, count: 0, shown: 0 }));
      let expected = 0;
      let before = new Map<string, number>();
      for (const { slot, what, amount } of steps) {
        const process = processes[slot];
        assert.ok(process !== undefined);
        const source = worker(slot, process.incarnation);
        if (what === "count") process.count += amount;
        if (what === "reset" && process.count > process.shown) {
          // A reset is seen where the next value is smaller than the last one that was shown.
          process.count = 0;
        }
        if (what.startsWith("show")) {
          const grown = process.count >= process.shown ? process.count - process.shown : process.count;
          expected += grown;
          process.shown = process.count;
          const { count } = process;
          show(merged, source, `${COUNTER} ${count}\n${HISTOGRAM({ "1": count }, count / 10, count)}`);
        }
        if (what === "hang") merged.unanswered(source);
        if (what.endsWith("die")) {
          merged.ended(source);
          Object.assign(process, { incarnation: process.incarnation + 1, count: 0, shown: 0 });
        }
        const now = monotonicSeries(merged.format("prometheus"));
        assertNeverDown(before, now);
        before = now;
      }
      assert.equal(totalOf(merged, 'a_total{pool="web"}') ?? 0, expected);
      assert.equal(totalOf(merged, 'h_count{pool="web"}') ?? 0, expected);
    }),
    { numRuns: 500 },
  );
});

test("a forgotten pool is not printed, and restarts from zero", () => {
  const merged = new MergedMetrics();
  const text = `${COUNTER} 3\n# TYPE up gauge\nup 1\n# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n`;
  show(merged, worker(0), text);
  show(merged, worker(0, 1, "api"), `${COUNTER} 50`);
  merged.forget("web");
  assert.equal(merged.format("prometheus"), '# TYPE a_total counter\na_total{pool="api"} 50\n');
  assert.equal(merged.linesOf("web"), 0);
  merged.ended(worker(0));
  show(merged, worker(1, 2), `${COUNTER} 1`);
  assert.equal(totalOf(merged, 'a_total{pool="web"}'), 1);
  // A name that only the forgotten pool used may have another type now.
  show(merged, worker(1, 2), "# TYPE h gauge\nh 5\n");
  assert.equal(totalOf(merged, 'h{pool="web",worker="web-1"}'), 5);
});

test("an answer for a whole pool has gauges without a worker label, and forgetting the pool resets its sums", () => {
  const merged = new MergedMetrics();
  const text = `${COUNTER} 30\n# TYPE g gauge\ng{pid="web-0"} 1\n`;
  show(merged, worker(0), text);
  show(merged, worker(1), text);
  show(merged, worker(0, 1, "api"), text);
  merged.forget("web");
  merged.forget("unknown");
  show(merged, { ...worker(0), isPool: true }, text);
  show(merged, { ...worker(0), isPool: true }, text);
  assert.equal(
    merged.format("prometheus"),
    '# TYPE a_total counter\na_total{pool="api"} 30\na_total{pool="web"} 30\n' +
      '# TYPE g gauge\ng{pool="api",worker="api-0",pid="web-0"} 1\ng{pool="web",pid="web-0"} 1\n',
  );
  assert.equal(merged.linesOf("web"), 2);
});
