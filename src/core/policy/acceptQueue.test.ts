import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../../base/time.ts";
import { EMPTY_QUEUE, foldQueue, isSuspicious, type QueueState, stalledMs } from "./acceptQueue.ts";

/** The state after samples one second apart, each given as the connections that wait. */
function after(...samples: readonly (readonly string[])[]): QueueState {
  let state = EMPTY_QUEUE;
  for (const [second, waiting] of samples.entries())
    state = foldQueue(state, { at: instant(second * 1000), length: waiting.length, waiting: new Set(waiting) });
  return state;
}

test("a queue is stalled as long as all connections of the first sample still wait, even if others join", () => {
  assert.equal(stalledMs(after(["a"], ["a", "b"], ["a", "b", "c"]), instant(2000)), 2000);
});

test("a queue that is never empty but whose connections are accepted is not stalled", () => {
  assert.equal(stalledMs(after(["a", "b"], ["b", "c"], ["c", "d"], ["d", "e"]), instant(3000)), 0);
});

test("an empty queue ends a stall", () => {
  assert.equal(stalledMs(after(["a"], ["a"], []), instant(2000)), 0);
  assert.deepEqual(after(["a"], []), EMPTY_QUEUE);
});

test("connections are identified only after two non-empty samples in a row", () => {
  const sample = (state: QueueState, at: number) =>
    foldQueue(state, { at: instant(at), length: 1, waiting: undefined });
  const once = sample(EMPTY_QUEUE, 0);
  assert.deepEqual(
    [isSuspicious(EMPTY_QUEUE), isSuspicious(once), isSuspicious(sample(once, 1000))],
    [false, false, true],
  );
});

test("a queue whose connections cannot be identified is never stalled", () => {
  let state = EMPTY_QUEUE;
  for (let second = 0; second < 100; second++)
    state = foldQueue(state, { at: instant(second * 1000), length: 9, waiting: new Set() });
  assert.equal(stalledMs(state, instant(100_000)), 0);
});
