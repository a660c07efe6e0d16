import assert from "node:assert/strict";
import { test } from "node:test";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import { SeededRandom } from "../../../test/support/random.ts";
import { RequestBudgets } from "./requestBudgets.ts";

function budgetsOf(requests: number | undefined, jitterRatio: number, random: () => number): RequestBudgets {
  const limits = { ...poolSpec().limits, requests, jitterRatio };
  return new RequestBudgets(() => limits, random);
}

/** The first total at which a worker's budget is reported as used up. */
function usedUpAt(budgets: RequestBudgets, slot: number, incarnation: number): number {
  for (let total = 0; total < 10_000; total++) if (budgets.isUsedUp(slot, incarnation, total)) return total;
  return assert.fail("never used up");
}

test("each incarnation has its own jittered budget and is reported when it has served that many requests", () => {
  const draws = [0, 1, 0.5];
  const budgets = budgetsOf(1000, 0.2, () => draws.shift() ?? assert.fail("one draw too many"));
  assert.deepEqual([usedUpAt(budgets, 0, 1), usedUpAt(budgets, 1, 1), usedUpAt(budgets, 0, 2)], [800, 1200, 1000]);
});

test("a worker over its budget is reported once, and again after every further tenth of the budget", () => {
  const budgets = budgetsOf(100, 0, () => 0.5);
  assert.equal(budgets.isUsedUp(0, 1, 99), false);
  assert.equal(budgets.isUsedUp(0, 1, 105), true);
  assert.equal(budgets.isUsedUp(0, 1, 106), false);
  assert.equal(budgets.isUsedUp(0, 1, 114), false);
  assert.equal(budgets.isUsedUp(0, 1, 115), true);
});

test("a limit changed by a reload applies to running workers", () => {
  let limits = { ...poolSpec().limits, requests: 1000, jitterRatio: 0 };
  const budgets = new RequestBudgets(
    () => limits,
    () => 0.5,
  );
  assert.equal(budgets.isUsedUp(0, 1, 200), false);
  limits = { ...limits, requests: 100 };
  assert.equal(budgets.isUsedUp(0, 1, 201), true);
});

test("without a limit a worker is never reported", () => {
  const budgets = budgetsOf(undefined, 0.1, () => 0.5);
  assert.equal(budgets.isUsedUp(0, 1, 1e12), false);
});

test("jitter spreads the budgets of workers that start together over the whole range", () => {
  const random = new SeededRandom(3);
  const budgets = budgetsOf(1000, 0.1, () => random.next());
  const totals = Array.from({ length: 64 }, (_, slot) => usedUpAt(budgets, slot, 1)).sort((a, b) => a - b);
  assert.ok((totals[0] ?? 0) >= 900 && (totals.at(-1) ?? 0) <= 1100);
  for (let quarter = 0; quarter < 4; quarter++) {
    const low = 900 + quarter * 50;
    const inside = totals.filter((total) => total >= low && total < low + 50).length;
    assert.ok(inside >= 8 && inside <= 24, `${inside} of 64 in quarter ${quarter}`);
  }
});
