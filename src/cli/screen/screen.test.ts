import assert from "node:assert/strict";
import { test } from "node:test";
import { frameOf } from "./screen.ts";

test("a frame draws over the last one and clears only what is left of it", () => {
  assert.equal(frameOf(["one", "two"]), "\u001b[Hone\u001b[K\r\ntwo\u001b[K\u001b[J");
  assert.ok(!frameOf(["x"]).includes("\u001b[2J"), "clearing the whole screen would flicker");
});
