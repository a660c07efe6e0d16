import assert from "node:assert/strict";
import { test } from "node:test";
import { after, type Instant } from "../../src/base/time.ts";
import { SeededRandom } from "../support/random.ts";
import { explore, firstSituation, LARGER_POOL, movesOf, pack, perform, SMALL_POOLS, unpack } from "./explore.ts";
import { ORIGIN } from "./reduce.ts";

/** `make explore` visits all states of these pools. */
const MAX_STATES = 4000;

test("a pool without probes and restarts satisfies the invariants in every state and can stop from each", () => {
  const spec = SMALL_POOLS["without probes, never restarted"];
  assert.ok(spec !== undefined);
  const { isClosed, states } = explore(spec, {});
  assert.ok(isClosed && states > 5000, `${states} states`);
});

for (const [name, spec] of Object.entries({ ...SMALL_POOLS, "with two replicas and a standby worker": LARGER_POOL }))
  test(`a pool ${name} satisfies the invariants in the first ${MAX_STATES} states`, () => {
    const { states, isClosed } = explore(spec, { maxStates: MAX_STATES });
    assert.ok(isClosed || states >= MAX_STATES);
  });

test(`one worker boots at a time with start_parallelism 1 in the first ${MAX_STATES} states`, () => {
  assert.ok(explore(LARGER_POOL, { maxStates: MAX_STATES, startParallelism: 1 }).states >= MAX_STATES);
});

test("a reduced state has the same transitions as the state it represents", () => {
  for (const [index, spec] of [...Object.values(SMALL_POOLS), LARGER_POOL].entries()) {
    const random = new SeededRandom(index + 1);
    for (let run = 0; run < 200; run++) {
      let situation = firstSituation(spec);
      let now: Instant = ORIGIN;
      for (let step = 0; step < 100; step++) {
        const reduced = unpack(pack(situation, now), spec);
        const moves = movesOf(situation, now);
        const choice = random.between(0, Math.max(0, moves.length - 1));
        const move = moves[choice];
        const sameMove = movesOf(reduced)[choice];
        // In this phase the reduced state intentionally gives the kernel less time.
        if (situation.state.killing) break;
        if (move === undefined || sameMove === undefined) break;
        assert.equal(move.name, sameMove.name);
        situation = perform(situation, move, now);
        now = after(now, move.ticks ?? 0);
        const ticked = after(ORIGIN, sameMove.ticks ?? 0);
        assert.equal(pack(perform(reduced, sameMove), ticked), pack(situation, now), `after "${move.name}"`);
      }
    }
  }
});
