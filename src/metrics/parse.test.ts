import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { NODE, PYTHON } from "../../test/support/workerExpositions.ts";
import { type ParsedExposition, type ParsedFamily, parseExposition, SeriesMemo } from "./parse.ts";

const OPENMETRICS = `# HELP foo Things
# TYPE foo counter
# UNIT foo things
foo_total{a="x"} 17.0 1520879607.789 # {trace_id="KOO5S4vxi0o"} 0.67
foo_created{a="x"} 1.5e9
# TYPE build info
build_info{version="1"} 1
# TYPE state stateset
state{state="on"} 1
state{state="off"} 0
# TYPE sizes gaugehistogram
sizes_bucket{le="1.0"} 3
sizes_gcount 4
sizes_gsum 9
# TYPE took histogram
took_bucket{le="1.0"} 2 # {trace_id="abc"} 0.5 1520879607.7
took_bucket{le="+Inf"} 3
took_count 3
took_sum 4.5
took_created 1.5e9
# EOF
ignored_total 5
`;

function families(parsed: ParsedExposition): Record<string, ParsedFamily> {
  return Object.fromEntries(parsed.families.map((family) => [family.name, family]));
}

/** Values of a family that has some, by labels. */
function valuesOf(text: string, name: string): Record<string, number> {
  const family = families(parseExposition(text))[name];
  assert.ok(family !== undefined && "values" in family, name);
  return Object.fromEntries(family.values);
}

const NONE = { malformed: 0, limit: 0, unsupported: 0 };

test("an exposition of Python is parsed, without creation times", () => {
  const parsed = parseExposition(PYTHON);
  assert.deepEqual(parsed.dropped, NONE);
  assert.deepEqual(
    parsed.families.map(({ name, type }) => [name, type]),
    [
      ["python_gc_objects_collected_total", "counter"],
      ["process_resident_memory_bytes", "gauge"],
      ["http_requests_total", "counter"],
      ["http_request_seconds", "histogram"],
      ["job_seconds", "summary"],
    ],
  );
  assert.deepEqual(valuesOf(PYTHON, "http_requests_total"), { 'method="GET",path="/a \\"b\\""': 7 });
  assert.deepEqual(valuesOf(PYTHON, "process_resident_memory_bytes"), { "": 23_339_008 });
  assert.equal(families(parsed)["http_requests_total"]?.help, "Requests by path");
  const histogram = families(parsed)["http_request_seconds"];
  assert.ok(histogram !== undefined && "distributions" in histogram);
  assert.deepEqual(
    [...histogram.distributions],
    [['path="/"', { bounds: [0.005, 0.1], counts: [1, 3], sum: 1.75, count: 4 }]],
  );
});

test("an exposition of Node.js is parsed, without quantiles", () => {
  const parsed = parseExposition(NODE);
  assert.deepEqual(parsed.dropped, NONE);
  assert.deepEqual(valuesOf(NODE, "nodejs_version_info"), {
    'major="26",minor="1",patch="0",version="v26.1.0"': 1,
  });
  const { nodejs_gc_duration_seconds: gc, lat } = families(parsed);
  assert.ok(gc !== undefined && "distributions" in gc && lat !== undefined && "distributions" in lat);
  assert.deepEqual([...gc.distributions.keys()], ['kind="minor"', 'kind="major"']);
  assert.deepEqual([...lat.distributions], [["", { bounds: [], counts: [], sum: 12, count: 40 }]]);
});

test("OpenMetrics is parsed up to its end, without types that cannot be summed", () => {
  const parsed = parseExposition(OPENMETRICS);
  assert.deepEqual(
    parsed.families.map(({ name, type }) => [name, type]),
    [
      ["foo_total", "counter"],
      ["build_info", "gauge"],
      ["state", "gauge"],
      ["took", "histogram"],
    ],
  );
  assert.deepEqual(parsed.dropped, { ...NONE, unsupported: 3 });
  assert.deepEqual(valuesOf(OPENMETRICS, "foo_total"), { 'a="x"': 17 });
  assert.equal(families(parsed)["foo_total"]?.help, "Things");
});

test("labels are normalized in order and spacing, and reserved names are renamed", () => {
  for (const line of ['a_total{b="1",a="2"} 3', 'a_total{a="2",b="1",} 3', 'a_total{ a = "2" , b="1" } 3'])
    assert.deepEqual(valuesOf(line, "a_total"), { 'a="2",b="1"': 3 });
  assert.deepEqual(valuesOf('a{worker="x",pool="y"} 3', "a"), { 'exported_pool="y",exported_worker="x"': 3 });
  assert.deepEqual(valuesOf('a{b="\\\\ \\" \\n }"} 1', "a"), { 'b="\\\\ \\" \\n }"': 1 });
});

test("blanks and tabs before a line are ignored", () => {
  const parsed = parseExposition('  # TYPE a_total counter\n\t a_total{b="1"} 3\n \t\n  b 2 \n');
  assert.deepEqual(
    parsed.families.map(({ name, type }) => [name, type]),
    [
      ["a_total", "counter"],
      ["b", "unknown"],
    ],
  );
  assert.deepEqual(parsed.dropped, NONE);
});

