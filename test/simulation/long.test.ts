/** More seeds than a unit test has time for; none that controller.test.ts runs. */
import { test } from "node:test";
import { simulate } from "./simulate.ts";

const SEEDS = 1000;
const EVENTS = 500;

for (const first of [2001, 3001, 4001, 5001, 6001]) {
  const last = first + SEEDS - 1;
  test(`controller and pools keep their invariants over seeds ${first} to ${last} of ${EVENTS} random events`, () => {
    for (let seed = first; seed <= last; seed++) simulate(seed, EVENTS);
  });
}
