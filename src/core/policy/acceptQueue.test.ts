import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../../base/time.ts";
import { EMPTY_QUEUE, foldQueue, isSuspicious, type QueueState, stalledMs } from "./acceptQueue.ts";

/** The state after looks a second apart, each given by the connections that wait. */
function after(...looks: readonly (readonly string[])[]): QueueState {
  let state = EMPTY_QUEUE;
  for (const [second, waiting] of looks.entries())
    state = foldQueue(state, { at: instant(second * 1000), length: waiting.length, waiting: new Set(waiting) });
  return state;
}

test("a queue is stalled while all connections that were seen waiting still wait, even if others join", () => {
  assert.equal(stalledMs(after(["a"], ["a", "b"], ["a", "b", "c"]), instant(2000)), 2000);
});

test("a queue that is never empty but moves is not stalled", () => {
  assert.equal(stalledMs(after(["a", "b"], ["b", "c"], ["c", "d"], ["d", "e"]), instant(3000)), 0);
});

test("an empty queue ends a stall", () => {
  assert.equal(stalledMs(after(["a"], ["a"], []), instant(2000)), 0);
  assert.deepEqual(after(["a"], []), EMPTY_QUEUE);
});

test("connections are identified only after two non-empty samples in a row", () => {
  const look = (state: QueueState, at: number) => foldQueue(state, { at: instant(at), length: 1, waiting: undefined });
  const once = look(EMPTY_QUEUE, 0);
  assert.deepEqual(
    [isSuspicious(EMPTY_QUEUE), isSuspicious(once), isSuspicious(look(once, 1000))],
    [false, false, true],
  );
});

test("a queue whose connections cannot be identified is never stalled", () => {
  let state = EMPTY_QUEUE;
  for (let second = 0; second < 100; second++)
    state = foldQueue(state, { at: instant(second * 1000), length: 9, waiting: new Set() });
  assert.equal(stalledMs(state, instant(100_000)), 0);
});
