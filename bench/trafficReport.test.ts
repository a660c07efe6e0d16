import assert from "node:assert/strict";
import { test } from "node:test";
import { FIGURES, type Found } from "./traffic/figures.ts";
import { drawPictures, formatTraffic, medianOf, type TrafficResults } from "./traffic/report.ts";
import { SYSTEMS } from "./traffic/systems.ts";

/** A distribution of latencies with the minimum `from`. */
function perMille(from: number): number[] {
  return Array.from({ length: 1001 }, (_, point) => from * 1000 ** (point / 2000));
}

function balance(rps: number, p90: number, from: number): Found {
  return {
    numbers: { rps, p50: from, p90, p99: p90 * 2, share: 1.02, idle: 0 },
    shares: [210, 200, 200, 200, 200, 200, 200, 190],
    perMille: perMille(from),
  };
}

const RESULTS: TrafficResults = {
  date: "2026-01-01 00:00",
  commit: "abc",
  machine: { cpu: "a CPU", cores: 2, memoryGb: 8, kernel: "6.1" },
  quick: false,
  problems: ["pm2: missing"],
  rounds: {
    balance: {
      reuseport: [balance(1000, 30, 6)],
      "proxy-lr": [balance(1400, 13, 5), balance(1500, 11, 5), balance(1600, 10, 5)],
    },
    mixed: {
      reuseport: [{ numbers: { p99: 300 }, perMille: perMille(7) }],
      "proxy-lr": [{ numbers: { p99: 151 }, perMille: perMille(5) }],
    },
    kill: { "proxy-lr": [{ numbers: { answered: 2000, late: undefined } }] },
  },
};

test("medians ignore rounds without a value", () => {
  assert.equal(medianOf(RESULTS.rounds, "balance", "proxy-lr", "rps"), 1500);
  assert.equal(medianOf(RESULTS.rounds, "kill", "proxy-lr", "late"), undefined);
  assert.equal(medianOf(RESULTS.rounds, "sixty", "shared", "failed"), undefined);
});

test("the page shows which goals are reached, missed and not measured", () => {
  const page = formatTraffic(RESULTS, FIGURES, SYSTEMS);
  assert.match(page, /\| Monoceros, Envoy LEAST_REQUEST \| 1,500 \| 5 \| 11 \| 22 \| 1\.02 \| 0 \|/u);
  assert.match(page, /\| Monoceros, shared socket \| – \|/u);
  assert.match(page, /- reached: Envoy LEAST_REQUEST: ≥ 1,430 requests\/s/u);
  assert.match(page, /- \*\*not reached\*\*: Envoy LEAST_REQUEST: p99 of the fast requests ≤ half/u);
  assert.match(page, /- not measured: Envoy LEAST_REQUEST: no request sent more than 100 ms after/u);
  assert.match(page, /- pm2: missing/u);
});

test("pictures show the measured systems, and without data there are no pictures", () => {
  const pictures = drawPictures(RESULTS.rounds, SYSTEMS);
  assert.deepEqual(Object.keys(pictures), [
    "docs/images/traffic-load.svg",
    "docs/images/traffic-latency.svg",
    "docs/images/traffic-mixed.svg",
  ]);
  for (const picture of Object.values(pictures)) {
    assert.match(picture, /^<svg [\s\S]*<\/svg>\n$/u);
    assert.match(picture, /Envoy LEAST_REQUEST/u);
    assert.match(picture, /SO_REUSEPORT/u);
    assert.doesNotMatch(picture, /shared socket|NaN|Infinity/u);
  }
  assert.equal(pictures["docs/images/traffic-load.svg"]?.match(/<rect /gu)?.length, 1 + 2 * 8);
  assert.deepEqual(drawPictures({}, SYSTEMS), {});
});
