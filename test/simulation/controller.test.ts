import assert from "node:assert/strict";
import { test } from "node:test";
import { simulate } from "./simulate.ts";

const SEEDS = 200;
const EVENTS = 500;

test(`controller and pools keep their invariants over ${SEEDS} seeds of ${EVENTS} random events, and every shutdown ends`, () => {
  for (let seed = 1; seed <= SEEDS; seed++) simulate(seed, EVENTS);
});

test("the same seed gives the same run", () => {
  assert.deepEqual(simulate(42, EVENTS).state, simulate(42, EVENTS).state);
});
