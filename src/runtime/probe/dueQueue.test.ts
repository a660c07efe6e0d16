import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../../test/support/random.ts";
import { instant } from "../../base/time.ts";
import { DueQueue } from "./dueQueue.ts";

test("items are taken in the order of their due instants, and none is taken early", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new SeededRandom(seed);
    const queue = new DueQueue<number>();
    const waiting: number[] = [];
    for (let step = 0; step < 100; step++) {
      if (random.chance(0.6)) {
        const at = random.between(0, 50);
        waiting.push(at);
        queue.add(instant(at), at);
      } else {
        const now = random.between(0, 50);
        const earliest = Math.min(...waiting);
        const taken = queue.takeDue(instant(now));
        assert.equal(taken?.at, earliest <= now ? earliest : undefined, `seed ${seed}`);
        assert.equal(taken?.item, taken?.at);
        if (taken !== undefined) waiting.splice(waiting.indexOf(taken.at), 1);
      }
      assert.equal(queue.firstAt, waiting.length === 0 ? undefined : Math.min(...waiting));
    }
  }
});
