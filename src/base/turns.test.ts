import assert from "node:assert/strict";
import { test } from "node:test";
import { inTurns } from "./turns.ts";

test("inTurns processes a long list in several turns of the event loop", async () => {
  const done: number[] = [];
  const items = [...Array(5).keys()];
  const { promise: finished, resolve } = Promise.withResolvers<void>();
  const act = (item: number) => {
    done.push(item);
    for (const until = performance.now() + 10; performance.now() < until; );
  };
  inTurns(items, act, resolve);
  assert.equal(done.length, 1);
  await finished;
  assert.deepEqual(done, items);
});
