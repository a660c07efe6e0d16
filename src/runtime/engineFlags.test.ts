import assert from "node:assert/strict";
import { test } from "node:test";
import { collect, tuneForLongLife } from "./engineFlags.ts";

test("the collector frees unreachable objects, also after other flags were set", async () => {
  tuneForLongLife();
  const held = new WeakRef(new Array(100_000).fill("garbage"));
  // What was looked at in a turn of the event loop is held until its end.
  await new Promise((wake) => setTimeout(wake, 1));
  collect(false);
  assert.equal(held.deref(), undefined);
});

test("a function whose bytecode was flushed still runs", () => {
  const square = new Function("x", "return x * x") as (x: number) => number;
  assert.equal(square(3), 9);
  collect(true);
  assert.equal(square(4), 16);
});
