import assert from "node:assert/strict";
import { test } from "node:test";
import type { Upstream } from "../resources/settings.ts";
import { Enlistments } from "./enlistments.ts";

function upstream(slot: number, incarnation: number, state: Upstream["state"] = "serving"): Upstream {
  return { slot, incarnation, state, address: { port: 9000 + slot } };
}

test("a worker is enlisted once, when Envoy has applied that it serves", () => {
  const enlistments = new Enlistments();
  assert.equal(enlistments.want([upstream(0, 1), upstream(1, 1, "draining")]), true);
  assert.equal(enlistments.want([upstream(0, 1)]), false);
  assert.deepEqual(enlistments.applied([upstream(0, 1, "draining")]), []);
  assert.deepEqual([enlistments.isAnyAwaited, enlistments.isAnyEnlisted], [true, false]);
  assert.deepEqual(enlistments.applied([upstream(0, 1)]), [{ slot: 0, incarnation: 1 }]);
  assert.deepEqual([enlistments.isAnyAwaited, enlistments.isAnyEnlisted], [false, true]);
  assert.deepEqual(enlistments.applied([upstream(0, 1)]), []);
});

test("news of an earlier incarnation enlist nobody, and who comes back is enlisted anew", () => {
  const enlistments = new Enlistments();
  enlistments.want([upstream(0, 2)]);
  assert.deepEqual(enlistments.applied([upstream(0, 1)]), []);
  assert.deepEqual(enlistments.applied([upstream(0, 2)]), [{ slot: 0, incarnation: 2 }]);
  enlistments.want([upstream(0, 2, "draining")]);
  assert.equal(enlistments.want([upstream(0, 2)]), true);
  assert.deepEqual(enlistments.applied([upstream(0, 2)]), [{ slot: 0, incarnation: 2 }]);
});

test("without Envoy everybody who is wanted is enlisted: the next one begins with them", () => {
  const enlistments = new Enlistments();
  enlistments.want([upstream(0, 1), upstream(1, 1)]);
  enlistments.applied([upstream(0, 1)]);
  assert.deepEqual(enlistments.all(), [{ slot: 1, incarnation: 1 }]);
});
