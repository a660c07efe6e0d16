/** Parses and checks the response of a scrape. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { TestContext } from "node:test";

/** Series (name with labels) and their values. */
export function parseSeries(text: string): Map<string, number> {
  const series = new Map<string, number>();
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const blank = line.lastIndexOf(" ");
    series.set(line.slice(0, blank), Number(line.slice(blank + 1)));
  }
  return series;
}

/**
 * Series of counters, histograms and summaries, which must never decrease. Metrics of processes and process trees are
 * excluded, because they are those of live workers.
 */
export function monotonicSeries(text: string): Map<string, number> {
  const types = new Map(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gmu)].map(([, name, type]) => [name ?? "", type ?? ""]),
  );
  const isMonotonic = (series: string) => {
    const name = series.split("{")[0] ?? "";
    if (/^monoceros_(?:workerpool_process|worker_tree)_/u.test(name)) return false;
    const whole = types.get(name.replace(/_(?:bucket|sum|count)$/u, ""));
    return types.get(name) === "counter" || whole === "histogram" || whole === "summary";
  };
  return new Map([...parseSeries(text)].filter(([series]) => isMonotonic(series)));
}

/** Asserts that no series of `before` is missing or smaller in `now`. */
export function assertNeverDown(before: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>): void {
  for (const [series, value] of before) {
    const next = now.get(series);
    assert.ok(next !== undefined, `${series} vanished`);
    assert.ok(next >= value, `${series} went from ${value} to ${next}`);
  }
}

function promtool(): string | undefined {
  const own = resolve("node_modules/.tools/promtool");
  if (existsSync(own)) return own;
  return spawnSync("promtool", ["--version"]).error === undefined ? "promtool" : undefined;
}

/** Asserts that promtool accepts `text`. Reports a diagnostic if promtool is not installed. */
export function assertPromtool(t: TestContext, text: string): void {
  const tool = promtool();
  if (tool === undefined) {
    t.diagnostic("promtool is not installed (scripts/testTools.sh fetches it); only the test's own rules were checked");
    return;
  }
  const { status, stdout, stderr } = spawnSync(tool, ["check", "metrics"], { input: text, encoding: "utf8" });
  assert.deepEqual([status, stdout, stderr], [0, "", ""]);
}
