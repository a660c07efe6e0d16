import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../support/random.ts";
import { simulate } from "./simulate.ts";
import type { World } from "./world.ts";

const SEEDS = 200;
const EVENTS = 500;

test(`the invariants hold and every shutdown finishes in ${SEEDS} runs of ${EVENTS} random events`, () => {
  for (let seed = 1; seed <= SEEDS; seed++) simulate(seed, EVENTS);
});

test("runs with the same seed are identical", () => {
  assert.deepEqual(simulate(42, EVENTS).state, simulate(42, EVENTS).state);
});

test("a run whose state is serialized to JSON and parsed again at random points is identical to one without", () => {
  for (let seed = 1; seed <= 10; seed++) {
    const dice = new SeededRandom(seed);
    const trace: string[] = [];
    const uninterrupted = simulate(seed, EVENTS, (world) => trace.push(serialize(world)));
    let at = 0;
    const restored = simulate(seed, EVENTS, (world) => {
      const serialized = serialize(world);
      if (serialized !== trace[at++])
        assert.deepEqual(JSON.parse(serialized), JSON.parse(trace[at - 1] ?? ""), `seed ${seed}`);
      if (dice.chance(0.2)) restore(world, serialized);
    });
    assert.equal(at, trace.length);
    assert.deepEqual(JSON.parse(JSON.stringify(restored.state)), JSON.parse(JSON.stringify(uninterrupted.state)));
  }
});

function serialize({ state, reloads }: World): string {
  return JSON.stringify([state, reloads?.state]);
}

function restore(world: World, serialized: string): void {
  const [state, reloads] = JSON.parse(serialized);
  world.state = state;
  if (world.reloads !== undefined) world.reloads.state = reloads;
}
