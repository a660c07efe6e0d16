import assert from "node:assert/strict";
import { test } from "node:test";
import { takeCollector, tuneForLongLife } from "./engineFlags.ts";

test("the collector takes what nobody holds, also after other flags were set", async () => {
  tuneForLongLife();
  const held = new WeakRef(new Array(100_000).fill("garbage"));
  // What was looked at in a turn of the event loop is held until its end.
  await new Promise((wake) => setTimeout(wake, 1));
  takeCollector()({ type: "major", execution: "sync", flavor: "last-resort" });
  assert.equal(held.deref(), undefined);
});
