import assert from "node:assert/strict";
import { test } from "node:test";
import { frameOf } from "./screen.ts";

test("a frame overwrites the previous one and clears the rest", () => {
  assert.equal(frameOf(["one", "two"]), "\u001b[Hone\u001b[K\r\ntwo\u001b[K\u001b[J");
  assert.ok(!frameOf(["x"]).includes("\u001b[2J"), "clearing the whole screen would flicker");
});
