import assert from "node:assert/strict";
import { test } from "node:test";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import { SeededRandom } from "../../../test/support/random.ts";
import type { LimitsPolicy } from "../spec.ts";
import {
  CONFIRM_MS,
  decideLifespanMs,
  decideMemory,
  decideRequestBudget,
  decideSampleDelayMs,
  FAR_SAMPLE_MS,
  jittered,
  LEAST_SAMPLE_MS,
  MEMORY_SAMPLES,
  NEAR_SAMPLE_MS,
} from "./limits.ts";

function limits(changes: Partial<LimitsPolicy>): LimitsPolicy {
  return { ...poolSpec().limits, ...changes };
}

test("jitter changes a value linearly by at most its ratio", () => {
  assert.equal(jittered(1000, 0.1, 0), 900);
  assert.equal(jittered(1000, 0.1, 0.5), 1000);
  assert.equal(jittered(1000, 0.1, 1), 1100);
  assert.equal(jittered(1000, 0, 0.3), 1000);
});

test("without a lifespan limit a worker has no maximum age", () => {
  assert.equal(decideLifespanMs(limits({}), 0.5), undefined);
});

test("lifespan jitter spreads the replacements of workers that start together", () => {
  const policy = limits({ lifespanMs: 4 * 3_600_000, jitterRatio: 0.1 });
  const random = new SeededRandom(1);
  const ages = Array.from({ length: 64 }, () => decideLifespanMs(policy, random.next()) ?? 0).sort((a, b) => a - b);
  assert.ok((ages[0] ?? 0) >= 3.6 * 3_600_000);
  assert.ok((ages.at(-1) ?? 0) <= 4.4 * 3_600_000);
  // Each quarter of the range has its share of the 64.
  for (let quarter = 0; quarter < 4; quarter++) {
    const low = (3.6 + quarter * 0.2) * 3_600_000;
    const inside = ages.filter((age) => age >= low && age < low + 0.2 * 3_600_000).length;
    assert.ok(inside >= 8 && inside <= 24, `${inside} of 64 replacements in quarter ${quarter}`);
  }
  assert.equal(new Set(ages).size, 64);
});

test("a request budget is jittered, an integer and at least one", () => {
  assert.equal(decideRequestBudget(limits({}), 0.5), undefined);
  assert.equal(decideRequestBudget(limits({ requests: 1000, jitterRatio: 0.1 }), 0), 900);
  assert.equal(decideRequestBudget(limits({ requests: 1000, jitterRatio: 0.1 }), 1), 1100);
  assert.equal(decideRequestBudget(limits({ requests: 7, jitterRatio: 0.1 }), 0.9), 8);
  assert.equal(decideRequestBudget(limits({ requests: 1, jitterRatio: 1 }), 0), 1);
});

test("the soft memory limit is reached at the second sample above it in a row", () => {
  const policy = limits({ memoryBytes: 100 });
  assert.equal(MEMORY_SAMPLES, 2);
  const first = decideMemory(policy, 0, 101);
  assert.deepEqual(first, { samplesAbove: 1, limit: undefined });
  assert.deepEqual(decideMemory(policy, first.samplesAbove, 101), { samplesAbove: 2, limit: "memory" });
});

test("a sample at or below the soft limit resets the count", () => {
  const policy = limits({ memoryBytes: 100 });
  assert.deepEqual(decideMemory(policy, 1, 100), { samplesAbove: 0, limit: undefined });
  assert.deepEqual(decideMemory(limits({}), 5, 1e12), { samplesAbove: 0, limit: undefined });
});

test("the hard memory limit is reached at the first sample above it, with or without a soft limit", () => {
  assert.deepEqual(decideMemory(limits({ memoryHardBytes: 200 }), 0, 201), { samplesAbove: 1, limit: "memory_hard" });
  assert.deepEqual(decideMemory(limits({ memoryHardBytes: 200 }), 0, 200), { samplesAbove: 0, limit: undefined });
  const both = limits({ memoryBytes: 100, memoryHardBytes: 200 });
  assert.deepEqual(decideMemory(both, 0, 201), { samplesAbove: 1, limit: "memory_hard" });
  assert.deepEqual(decideMemory(both, 0, 200), { samplesAbove: 1, limit: undefined });
});

test("memory is sampled more often near a limit, and soon again above the soft limit", () => {
  const policy = limits({ memoryBytes: 100e6, memoryHardBytes: 400e6 });
  assert.equal(decideSampleDelayMs(policy, 10e6, 0), FAR_SAMPLE_MS);
  assert.equal(decideSampleDelayMs(policy, 80e6, 0), NEAR_SAMPLE_MS);
  assert.equal(decideSampleDelayMs(policy, 100e6, 0), CONFIRM_MS);
  assert.equal(decideSampleDelayMs(policy, 150e6, 0), CONFIRM_MS);
  // A sudden leak of 40 MB/s would exceed the limit within the longest interval.
  assert.equal(decideSampleDelayMs(limits({ memoryHardBytes: 400e6 }), 201e6, 0), NEAR_SAMPLE_MS);
  assert.equal(decideSampleDelayMs(limits({ memoryHardBytes: 400e6 }), 199e6, 0), FAR_SAMPLE_MS);
  assert.equal(decideSampleDelayMs(limits({ memoryHardBytes: 200 }), 200, 0), LEAST_SAMPLE_MS);
});

test("growth schedules the next sample halfway to the hard limit, or when the soft limit is reached", () => {
  const hard = limits({ memoryHardBytes: 1000 });
  assert.equal(decideSampleDelayMs(hard, 500, 0.25), 1000);
  assert.equal(decideSampleDelayMs(hard, 900, 0.25), 200);
  assert.equal(decideSampleDelayMs(hard, 990, 0.25), LEAST_SAMPLE_MS);
  const soft = limits({ memoryBytes: 1000 });
  assert.equal(decideSampleDelayMs(soft, 500, 0.25), 2000);
  assert.equal(decideSampleDelayMs(soft, 990, 0.25), CONFIRM_MS);
});

test("with steady growth a worker exceeds the hard limit for at most the shortest interval before a sample", () => {
  const random = new SeededRandom(7);
  for (let run = 0; run < 500; run++) {
    const growthPerMs = random.between(1, 200) * 1e3;
    const policy = limits({ memoryHardBytes: random.between(100, 2000) * 1e6 });
    const hardBytes = policy.memoryHardBytes ?? 0;
    // Growth is known from the second sample on, which follows after at most the longest interval.
    let bytes = growthPerMs * FAR_SAMPLE_MS;
    if (bytes > hardBytes) continue;
    while (bytes <= hardBytes) bytes += growthPerMs * decideSampleDelayMs(policy, bytes, growthPerMs);
    assert.ok(bytes - hardBytes <= growthPerMs * LEAST_SAMPLE_MS, `${bytes} of ${hardBytes}`);
  }
});
