import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../../test/support/random.ts";
import { after, type Instant, instant } from "../../base/time.ts";
import {
  acceptProof,
  decideLivenessReplacements,
  type LivenessCap,
  livenessPacing,
  maxReplacedAtOnce,
  NO_REPLACEMENTS,
} from "./massFailure.ts";
import type { ProbePolicy } from "./probe.ts";

const AT = instant(1000);
const CAP: LivenessCap = { replicas: 8, maxUnavailable: 0, pacing: { coolDownMs: 500, recheckMs: 100 } };

function later(ms: number): Instant {
  return after(AT, ms);
}

test("at most max_unavailable workers are replaced at a time, or a quarter of the replicas if it is 0, and at least one", () => {
  const most = (replicas: number, maxUnavailable: number) => maxReplacedAtOnce({ ...CAP, replicas, maxUnavailable });
  assert.deepEqual([most(8, 3), most(8, 0), most(7, 0), most(1, 0), most(3, 0), most(1000, 0)], [3, 2, 1, 1, 1, 250]);
});

test("a single failing worker is replaced at once", () => {
  assert.deepEqual(decideLivenessReplacements(NO_REPLACEMENTS, [5], AT, CAP), {
    replace: [5],
    history: { holding: [{ replacedAt: AT, until: later(500), isProved: false }] },
    retryAt: undefined,
  });
});

test("if all workers fail at once, the first quarter of the list is replaced and the others wait", () => {
  assert.deepEqual(decideLivenessReplacements(NO_REPLACEMENTS, [7, 6, 5, 4, 3, 2, 1, 0], AT, CAP), {
    replace: [7, 6],
    history: {
      holding: [
        { replacedAt: AT, until: later(500), isProved: false },
        { replacedAt: AT, until: later(500), isProved: false },
      ],
    },
    retryAt: later(500),
  });
});

test("workers that fail one after another are limited too, also after a moment without failures", () => {
  const first = decideLivenessReplacements(NO_REPLACEMENTS, [0], AT, CAP);
  const none = decideLivenessReplacements(first.history, [], later(10), CAP);
  assert.deepEqual(none.replace, []);
  assert.equal(none.retryAt, undefined);
  const second = decideLivenessReplacements(none.history, [1], later(20), CAP);
  assert.deepEqual(second.replace, [1]);
  const third = decideLivenessReplacements(second.history, [2], later(30), CAP);
  assert.deepEqual(third.replace, []);
  assert.equal(third.retryAt, later(500));
});

test("the next worker is replaced when the cool-down of an earlier replacement has passed", () => {
  const { history } = decideLivenessReplacements(NO_REPLACEMENTS, [0, 1, 2], AT, CAP);
  assert.deepEqual(decideLivenessReplacements(history, [2], later(499.9), CAP).replace, []);
  assert.deepEqual(decideLivenessReplacements(history, [2], later(500), CAP).replace, [2]);
});

test("a successor that passes its liveness probe permits one more replacement after the recheck interval", () => {
  const { history } = decideLivenessReplacements(NO_REPLACEMENTS, [0, 1, 2, 3], AT, CAP);
  const proved = acceptProof(history, later(1), later(50), CAP.pacing);
  const early = decideLivenessReplacements(proved, [2, 3], later(149.9), CAP);
  assert.deepEqual([early.replace, early.retryAt], [[], later(150)]);
  assert.deepEqual(decideLivenessReplacements(proved, [2, 3], later(150), CAP).replace, [2]);
  // The next proof counts for the other replacement.
  const both = acceptProof(proved, later(1), later(60), CAP.pacing);
  assert.deepEqual(decideLivenessReplacements(both, [2, 3], later(160), CAP).replace, [2, 3]);
});

test("a passed liveness probe never extends the wait beyond the cool-down", () => {
  const { history } = decideLivenessReplacements(NO_REPLACEMENTS, [0, 1], AT, CAP);
  const proved = acceptProof(history, later(1), later(490), CAP.pacing);
  assert.deepEqual(decideLivenessReplacements(proved, [2, 3], later(500), CAP).replace, [2, 3]);
});

test("the liveness of a worker that is older than the replacement proves nothing", () => {
  const { history } = decideLivenessReplacements(NO_REPLACEMENTS, [0], AT, CAP);
  assert.equal(acceptProof(history, later(-1), later(1), CAP.pacing), history);
  assert.equal(acceptProof(NO_REPLACEMENTS, AT, AT, CAP.pacing), NO_REPLACEMENTS);
});

test("if the limit was lowered meanwhile, no worker is replaced until enough cool-downs have passed", () => {
  const { history } = decideLivenessReplacements(NO_REPLACEMENTS, [0, 1], AT, CAP);
  assert.deepEqual(decideLivenessReplacements(history, [2, 3], later(1), { ...CAP, replicas: 4 }).replace, []);
});

test("property: without passed probes no more workers than the limit are replaced within any cool-down", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new SeededRandom(seed);
    const pacing = { coolDownMs: 100, recheckMs: 10 };
    const cap = { replicas: random.between(1, 40), maxUnavailable: random.between(0, 3), pacing };
    const replacedAt: number[] = [];
    let history = NO_REPLACEMENTS;
    for (let at = AT; at < 2000; at = after(at, random.next() * 20)) {
      const failing = Array.from({ length: random.between(0, cap.replicas) }, (_, slot) => slot);
      const decision = decideLivenessReplacements(history, failing, at, cap);
      history = decision.history;
      replacedAt.push(...decision.replace.map(() => at));
      const recent = replacedAt.filter((each) => at - each < pacing.coolDownMs);
      assert.ok(recent.length <= maxReplacedAtOnce(cap), `seed ${seed}`);
      if (failing.length > decision.replace.length) assert.ok((decision.retryAt ?? 0) > at, `seed ${seed}`);
    }
  }
});

test("the cool-down covers the successor's startup and its first liveness verdict", () => {
  const liveness: ProbePolicy = {
    initialDelayMs: 0,
    periodMs: 10_000,
    firstPeriodMs: undefined,
    timeoutMs: 1000,
    failureThreshold: 3,
    successThreshold: 1,
  };
  const coolDownMs = (...args: Parameters<typeof livenessPacing>) => livenessPacing(...args).coolDownMs;
  assert.equal(livenessPacing(liveness, undefined).recheckMs, 11_000);
  assert.equal(coolDownMs(liveness, undefined), 41_000);
  assert.equal(coolDownMs({ ...liveness, initialDelayMs: 5000 }, undefined), 46_000);
  const startup = { ...liveness, periodMs: 1000, failureThreshold: 30, initialDelayMs: 500 };
  assert.equal(coolDownMs(liveness, startup), 71_500);
  assert.equal(coolDownMs(liveness, { ...startup, failureThreshold: Number.POSITIVE_INFINITY }), 41_000);
});
