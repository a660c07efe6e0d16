import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { instant } from "../../base/time.ts";
import type { AutoscalePolicy } from "../spec.ts";
import { type AutoscaleSample, type AutoscaleState, decideReplicas, newAutoscale, TOLERANCE } from "./autoscale.ts";

const PERIOD_MS = 1000;

function policyOf(changes: Partial<AutoscalePolicy> = {}): AutoscalePolicy {
  return {
    minReplicas: 1,
    maxReplicas: 50,
    targetCpu: undefined,
    targetInFlight: 4,
    upAfterMs: 15_000,
    downAfterMs: 300_000,
    ...changes,
  };
}

interface Change {
  readonly atMs: number;
  readonly replicas: number;
  readonly reason: string;
}

/** A pool that shares the load evenly. `load(ms)` is the load of the whole pool, in units of the target. */
class LoadModel {
  readonly changes: Change[] = [];
  readonly policy: AutoscalePolicy;
  replicas: number;
  state: AutoscaleState = newAutoscale();
  #ms = 0;
  /** Times at which workers that are booting become ready. */
  readonly #booting: number[] = [];
  readonly #bootMs: number;
  /** Maximum load that one worker can show. */
  readonly #saturation: number;

  constructor(
    policy: AutoscalePolicy,
    replicas: number,
    options: { readonly bootMs?: number; readonly saturation?: number } = {},
  ) {
    this.policy = policy;
    this.replicas = replicas;
    this.#bootMs = options.bootMs ?? 0;
    this.#saturation = options.saturation ?? Number.POSITIVE_INFINITY;
  }

