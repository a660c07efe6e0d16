import assert from "node:assert/strict";
import { test } from "node:test";
import { World } from "./world.ts";

const SEEDS = 2000;
const EVENTS = 500;

/**
 * Runs `events` random events from one seed; where a controller ended early (its restarts were used up), the next one
 * boots, until the events are spent. An error names the seed, so that it can be run alone.
 */
function simulate(seed: number, events: number): World {
  let world = new World(seed);
  try {
    for (let event = 0; event < events; event++) {
      if (world.finished !== undefined) world = new World(seed + 1_000_000 * event);
      world.step(event > events / 2);
    }
    world.shutDown();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`seed ${seed} breaks an invariant: ${message}`, { cause: error });
  }
  return world;
}

test(`controller and pools keep their invariants over ${SEEDS} seeds of ${EVENTS} random events, and every shutdown ends`, () => {
  for (let seed = 1; seed <= SEEDS; seed++) simulate(seed, EVENTS);
});

test("the same seed gives the same run", () => {
  assert.deepEqual(simulate(42, EVENTS).state, simulate(42, EVENTS).state);
});
