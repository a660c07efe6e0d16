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

test("jitter moves a value by at most its ratio, evenly", () => {
  assert.equal(jittered(1000, 0.1, 0), 900);
  assert.equal(jittered(1000, 0.1, 0.5), 1000);
  assert.equal(jittered(1000, 0.1, 1), 1100);
  assert.equal(jittered(1000, 0, 0.3), 1000);
});

test("without a lifespan a worker may live indefinitely", () => {
  assert.equal(decideLifespanMs(limits({}), 0.5), undefined);
});

test("lifespan jitter spreads the recycles of workers born together", () => {
  const policy = limits({ lifespanMs: 4 * 3_600_000, jitterRatio: 0.1 });
  const random = new SeededRandom(1);
  const ages = Array.from({ length: 64 }, () => decideLifespanMs(policy, random.next()) ?? 0).sort((a, b) => a - b);
  assert.ok((ages[0] ?? 0) >= 3.6 * 3_600_000);
  assert.ok((ages.at(-1) ?? 0) <= 4.4 * 3_600_000);
  // Spread over the whole width: every quarter of it has its share of the 64.
  for (let quarter = 0; quarter < 4; quarter++) {
    const low = (3.6 + quarter * 0.2) * 3_600_000;
    const inside = ages.filter((age) => age >= low && age < low + 0.2 * 3_600_000).length;
    assert.ok(inside >= 8 && inside <= 24, `${inside} of 64 recycles in quarter ${quarter}`);
  }
  assert.equal(new Set(ages).size, 64);
});

test("a request budget is jittered, whole and never below one", () => {
  assert.equal(decideRequestBudget(limits({}), 0.5), undefined);
  assert.equal(decideRequestBudget(limits({ requests: 1000, jitterRatio: 0.1 }), 0), 900);
  assert.equal(decideRequestBudget(limits({ requests: 1000, jitterRatio: 0.1 }), 1), 1100);
  assert.equal(decideRequestBudget(limits({ requests: 7, jitterRatio: 0.1 }), 0.9), 8);
  assert.equal(decideRequestBudget(limits({ requests: 1, jitterRatio: 1 }), 0), 1);
});

test("one sample above the soft limit does nothing, the second in a row recycles", () => {
  const policy = limits({ memoryBytes: 100 });
  assert.equal(MEMORY_SAMPLES, 2);
  const first = decideMemory(policy, 0, 101);
  assert.deepEqual(first, { samplesAbove: 1, limit: undefined });
  assert.deepEqual(decideMemory(policy, first.samplesAbove, 101), { samplesAbove: 2, limit: "memory" });
});

test("a spike that is freed again starts the count anew; the limit itself is allowed", () => {
  const policy = limits({ memoryBytes: 100 });
  assert.deepEqual(decideMemory(policy, 1, 100), { samplesAbove: 0, limit: undefined });
  assert.deepEqual(decideMemory(limits({}), 5, 1e12), { samplesAbove: 0, limit: undefined });
});

test("one sample above the hard limit is enough, with or without a soft one", () => {
  assert.deepEqual(decideMemory(limits({ memoryHardBytes: 200 }), 0, 201), { samplesAbove: 1, limit: "memory_hard" });
  assert.deepEqual(decideMemory(limits({ memoryHardBytes: 200 }), 0, 200), { samplesAbove: 0, limit: undefined });
  const both = limits({ memoryBytes: 100, memoryHardBytes: 200 });
  assert.deepEqual(decideMemory(both, 0, 201), { samplesAbove: 1, limit: "memory_hard" });
  assert.deepEqual(decideMemory(both, 0, 200), { samplesAbove: 1, limit: undefined });
});

test("a worker far from its limits is looked at seldom, near them more often, above the soft one to confirm", () => {
  const policy = limits({ memoryBytes: 100e6, memoryHardBytes: 400e6 });
  assert.equal(decideSampleDelayMs(policy, 10e6, 0), FAR_SAMPLE_MS);
  assert.equal(decideSampleDelayMs(policy, 80e6, 0), NEAR_SAMPLE_MS);
  assert.equal(decideSampleDelayMs(policy, 100e6, 0), CONFIRM_MS);
  assert.equal(decideSampleDelayMs(policy, 150e6, 0), CONFIRM_MS);
  // A sudden leak of 40 MB a second would be above it within the longest wait.
  assert.equal(decideSampleDelayMs(limits({ memoryHardBytes: 400e6 }), 201e6, 0), NEAR_SAMPLE_MS);
  assert.equal(decideSampleDelayMs(limits({ memoryHardBytes: 400e6 }), 199e6, 0), FAR_SAMPLE_MS);
  assert.equal(decideSampleDelayMs(limits({ memoryHardBytes: 200 }), 200, 0), LEAST_SAMPLE_MS);
});

test("growth towards the hard limit brings the next look to half the way, growth towards the soft one to its end", () => {
  const hard = limits({ memoryHardBytes: 1000 });
  assert.equal(decideSampleDelayMs(hard, 500, 0.25), 1000);
  assert.equal(decideSampleDelayMs(hard, 900, 0.25), 200);
  assert.equal(decideSampleDelayMs(hard, 990, 0.25), LEAST_SAMPLE_MS);
  const soft = limits({ memoryBytes: 1000 });
  assert.equal(decideSampleDelayMs(soft, 500, 0.25), 2000);
  assert.equal(decideSampleDelayMs(soft, 990, 0.25), CONFIRM_MS);
});

test("at steady growth the first look above a hard limit comes within one shortest wait of it", () => {
  const random = new SeededRandom(7);
  for (let run = 0; run < 500; run++) {
    const growthPerMs = random.between(1, 200) * 1e3;
    const policy = limits({ memoryHardBytes: random.between(100, 2000) * 1e6 });
    const hardBytes = policy.memoryHardBytes ?? 0;
    // Growth is known from the second look on, which comes after the longest wait at most.
    let bytes = growthPerMs * FAR_SAMPLE_MS;
    if (bytes > hardBytes) continue;
    while (bytes <= hardBytes) bytes += growthPerMs * decideSampleDelayMs(policy, bytes, growthPerMs);
    assert.ok(bytes - hardBytes <= growthPerMs * LEAST_SAMPLE_MS, `${bytes} of ${hardBytes}`);
  }
});
