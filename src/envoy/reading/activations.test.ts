import assert from "node:assert/strict";
import { test } from "node:test";
import type { Upstream } from "../resources/settings.ts";
import { Activations } from "./activations.ts";

function upstream(slot: number, incarnation: number, state: Upstream["state"] = "serving"): Upstream {
  return { slot, incarnation, state, address: { port: 9000 + slot } };
}

test("a worker is activated once, when Envoy has applied its endpoint", () => {
  const activations = new Activations();
  assert.equal(activations.want([upstream(0, 1), upstream(1, 1, "draining")]), true);
  assert.equal(activations.want([upstream(0, 1)]), false);
  assert.deepEqual(activations.applied([upstream(0, 1, "draining")]), []);
  assert.deepEqual([activations.isAnyPending, activations.isAnyActive], [true, false]);
  assert.deepEqual(activations.applied([upstream(0, 1)]), [{ slot: 0, incarnation: 1 }]);
  assert.deepEqual([activations.isAnyPending, activations.isAnyActive], [false, true]);
  assert.deepEqual(activations.applied([upstream(0, 1)]), []);
});

test("an update with an earlier incarnation activates no worker, and a worker that returns is activated again", () => {
  const activations = new Activations();
  activations.want([upstream(0, 2)]);
  assert.deepEqual(activations.applied([upstream(0, 1)]), []);
  assert.deepEqual(activations.applied([upstream(0, 2)]), [{ slot: 0, incarnation: 2 }]);
  activations.want([upstream(0, 2, "draining")]);
  assert.equal(activations.want([upstream(0, 2)]), true);
  assert.deepEqual(activations.applied([upstream(0, 2)]), [{ slot: 0, incarnation: 2 }]);
});

test("without Envoy all desired workers are activated, because the next Envoy starts with them", () => {
  const activations = new Activations();
  activations.want([upstream(0, 1), upstream(1, 1)]);
  activations.applied([upstream(0, 1)]);
  assert.deepEqual(activations.all(), [{ slot: 1, incarnation: 1 }]);
});
