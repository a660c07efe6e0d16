import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../../base/time.ts";
import {
  addSample,
  type Balance,
  type Distribution,
  decideAdvice,
  decideBalance,
  SAMPLE_MS,
  WINDOW_MS,
  type WorkReading,
  type WorkSample,
  type WorkWindow,
} from "./balance.ts";

/** CPU seconds and requests of slots 0, 1, …, all in their first incarnation. */
function sample(atMs: number, ...work: readonly (readonly [(number | undefined)?, number?])[]): WorkSample {
  const workers = work.map(
    ([cpuSeconds, requests], slot): WorkReading => ({ slot, incarnation: 1, cpuSeconds, requests }),
  );
  return { at: instant(atMs), workers };
}

test("the spread is the maximum divided by the mean of the work in the window", () => {
  const balance = decideBalance([sample(0, [10, 1000], [20, 0])], sample(60_000, [40, 1300], [30, 100]));
  assert.equal(balance.cpuSpread, 1.5);
  assert.equal(balance.requestsSpread, 1.5);
  assert.deepEqual(balance.workers, [
    { slot: 0, watchedMs: 60_000, cpuRatio: 0.5, requestsPerSecond: 5 },
    { slot: 1, watchedMs: 60_000, cpuRatio: 1 / 6, requestsPerSecond: 100 / 60 },
  ]);
});

test("the spread is 1 for equal workers, and the number of workers if one does all the work", () => {
  const start = sample(0, [0], [0], [0], [0]);
  assert.equal(decideBalance([start], sample(60_000, [9], [9], [9], [9])).cpuSpread, 1);
  assert.equal(decideBalance([start], sample(60_000, [9], [0], [0], [0])).cpuSpread, 4);
});

test("too little work gives no spread", () => {
  const start = sample(0, [0, 0], [0, 0]);
  const idle = decideBalance([start], sample(60_000, [0.02, 3], [0, 0]));
  assert.deepEqual([idle.cpuSpread, idle.requestsSpread], [undefined, undefined]);
  assert.equal(idle.workers.length, 2);
  const busy = decideBalance([start], sample(60_000, [0.2, 40], [0, 0]));
  assert.deepEqual([busy.cpuSpread, busy.requestsSpread], [2, 2]);
});

test("a single worker has no spread", () => {
  assert.equal(decideBalance([sample(0, [0])], sample(60_000, [50])).cpuSpread, undefined);
});

test("workers with unknown numbers are left out, and with fewer than two known workers there is no spread", () => {
  const start = sample(0, [0], [0], [undefined]);
  const some = decideBalance([start], sample(60_000, [30], [10], [undefined]));
  assert.equal(some.cpuSpread, 1.5);
  assert.equal(some.requestsSpread, undefined);
  assert.equal(decideBalance([start], sample(60_000, [30], [undefined], [undefined])).cpuSpread, undefined);
});

test("a successor's rate is measured from the first sample that contains it", () => {
  const successor = (cpuSeconds: number): WorkReading => ({
    slot: 1,
    incarnation: 2,
    cpuSeconds,
    requests: undefined,
  });
  const first = sample(0, [0], [100]);
  const second: WorkSample = { at: instant(50_000), workers: [...sample(0, [25]).workers, successor(1)] };
  const now: WorkSample = { at: instant(60_000), workers: [...sample(0, [30]).workers, successor(6)] };
  const balance = decideBalance([first, second], now);
  assert.deepEqual(
    balance.workers.map(({ slot, watchedMs, cpuRatio }) => [slot, watchedMs, cpuRatio]),
    [
      [0, 60_000, 0.5],
      [1, 10_000, 0.5],
    ],
  );
  assert.equal(balance.cpuSpread, 1);
});

test("workers without an earlier sample, or with one that is too recent, are left out", () => {
  assert.deepEqual(decideBalance([], sample(60_000, [1], [1])).workers, []);
  assert.deepEqual(decideBalance([sample(59_000, [1], [1])], sample(60_000, [2], [2])).workers, []);
});

test("a counter that decreased counts as no work", () => {
  assert.equal(decideBalance([sample(0, [0, 900])], sample(60_000, [1, 5])).workers[0]?.requestsPerSecond, 0);
});

test("the window keeps a bounded number of samples that span its length", () => {
  let window: WorkWindow = [];
  for (let atMs = 0; atMs <= 300_000; atMs += 1000) {
    window = addSample(window, sample(atMs));
    const ages = window.map(({ at }) => atMs - at);
    assert.ok(window.length <= 1 + WINDOW_MS / SAMPLE_MS + 1, `${window.length} samples`);
    assert.ok((ages[0] ?? 0) >= Math.min(atMs, WINDOW_MS) - SAMPLE_MS, `${ages[0]} at ${atMs}`);
    assert.ok((ages[0] ?? 0) < WINDOW_MS + 2 * SAMPLE_MS);
  }
});

const PROXY: Distribution = { mode: "proxy", algorithm: "ROUND_ROBIN" };

function balanceOf(...ratios: readonly number[]): Balance {
  const work = ratios.map((ratio) => [ratio * 60, ratio * 6000] as const);
  return decideBalance([sample(0, ...ratios.map(() => [0, 0] as const))], sample(60_000, ...work));
}

test("the advice for an uneven pool depends on its traffic mode and algorithm", () => {
  const uneven = balanceOf(0.9, 0.2, 0.1);
  const advice = (distribution: Distribution) => {
    const { verdict, text } = decideAdvice(distribution, uneven);
    assert.equal(verdict, "uneven");
    assert.doesNotMatch(text, /\.$/u);
    return text;
  };
  assert.match(advice({ mode: "supervisor" }), /^the kernel .* a proxy /u);
  assert.match(advice({ mode: "socket" }), /^the worker that accepts .* a proxy /u);
  assert.match(advice(PROXY), /^ROUND_ROBIN .* LEAST_REQUEST$/u);
  assert.match(advice({ mode: "proxy", algorithm: "RANDOM" }), /^RANDOM .* LEAST_REQUEST$/u);
  assert.match(advice({ mode: "proxy", algorithm: "MAGLEV" }), /^MAGLEV sends all requests with the same key /u);
  assert.match(advice({ mode: "proxy", algorithm: "RING_HASH" }), /^RING_HASH sends all requests with the same key /u);
  assert.match(advice({ mode: "proxy", algorithm: "LEAST_REQUEST" }), /max_concurrent_per_worker: 1/u);
});

test("an even, lightly loaded, fully loaded or unmeasured pool is not uneven", () => {
  const verdict = (balance: Balance) => decideAdvice(PROXY, balance).verdict;
  assert.equal(verdict(balanceOf(0.8, 0.7)), "even");
  assert.equal(verdict(balanceOf(0.4, 0.02)), "even");
  assert.match(decideAdvice(PROXY, balanceOf(0.4, 0.02)).text, /^even enough: the busiest worker uses 40 % of a CPU/u);
  assert.equal(verdict(balanceOf(0.99, 0.95)), "full");
  assert.equal(verdict(balanceOf(0.9)), "unknown");
  assert.equal(verdict(balanceOf(0, 0)), "unknown");
});

test("the verdict is based on requests if CPU usage is unknown", () => {
  const byRequests = decideBalance([sample(0, [undefined, 0], [undefined, 0])], {
    ...sample(60_000, [undefined, 900], [undefined, 100]),
  });
  assert.equal(decideAdvice(PROXY, byRequests).verdict, "uneven");
});
