import assert from "node:assert/strict";
import { test } from "node:test";
import type { Row } from "./figures.ts";
import { median } from "./measure.ts";
import { formatMarkdown, formatNumber, type Results } from "./report.ts";

const rows: Row[] = [
  { key: "speed", title: "Speed", unit: "MB/s", better: "higher", goal: 140 },
  { key: "delay", title: "Delay", unit: "ms", better: "lower", goal: 2 },
  { key: "fds-20", title: "Descriptors", unit: "", better: "lower" },
  { key: "fds", title: "… later", unit: "", better: "lower", sameAs: "fds-20" },
];

function makeResults(readings: Results["readings"]): Results {
  return {
    date: "2026-01-01 12:00",
    quick: false,
    commit: "abc",
    machine: { cpu: "some CPU", cores: 2, memoryGb: 8, kernel: "6.1" },
    peers: { monoceros: "1.0", other: "2.0", absent: null },
    readings,
    problems: [],
  };
}

function tableRow(markdown: string, title: string): string | undefined {
  return markdown.split("\n").find((line) => line.startsWith(`| ${title} |`));
}

test("the page describes the machine, and its speed if that was measured", () => {
  const results = makeResults({});
  assert.match(formatMarkdown(results, rows), /^- Machine: some CPU, 2 cores, 8 GB, Linux 6\.1$/mu);
  const slow = { ...results, machine: { ...results.machine, bareNodeMs: 47 } };
  assert.match(formatMarkdown(slow, rows), /Linux 6\.1; an empty Node\.js program takes 47 ms \(26 ms on/u);
});

test("a row shows the goal, the medians and the factors compared with the peers", () => {
  const markdown = formatMarkdown(
    makeResults({ speed: { monoceros: [100, 200, 300], other: [50] }, delay: { monoceros: [1], other: [9] } }),
    rows,
  );
  assert.equal(tableRow(markdown, "Speed"), "| Speed | ≥ 140 MB/s | **200 MB/s** | 50 MB/s (4×) | – |");
  assert.equal(tableRow(markdown, "Delay"), "| Delay | ≤ 2 ms | **1 ms** | 9 ms (9×) | – |");
});

test("a missed goal is marked, also one that is relative to another row", () => {
  const markdown = formatMarkdown(
    makeResults({ speed: { monoceros: [10] }, "fds-20": { monoceros: [40] }, fds: { monoceros: [41] } }),
    rows,
  );
  assert.match(tableRow(markdown, "Speed") ?? "", /\*\*10 MB\/s\*\* ✗/u);
  assert.match(tableRow(markdown, "… later") ?? "", /same \| \*\*41\*\* ✗/u);
});

test("a peer that is not installed is listed as missing", () => {
  assert.match(formatMarkdown(makeResults({}), rows), /absent \(missing\)/u);
});

test("medians are computed, and numbers have at most three significant digits", () => {
  assert.equal(median([]), undefined);
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1]), 2.5);
  assert.deepEqual([0.123456, 12.345, 1234.5].map(formatNumber), ["0.123", "12.3", "1,235"]);
});
