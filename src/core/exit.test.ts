import assert from "node:assert/strict";
import { test } from "node:test";
import { exitLabel, formatExit } from "./exit.ts";

test("an exit status is formatted as a phrase for messages and as a label for metrics", () => {
  assert.equal(formatExit({ kind: "code", code: 3 }), "exited with code 3");
  assert.equal(exitLabel({ kind: "code", code: 3 }), "3");
  assert.equal(formatExit({ kind: "signal", signal: "SIGSEGV" }), "killed by SIGSEGV");
  assert.equal(exitLabel({ kind: "signal", signal: "SIGSEGV" }), "SIGSEGV");
});
