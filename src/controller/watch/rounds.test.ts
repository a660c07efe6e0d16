import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { Rounds } from "./rounds.ts";

test("looks repeat while needed, and stop until they are started again", async () => {
  const clock = new FakeClock();
  let isNeeded = false;
  let looks = 0;
  const rounds = new Rounds({ clock, everyMs: 100, isNeeded: () => isNeeded, look: () => void looks++ });
  rounds.start();
  assert.deepEqual(clock.armed, []);
  isNeeded = true;
  rounds.start();
  rounds.start();
  assert.equal(clock.armed.length, 1);
  for (let round = 0; round < 3; round++) {
    clock.pass(100);
    await turn();
  }
  assert.equal(looks, 3);
  isNeeded = false;
  clock.pass(100);
  await turn();
  assert.equal(looks, 4);
  assert.deepEqual(clock.armed, []);
});

test("a look that takes long delays the next one, and none follows after disposal", async () => {
  const clock = new FakeClock();
  let finish = () => {};
  let looks = 0;
  const rounds = new Rounds({
    clock,
    everyMs: 100,
    isNeeded: () => true,
    look: () => {
      looks++;
      return new Promise<void>((resolve) => {
        finish = resolve;
      });
    },
  });
  rounds.start();
  clock.pass(100);
  rounds.start();
  clock.pass(1000);
  assert.equal(looks, 1);
  finish();
  await turn();
  clock.pass(100);
  assert.equal(looks, 2);
  rounds[Symbol.dispose]();
  finish();
  await turn();
  assert.deepEqual(clock.armed, []);
});
