import assert from "node:assert/strict";
import { test } from "node:test";
import { maxEjectionPercent } from "./cluster.ts";

/** As Envoy decides: whether one more ejection is within the percentage of all endpoints. */
function mostEjected(percent: number, all: number): number {
  let ejected = 0;
  while (ejected < all && (100 * (ejected + 1)) / all <= percent) ejected++;
  return ejected;
}

test("all serving workers but one may be ejected, and never all", () => {
  for (let all = 0; all <= 1500; all++) {
    for (const serving of [0, 1, 2, all >> 1, all - 1, all]) {
      if (serving < 0 || serving > all) continue;
      const ejected = mostEjected(maxEjectionPercent(serving, all), all);
      assert.ok(ejected < Math.max(serving, 1), `${ejected} of ${serving} serving, ${all} in all`);
      if (all <= 50) assert.equal(ejected, Math.max(serving - 1, 0));
      else assert.ok(ejected >= serving * 0.9 - 2, `${ejected} of ${serving} serving, ${all} in all`);
    }
  }
});
