import assert from "node:assert/strict";
import { test } from "node:test";
import { didYouMean, nearest } from "./nearest.ts";

test("up to two edits are forgiven, a swap is one", () => {
  assert.equal(nearest("replica", ["name", "replicas"]), "replicas");
  assert.equal(nearest("prot", ["path", "port"]), "port");
  assert.equal(nearest("MaxRestart", ["max_restarts"]), "max_restarts");
  assert.equal(nearest("completely", ["replicas"]), undefined);
});

test("a short word is not turned into another one", () => {
  assert.equal(nearest("ab", ["cd"]), undefined);
  assert.equal(didYouMean("x", ["y"]), "");
});
