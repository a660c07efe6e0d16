import assert from "node:assert/strict";
import { test } from "node:test";
import { TimeShare } from "./timeShare.ts";

/** Does work of `costMs` as often as the share allows until `untilMs`, and returns the number of times. */
function workUntil(share: TimeShare, costMs: number, untilMs: number, fromMs = 0): number {
  let count = 0;
  for (let nowMs = fromMs + share.waitMs(fromMs); nowMs < untilMs; nowMs += share.waitMs(nowMs)) {
    share.spend(nowMs, nowMs + costMs);
    nowMs += costMs;
    count++;
  }
  return count;
}

test("a burst does not wait, and steady work is limited to its share", () => {
  const share = new TimeShare(0.2, 400);
  for (let index = 0; index < 20; index++) {
    assert.equal(share.waitMs(index * 20), 0, `piece ${index} of a burst`);
    share.spend(index * 20, index * 20 + 20);
  }
  const steady = new TimeShare(0.2, 400);
  const count = workUntil(steady, 20, 100_000);
  assert.ok(Math.abs(count * 20 - 20_000) <= 500, `${count * 20} ms of 100,000`);
});

test("a pause restores at most one full burst", () => {
  const share = new TimeShare(0.2, 400);
  workUntil(share, 20, 10_000);
  share.spend(10_000, 10_020);
  assert.ok(share.waitMs(10_020) > 0);
  assert.equal(share.waitMs(20_000), 0);
  const count = workUntil(share, 20, 1_000_000 + 1000, 1_000_000);
  assert.ok(count * 20 <= 400 + 200 + 40, `${count * 20} ms in a second`);
});
