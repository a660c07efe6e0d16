import assert from "node:assert/strict";
import { test } from "node:test";
import { didYouMean } from "./nearest.ts";

test("a suggestion is at most two edits away; a swap is one edit", () => {
  assert.equal(didYouMean("replica", ["name", "replicas"]), ', did you mean "replicas"?');
  assert.equal(didYouMean("prot", ["path", "port"]), ', did you mean "port"?');
  assert.equal(didYouMean("MaxRestart", ["max_restarts"]), ', did you mean "max_restarts"?');
  assert.equal(didYouMean("completely", ["replicas"]), "");
});

test("a short word does not match a different short word", () => {
  assert.equal(didYouMean("ab", ["cd"]), "");
  assert.equal(didYouMean("x", ["y"]), "");
});
