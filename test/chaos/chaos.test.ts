/** The checks of a chaos run detect the failures that they are made for. */
import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { SeededRandom } from "../support/random.ts";
import { type Footprint, growthOf, leaksOf, slopeOf } from "./footprint.ts";
import { Ledger, LogLines } from "./ledger.ts";
import { Windows } from "./verdict.ts";

const MINUTE_MS = 60_000;

/** Samples every 5 s. Resident memory varies by garbage, as a sawtooth, and grows by `rssKiB` per minute. */
function samples(minutes: number, rssKiB: number): Footprint[] {
  return Array.from({ length: minutes * 12 + 1 }, (_, index) => ({
    atMs: (index * MINUTE_MS) / 12,
    rssKiB: 60_000 + (index % 7) * 900 + (index / 12) * rssKiB,
    anonymousKiB: 30_000,
    descriptors: 40 + (index % 5),
    threads: 7,
  }));
}

test("growth of 30 KiB per minute is reported as a leak despite megabytes of garbage, and 10 KiB is not", () => {
  const leaking = growthOf(samples(25, 30));
  assert.ok(leaking !== undefined);
  assert.match(
    leaksOf(leaking).join(),
    /^rssKiB of the controller grows by \d+\.\d\d per minute \(95 %: [\d.]+ to [\d.]+\)$/u,
  );
  const steady = growthOf(samples(25, 10));
  assert.ok(steady !== undefined);
  assert.deepEqual(leaksOf(steady), []);
});

test("growth in the first minutes, or in a controller that runs for a short time, is not reported as a leak", () => {
  const short = growthOf(samples(15, 1000));
  assert.ok(short !== undefined);
  assert.deepEqual(leaksOf(short), []);
  const early = samples(25, 0).map((sample) => ({
    ...sample,
    rssKiB: sample.rssKiB + Math.min(sample.atMs, 5 * MINUTE_MS) / 100,
  }));
  const growth = growthOf(early);
  assert.ok(growth !== undefined);
  assert.deepEqual(leaksOf(growth), []);
});

test("the slope ignores single peaks, and its interval narrows with more series", () => {
  assert.equal(slopeOf([[1, 2, 3, 90, 5, 6, 7].map((y, x) => [x, y])]).estimate, 1);
  const noisy = (seed: number) => {
    const random = new SeededRandom(seed);
    return Array.from({ length: 25 }, (_, x) => [x, 50 * x + random.between(-2000, 2000)] as const);
  };
  const [one, four] = [slopeOf([noisy(1)]), slopeOf([1, 2, 3, 4].map(noisy))];
  for (const { low, high } of [one, four]) assert.ok(low < 50 && 50 < high, `${low} to ${high}`);
  assert.ok(four.high - four.low < 0.7 * (one.high - one.low));
});

const REQUEST = { id: 1, pool: "ports", sentAt: 100, failedAt: 200, why: "reset" } as const;

test("a failed request is excused by a fault of the worker that executed it, not by a fault of another worker", () => {
  const windows = new Windows();
  assert.equal(windows.excuse(REQUEST, "ports-0.1", true), "killed");
  windows.open("ports", "SIGKILL of ports-1.1", false, 150);
  assert.equal(windows.excuse(REQUEST, "ports-0.1", false), undefined);
  assert.equal(windows.excuse(REQUEST, undefined, false), "waiting");
  assert.equal(windows.excuse({ ...REQUEST, pool: "shared" }, undefined, false), undefined);
});

test("a fault of a proxy excuses failed requests of its pool during that time only", () => {
  const windows = new Windows();
  windows.open("ports", "SIGKILL of ports-proxy-0.1", true, 150).to = 300;
  assert.equal(windows.excuse(REQUEST, "ports-0.1", false), "front");
  assert.equal(windows.excuse({ ...REQUEST, sentAt: 301, failedAt: 400 }, "ports-0.1", false), undefined);
  assert.equal(windows.excuse({ ...REQUEST, sentAt: 10, failedAt: 149 }, "ports-0.1", false), undefined);
});

test("the ledger reports a request that was executed twice, also by workers of different controllers", (context) => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-ledger-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const seen = new Set<number>();
  const duplicates: string[] = [];
  for (const life of ["1", "2"]) {
    const path = join(directory, life);
    const ledger = new Ledger(path, seen, (problem) => duplicates.push(problem));
    appendFileSync(path, `7 web-0.1 1\n${life}00 web-0.1 2\n2${life}`);
    ledger.read();
    appendFileSync(path, "5 web-0.1 3\n");
    ledger.read();
    assert.equal(ledger.executedBy(Number(`2${life}5`)), "web-0.1");
    assert.equal(ledger.last.get("web-0.1"), 3);
    ledger.close();
  }
  assert.deepEqual(duplicates, ["request 7 was executed twice, the second time by web-0.1"]);
});

test("missing, duplicated and wrongly annotated log lines are reported", () => {
  const problems: string[] = [];
  const lines = new LogLines((problem) => problems.push(problem));
  const line = (nth: number, worker = "web-0") => JSON.stringify({ worker_id: worker, ledger: "web-0.1", nth });
  lines.take(line(1));
  lines.take(JSON.stringify({ worker_id: "web-0", worker_info_msg: "ledger web-0.1 2" }));
  lines.take('{"level":"info","msg":"the controller starts"}');
  assert.deepEqual(problems, []);
  lines.take(line(4));
  lines.take(line(4));
  lines.take(line(5, "web-1"));
  lines.take("no JSON");
  assert.deepEqual(problems, [
    "line 4 of web-0.1 follows line 2",
    "line 4 of web-0.1 follows line 4",
    "a line of web-0.1 is annotated as one of web-1",
    "a line of stdout is not JSON: no JSON",
  ]);
  assert.deepEqual(lines.missing(new Map([["web-0.1", 6]])), ["web-0.1 wrote 6 lines, 5 arrived"]);
});
