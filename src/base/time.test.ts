import assert from "node:assert/strict";
import { test } from "node:test";
import { after, instant } from "./time.ts";

test("after() shifts an instant forwards or backwards and keeps fractions", () => {
  assert.equal(after(instant(1000), 500), 1500);
  assert.equal(after(instant(1000), -1.5), 998.5);
  assert.equal(after(instant(1000), 0), 1000);
});
