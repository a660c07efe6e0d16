/** More seeds than the unit tests have time for, and different ones than controller.test.ts. */
import { test } from "node:test";
import { simulate } from "./simulate.ts";

const SEEDS = 1000;
const EVENTS = 500;

for (const first of [2001, 3001, 4001, 5001, 6001]) {
  const last = first + SEEDS - 1;
  test(`the invariants hold and every shutdown finishes for seeds ${first} to ${last} with ${EVENTS} random events`, () => {
    for (let seed = first; seed <= last; seed++) simulate(seed, EVENTS);
  });
}
