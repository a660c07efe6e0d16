import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as timer } from "node:timers/promises";
import { ReadTurns } from "./readTurns.ts";

describe("read turns", () => {
  test("rotate among all sources that have more", async () => {
    const turns = new ReadTurns();
    const order: string[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const name of ["a", "b", "c"]) {
      const taker = {
        takeTurn() {
          order.push(name);
          if (order.length < 28) turns.add(taker);
          else if (order.length === 30) resolve();
        },
      };
      turns.add(taker);
    }
    await promise;
    assert.equal(order.join(""), "abc".repeat(10));
  });

  test("let other work run although one source never has enough", async () => {
    const turns = new ReadTurns();
    let isStopped = false;
    const greedy = {
      takeTurn() {
        if (!isStopped) turns.add(greedy);
      },
    };
    turns.add(greedy);
    await timer(1);
    await timer(1);
    isStopped = true;
  });
});
