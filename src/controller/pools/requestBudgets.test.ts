import assert from "node:assert/strict";
import { test } from "node:test";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import { SeededRandom } from "../../../test/support/random.ts";
import { RequestBudgets } from "./requestBudgets.ts";

function budgetsOf(requests: number | undefined, jitterRatio: number, random: () => number): RequestBudgets {
  const limits = { ...poolSpec().limits, requests, jitterRatio };
  return new RequestBudgets(() => limits, random);
}

/** The first total at which a worker is told of. */
function spentAt(budgets: RequestBudgets, slot: number, incarnation: number): number {
  for (let total = 0; total < 10_000; total++) if (budgets.isUsedUp(slot, incarnation, total)) return total;
  return assert.fail("never used up");
}

test("a worker is told of when it has served its budget, which is drawn anew for each incarnation", () => {
  const draws = [0, 1, 0.5];
  const budgets = budgetsOf(1000, 0.2, () => draws.shift() ?? assert.fail("one draw too many"));
  assert.deepEqual([spentAt(budgets, 0, 1), spentAt(budgets, 1, 1), spentAt(budgets, 0, 2)], [800, 1200, 1000]);
});

test("it is told of once, and again after a tenth more, where its replacement was given up", () => {
  const budgets = budgetsOf(100, 0, () => 0.5);
  assert.equal(budgets.isUsedUp(0, 1, 99), false);
  assert.equal(budgets.isUsedUp(0, 1, 105), true);
  assert.equal(budgets.isUsedUp(0, 1, 106), false);
  assert.equal(budgets.isUsedUp(0, 1, 114), false);
  assert.equal(budgets.isUsedUp(0, 1, 115), true);
});

test("a limit that a reload has changed holds for who serves already", () => {
  let limits = { ...poolSpec().limits, requests: 1000, jitterRatio: 0 };
  const budgets = new RequestBudgets(
    () => limits,
    () => 0.5,
  );
  assert.equal(budgets.isUsedUp(0, 1, 200), false);
  limits = { ...limits, requests: 100 };
  assert.equal(budgets.isUsedUp(0, 1, 201), true);
});

test("without a limit no number of requests is too many", () => {
  const budgets = budgetsOf(undefined, 0.1, () => 0.5);
  assert.equal(budgets.isUsedUp(0, 1, 1e12), false);
});

test("jitter spreads the budgets of workers born together over all of their range", () => {
  const random = new SeededRandom(3);
  const budgets = budgetsOf(1000, 0.1, () => random.next());
  const spent = Array.from({ length: 64 }, (_, slot) => spentAt(budgets, slot, 1)).sort((a, b) => a - b);
  assert.ok((spent[0] ?? 0) >= 900 && (spent.at(-1) ?? 0) <= 1100);
  for (let quarter = 0; quarter < 4; quarter++) {
    const low = 900 + quarter * 50;
    const inside = spent.filter((total) => total >= low && total < low + 50).length;
    assert.ok(inside >= 8 && inside <= 24, `${inside} of 64 in quarter ${quarter}`);
  }
});
