import assert from "node:assert/strict";
import { test } from "node:test";
import type { Instant } from "../../base/time.ts";
import { type ConnectionCounts, Stragglers } from "./stragglers.ts";

const at = (ms: number) => ms as Instant;

function counts(active: number, ofWorkers: number, openedMeanwhile = 0): ConnectionCounts {
  return { before: { active, opened: 50 }, ofWorkers, after: { opened: 50 + openedMeanwhile } };
}

function suspecting(): Stragglers {
  const stragglers = new Stragglers();
  stragglers.replaced(at(100), [{ slot: 0, incarnation: 3 }]);
  return stragglers;
}

test("a worker that was balanced over is suspected, its successor and others are not", () => {
  const stragglers = suspecting();
  assert.deepEqual(
    [stragglers.mayHave(0, 3), stragglers.mayHave(0, 4), stragglers.mayHave(1, 3), stragglers.isWatching],
    [true, false, false, true],
  );
});

test("the suspicion ends when each connection belongs to a worker", () => {
  const stragglers = suspecting();
  stragglers.look(at(200), counts(3, 2));
  assert.equal(stragglers.isWatching, true);
  stragglers.look(at(300), counts(2, 2));
  assert.deepEqual([stragglers.isWatching, stragglers.mayHave(0, 3)], [false, false]);
});

test("a look too early, or during which a connection was opened that may hide one, proves nothing", () => {
  const stragglers = suspecting();
  stragglers.look(at(109), counts(0, 0));
  stragglers.look(at(200), counts(2, 2, 1));
  assert.equal(stragglers.isWatching, true);
});

test("another replacement adds suspects and begins anew", () => {
  const stragglers = suspecting();
  stragglers.replaced(at(195), [{ slot: 1, incarnation: 1 }]);
  stragglers.look(at(200), counts(0, 0));
  assert.deepEqual([stragglers.mayHave(0, 3), stragglers.mayHave(1, 1)], [true, true]);
  stragglers.look(at(205), counts(0, 0));
  assert.equal(stragglers.isWatching, false);
});
