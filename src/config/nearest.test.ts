import assert from "node:assert/strict";
import { test } from "node:test";
import { didYouMean, nearest } from "./nearest.ts";

test("the nearest word is at most two edits away; a swap is one edit", () => {
  assert.equal(nearest("replica", ["name", "replicas"]), "replicas");
  assert.equal(nearest("prot", ["path", "port"]), "port");
  assert.equal(nearest("MaxRestart", ["max_restarts"]), "max_restarts");
  assert.equal(nearest("completely", ["replicas"]), undefined);
});

test("a short word does not match a different short word", () => {
  assert.equal(nearest("ab", ["cd"]), undefined);
  assert.equal(didYouMean("x", ["y"]), "");
});