  run(forMs: number, load: (ms: number) => number): void {
    for (const end = this.#ms + forMs; this.#ms < end; this.#ms += PERIOD_MS) this.#step(load(this.#ms));
  }

  #step(load: number): void {
    while ((this.#booting[0] ?? Number.POSITIVE_INFINITY) <= this.#ms) this.#booting.shift();
    const readyCount = Math.max(1, this.replicas - this.#booting.length);
    const value = Math.min(this.#saturation, load / readyCount);
    const sample: AutoscaleSample = {
      at: instant(this.#ms),
      replicas: this.replicas,
      readyCount,
      cpuRatio: value,
      inFlightPerWorker: value,
    };
    const { state, replicas, reason } = decideReplicas(this.state, sample, this.policy);
    this.state = state;
    assert.equal(reason !== undefined, replicas !== this.replicas);
    if (reason === undefined) return;
    this.changes.push({ atMs: this.#ms, replicas, reason });
    for (let added = this.replicas; added < replicas; added++) this.#booting.push(this.#ms + this.#bootMs);
    this.#booting.length = Math.min(this.#booting.length, Math.max(0, replicas - 1));
    this.replicas = replicas;
  }
}

test("a load above the target for upAfterMs adds as many workers as the target requires in one step", () => {
  const model = new LoadModel(policyOf(), 4);
  model.run(14_000, () => 40);
  assert.deepEqual(model.changes, []);
  model.run(3000, () => 40);
  assert.deepEqual(model.changes, [
    {
      atMs: 15_000,
      replicas: 10,
      reason: "more wanted for 15s: 10 requests in flight a worker, the target is 4",
    },
  ]);
});

test("workers are removed only after fewer would have been enough for all of downAfterMs", () => {
  const model = new LoadModel(policyOf(), 10);
  model.run(290_000, () => 8);
  // A short rise restarts the period.
  model.run(1000, () => 39);
  model.run(299_000, () => 8);
  assert.deepEqual(model.changes, []);
  model.run(20_000, () => 8);
  assert.equal(model.changes.length, 1);
  assert.equal(model.replicas, 3, "8 of 12 is below the target by the tolerance, 8 of 8 is not");
});

test("a peak shorter than upAfterMs changes nothing", () => {
  const model = new LoadModel(policyOf(), 4);
  for (let peak = 0; peak < 20; peak++) {
    model.run(12_000, () => 100);
    model.run(5000, () => 14);
  }
  assert.deepEqual(model.changes, []);
});

test("loads within the tolerance around the target change nothing", () => {
  const model = new LoadModel(policyOf(), 10);
  model.run(1_000_000, (ms) => 40 * (1 + 0.09 * Math.sin(ms / 7000)));
  assert.deepEqual(model.changes, []);
});

test("with saturated workers a CPU target adds workers in several steps", () => {
  const policy = policyOf({ targetCpu: 0.7, targetInFlight: undefined });
  const model = new LoadModel(policy, 2, { saturation: 1, bootMs: 3000 });
  model.run(600_000, () => 9);
  // Thirteen workers would meet the target; twelve are within its tolerance.
  assert.equal(model.replicas, 12);
  assert.match(model.changes[0]?.reason ?? "", /^more wanted for 15s: 1 CPUs a worker, the target is 0\.7$/u);
  const counts = model.changes.map(({ replicas }) => replicas);
  assert.deepEqual(
    counts,
    counts.toSorted((a, b) => a - b),
  );
});

test("no workers are removed while some are not ready", () => {
  const policy = policyOf({ downAfterMs: 20_000 });
  let state = newAutoscale();
  for (let ms = 0; ms < 200_000; ms += PERIOD_MS) {
    const sample = { at: instant(ms), replicas: 8, readyCount: 2, cpuRatio: 0, inFlightPerWorker: 1 };
    const decision = decideReplicas(state, sample, policy);
    assert.equal(decision.replicas, 8);
    state = decision.state;
  }
});

test("a sample without a load or without ready workers changes nothing and restarts the period", () => {
  const policy = policyOf();
  let state = newAutoscale();
  const feed = (fromMs: number, toMs: number, changes: Partial<AutoscaleSample>) => {
    let last = 0;
    for (let ms = fromMs; ms < toMs; ms += PERIOD_MS) {
      const sample = { at: instant(ms), replicas: 2, readyCount: 2, cpuRatio: undefined, inFlightPerWorker: 20 };
      const decision = decideReplicas(state, { ...sample, ...changes }, policy);
      state = decision.state;
      last = decision.replicas;
    }
    return last;
  };
  assert.equal(feed(0, 14_000, {}), 2);
  assert.equal(feed(14_000, 16_000, { inFlightPerWorker: undefined }), 2);
  assert.equal(feed(16_000, 30_000, {}), 2);
  assert.equal(feed(30_000, 31_000, { readyCount: 0 }), 2);
  assert.equal(feed(31_000, 47_000, {}), 10);
});

test("a replica count changed by others restarts the period, and one outside the limits is corrected at once", () => {
  const policy = policyOf({ minReplicas: 2, maxReplicas: 6 });
  const sampleOf = (ms: number, replicas: number) => ({
    at: instant(ms),
    replicas,
    readyCount: replicas,
    cpuRatio: undefined,
    inFlightPerWorker: 8,
  });
  let state = newAutoscale();
  for (let ms = 0; ms <= 14_000; ms += PERIOD_MS) ({ state } = decideReplicas(state, sampleOf(ms, 2), policy));
  for (let ms = 15_000; ms < 30_000; ms += PERIOD_MS) {
    const decision = decideReplicas(state, sampleOf(ms, 3), policy);
    assert.equal(decision.replicas, 3);
    state = decision.state;
  }
  assert.equal(decideReplicas(state, sampleOf(30_000, 3), policy).replicas, 6);
  assert.equal(decideReplicas(state, sampleOf(30_000, 9), policy).replicas, 6);
  assert.equal(decideReplicas(state, sampleOf(30_000, 1), policy).replicas, 2);
});

test("a daily load curve is followed within the limits, without overload, and with one rise and one fall", () => {
  const policy = policyOf({ minReplicas: 3, maxReplicas: 30 });
  const model = new LoadModel(policy, 3, { bootMs: 5000 });
  const dayMs = 24 * 3_600_000;
  const overloads: number[] = [];
  const load = (ms: number) => {
    const now = 50 - 45 * Math.cos((2 * Math.PI * ms) / dayMs);
    if (now / model.replicas > 4 * (1 + TOLERANCE) * 1.05) overloads.push(ms);
    return now;
  };
  model.run(dayMs, load);
  const counts = model.changes.map(({ replicas }) => replicas);
  assert.ok(Math.min(...counts) >= 3 && Math.max(...counts) <= 30);
  assert.ok(Math.max(...counts) >= 23);
  // The number rises until noon and falls after it.
  const peak = counts.indexOf(Math.max(...counts));
  assert.deepEqual(
    counts.slice(0, peak + 1),
    counts.slice(0, peak + 1).toSorted((a, b) => a - b),
  );
  assert.deepEqual(
    counts.slice(peak),
    counts.slice(peak).toSorted((a, b) => b - a),
  );
  assert.deepEqual(overloads, []);
});

const policies = fc
  .record({
    minReplicas: fc.integer({ min: 1, max: 10 }),
    span: fc.integer({ min: 0, max: 60 }),
    target: fc.double({ min: 0.1, max: 20, noNaN: true }),
    upAfterMs: fc.integer({ min: 0, max: 60_000 }),
    downAfterMs: fc.integer({ min: 0, max: 600_000 }),
  })
  .map(({ minReplicas, span, target, upAfterMs, downAfterMs }) =>
    policyOf({ minReplicas, maxReplicas: minReplicas + span, targetInFlight: target, upAfterMs, downAfterMs }),
  );

function startIn({ minReplicas, maxReplicas }: AutoscalePolicy, ratio: number): number {
  return minReplicas + Math.floor(ratio * (maxReplicas - minReplicas));
}

const ratios = fc.double({ min: 0, max: 1, noNaN: true });

test("property: a constant load changes the number at most once, and the result meets the target or a limit", () => {
  fc.assert(
    fc.property(policies, ratios, fc.double({ min: 0, max: 400, noNaN: true }), (policy, start, load) => {
      const model = new LoadModel(policy, startIn(policy, start));
      model.run(2 * (policy.upAfterMs + policy.downAfterMs) + 5 * PERIOD_MS, () => load);
      assert.ok(model.changes.length <= 1, JSON.stringify(model.changes));
      const { replicas } = model;
      const target = policy.targetInFlight ?? 0;
      assert.ok(replicas >= policy.minReplicas && replicas <= policy.maxReplicas);
      if (replicas < policy.maxReplicas) assert.ok(load / replicas <= target * (1 + TOLERANCE) + 1e-6);
    }),
    { numRuns: 300 },
  );
});

test("property: a constant load on saturated or slowly booting workers changes the number in one direction only", () => {
  fc.assert(
    fc.property(
      policies,
      ratios,
      fc.double({ min: 0, max: 200, noNaN: true }),
      fc.double({ min: 1.2, max: 5, noNaN: true }),
      fc.integer({ min: 0, max: 60_000 }),
      (policy, start, load, headroom, bootMs) => {
        const saturation = (policy.targetInFlight ?? 1) * headroom;
        const model = new LoadModel(policy, startIn(policy, start), { saturation, bootMs });
        model.run(10 * policy.upAfterMs + 2 * policy.downAfterMs + 200_000, () => load);
        const counts = [startIn(policy, start), ...model.changes.map(({ replicas }) => replicas)];
        const isUp = (counts[1] ?? 0) > (counts[0] ?? 0);
        for (let index = 1; index < counts.length; index++)
          assert.equal((counts[index] ?? 0) > (counts[index - 1] ?? 0), isUp, JSON.stringify(model.changes));
      },
    ),
    { numRuns: 200 },
  );
});

test("property: noise within the tolerance around a steady load never reverses a change", () => {
  fc.assert(
    fc.property(
      policies,
      ratios,
      fc.double({ min: 0, max: 400, noNaN: true }),
      fc.infiniteStream(ratios),
      (policy, start, load, noise) => {
        const model = new LoadModel(policy, startIn(policy, start));
        const values = noise[Symbol.iterator]();
        model.run(policy.upAfterMs * 4 + policy.downAfterMs * 2 + 60_000, () => {
          const next = values.next();
          // Noise of ±4 %: the thresholds for up and down are twice the tolerance apart.
          return load * (0.96 + 0.08 * (next.done === true ? 0.5 : next.value));
        });
        const counts = [startIn(policy, start), ...model.changes.map(({ replicas }) => replicas)];
        const ups = counts.slice(1).map((count, index) => count > (counts[index] ?? 0));
        assert.ok(new Set(ups).size <= 1, JSON.stringify(model.changes));
      },
    ),
    { numRuns: 100 },
  );
});

test("property: more load never results in fewer workers", () => {
  const loads = fc.array(
    fc.tuple(fc.double({ min: 0, max: 400, noNaN: true }), fc.double({ min: 0, max: 100, noNaN: true })),
    {
      minLength: 1,
      maxLength: 60,
    },
  );
  fc.assert(
    fc.property(policies, ratios, loads, (policy, start, pairs) => {
      const replicas = startIn(policy, start);
      let lower = newAutoscale();
      let higher = newAutoscale();
      for (const [index, [load, more]] of pairs.entries()) {
        const sampleOf = (total: number) => ({
          at: instant(index * 5000),
          replicas,
          readyCount: replicas,
          cpuRatio: undefined,
          inFlightPerWorker: total / replicas,
        });
        const less = decideReplicas(lower, sampleOf(load), policy);
        const greater = decideReplicas(higher, sampleOf(load + more), policy);
        assert.ok(greater.replicas >= less.replicas, `${less.replicas} and ${greater.replicas}`);
        if (less.replicas !== replicas || greater.replicas !== replicas) return;
        lower = less.state;
        higher = greater.state;
      }
    }),
    { numRuns: 500 },
  );
});

test("property: for any samples the number stays within the limits, and the stored history stays small", () => {
  const samples = fc.array(
    fc.record({
      waitMs: fc.integer({ min: 0, max: 30_000 }),
      value: fc.option(fc.double({ min: 0, max: 1e9 }), { nil: undefined }),
      missing: fc.integer({ min: 0, max: 5 }),
    }),
    { maxLength: 300 },
  );
  fc.assert(
    fc.property(policies, samples, (policy, all) => {
      let state = newAutoscale();
      let replicas = policy.minReplicas;
      let ms = 0;
      for (const { waitMs, value, missing } of all) {
        ms += waitMs;
        const decision = decideReplicas(
          state,
          {
            at: instant(ms),
            replicas,
            readyCount: Math.max(0, replicas - missing),
            cpuRatio: undefined,
            inFlightPerWorker: value,
          },
          policy,
        );
        ({ state, replicas } = decision);
        assert.ok(replicas >= policy.minReplicas && replicas <= policy.maxReplicas && Number.isInteger(replicas));
      }
    }),
    { numRuns: 200 },
  );
  let state = newAutoscale();
  for (let ms = 0; ms < 3_600_000; ms += 100) {
    ({ state } = decideReplicas(
      state,
      { at: instant(ms), replicas: 4, readyCount: 4, cpuRatio: undefined, inFlightPerWorker: 4 },
      policyOf(),
    ));
    assert.ok(state.opinions.length <= 100, String(state.opinions.length));
  }
});