test("duplicate parts of a histogram are malformed, except the first", () => {
  const parsed = parseExposition(
    '# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="1.0"} 3\nh_bucket{le="+Inf"} 4\nh_sum 5\nh_sum 6\nh_count 4\n',
  );
  const { h } = families(parsed);
  assert.ok(h !== undefined && "distributions" in h);
  assert.deepEqual([...h.distributions], [["", { bounds: [1], counts: [2], sum: 5, count: 4 }]]);
  assert.deepEqual(parsed.dropped, { ...NONE, malformed: 2 });
});

test("an undeclared name that ends in _total is a counter, any other name is unknown", () => {
  assert.deepEqual(
    parseExposition("a_total 1\nb 2\nc_count 3").families.map(({ type }) => type),
    ["counter", "unknown", "unknown"],
  );
});

test("numbers are parsed as Prometheus parses them", () => {
  for (const [text, value] of [
    ["1", 1],
    ["-.5e3", -500],
    ["+1.", 1],
    ["+Inf", Number.POSITIVE_INFINITY],
    ["-inf", Number.NEGATIVE_INFINITY],
    ["NaN", Number.NaN],
    ["1 1700000000000", 1],
    ["1\r", 1],
  ] as const)
    assert.deepEqual(valuesOf(`a ${text}`, "a"), { "": value }, text);
});

describe("what is not understood is counted and costs nothing else", () => {
  for (const line of [
    "a",
    "a one",
    "a 0x10",
    "a{ 1",
    'a{b="1} 1',
    'a{b="1"',
    'a{b="1",b="2"} 1',
    "a{b=1} 1",
    '{"a"} 1',
    "1a 1",
    "a 1 2 3",
    `${"a".repeat(300)} 1`,
    `a{b="${"x".repeat(5000)}"} 1`,
    "ok_total 2",
    '# TYPE h histogram\nh_bucket{le="1"} 5\nh_count 3',
    "# TYPE h histogram\nh_bucket 5",
    "# TYPE h histogram\nh_sum NaN",
    "# TYPE c counter\nc -1",
    "# TYPE c counter\nc NaN",
  ]) {
    test(JSON.stringify(line).slice(0, 60), () => {
      const parsed = parseExposition(`ok_total 1\n${line}\nlast 3\n`);
      assert.ok(parsed.dropped.malformed > 0);
      assert.deepEqual(valuesOf(`ok_total 1\n${line}\nlast 3\n`, "ok_total"), { "": 1 });
      assert.ok(parsed.families.some(({ name }) => name === "last"));
    });
  }
});

test("a memo does not change the result", () => {
  const memo = new SeriesMemo();
  const odd = 'a{b="x y"} 1\na{b="x y"} z\na 1 5\na 2 5\nb{c="1" } 3\nb{c="1" } 4\n';
  for (const text of [PYTHON, NODE, OPENMETRICS, odd, PYTHON, odd, `${NODE}x`])
    assert.deepEqual(parseExposition(text, memo), parseExposition(text));
});

test("samples above the limit are dropped and counted", () => {
  const text = Array.from({ length: 20_100 }, (_, index) => `a_total{n="${index}"} 1`).join("\n");
  const parsed = parseExposition(text);
  assert.deepEqual(parsed.dropped, { ...NONE, limit: 100 });
  const [family] = parsed.families;
  assert.ok(family !== undefined && "values" in family);
  assert.equal(family.values.size, 20_000);
});

test("parsing a long malformed line takes linear time", () => {
  const long = 200_000;
  for (const text of [
    `a{${'b="1",'.repeat(long / 6)} 1`,
    `a{b="${"\\".repeat(long)}`,
    `# HELP a${" ".repeat(long)}\u2028x`,
    `a ${"1".repeat(long)}x`,
    `a${"\t ".repeat(long)}`,
    `# TYPE ${"a".repeat(long)} counter`,
  ]) {
    const start = performance.now();
    parseExposition(text);
    assert.ok(performance.now() - start < 1000, text.slice(0, 20));
  }
});

test("any text is parsed without an error, and every result can be printed", () => {
  const token = fc.constantFrom(
    ...'a b_total {} , = " \\ \n # TYPE HELP counter histogram summary gauge le quantile + 1 2.5 Inf NaN _sum _count _bucket'.split(
      " ",
    ),
    " ",
    "\n",
    'a="1"',
    'le="+Inf"',
    "# TYPE a histogram\n",
    "# EOF",
  );
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.array(token, { maxLength: 60 }).map((all) => all.join("")),
  );
  fc.assert(
    fc.property(text, (input) => {
      const names = new Set<string>();
      for (const family of parseExposition(input).families) {
        assert.match(family.name, /^[a-zA-Z_:][a-zA-Z0-9_:]*$/u);
        assert.ok(!names.has(family.name));
        names.add(family.name);
        const labels = "values" in family ? family.values.keys() : family.distributions.keys();
        for (const each of labels) assert.match(each, /^(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*"(?:,(?!$)|$))*$/u);
      }
    }),
    { numRuns: 3000 },
  );
});
