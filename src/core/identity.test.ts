import assert from "node:assert/strict";
import { test } from "node:test";
import { workerId } from "./identity.ts";

test("a worker's id consists of its pool's name and its slot", () => {
  assert.equal(workerId("web", 0), "web-0");
  assert.equal(workerId("my-pool", 12), "my-pool-12");
});
