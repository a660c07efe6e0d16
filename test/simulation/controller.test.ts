import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../support/random.ts";
import { simulate } from "./simulate.ts";
import type { World } from "./world.ts";

const SEEDS = 200;
const EVENTS = 500;

test(`controller and pools keep their invariants over ${SEEDS} seeds of ${EVENTS} random events, and every shutdown ends`, () => {
  for (let seed = 1; seed <= SEEDS; seed++) simulate(seed, EVENTS);
});

test("the same seed gives the same run", () => {
  assert.deepEqual(simulate(42, EVENTS).state, simulate(42, EVENTS).state);
});

test("the state survives JSON: a run whose state is written and read again at random points goes on identically", () => {
  for (let seed = 1; seed <= 10; seed++) {
    const dice = new SeededRandom(seed);
    const trace: string[] = [];
    const plain = simulate(seed, EVENTS, (world) => trace.push(write(world)));
    let at = 0;
    const restored = simulate(seed, EVENTS, (world) => {
      const written = write(world);
      if (written !== trace[at++])
        assert.deepEqual(JSON.parse(written), JSON.parse(trace[at - 1] ?? ""), `seed ${seed}`);
      if (dice.chance(0.2)) read(world, written);
    });
    assert.equal(at, trace.length);
    assert.deepEqual(JSON.parse(JSON.stringify(restored.state)), JSON.parse(JSON.stringify(plain.state)));
  }
});

function write({ state, reloads }: World): string {
  return JSON.stringify([state, reloads?.state]);
}

function read(world: World, written: string): void {
  const [state, reloads] = JSON.parse(written);
  world.state = state;
  if (world.reloads !== undefined) world.reloads.state = reloads;
}
