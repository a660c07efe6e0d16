import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../../base/time.ts";
import type { Upstream } from "../resources/settings.ts";
import { Drains, QUIET_MS } from "./drains.ts";

function upstream(slot: number, state: Upstream["state"], incarnation = 1): Upstream {
  return { slot, incarnation, state, address: { port: 9000 + slot } };
}

const idle = () => false;

test("a worker is drained after two idle polls at least QUIET_MS apart, once its draining is applied", () => {
  const drains = new Drains();
  const wanted = [upstream(0, "draining"), upstream(1, "serving")];
  assert.equal(drains.want(wanted), true);
  assert.equal(drains.isWatching, false);
  assert.deepEqual(drains.observe(instant(0), idle), []);
  assert.deepEqual(drains.observe(instant(100), idle), []);
  assert.equal(drains.applied(wanted), true);
  assert.equal(drains.isWatching, true);
  assert.equal(drains.isNearlyOver, false);
  assert.deepEqual(drains.observe(instant(200), idle), []);
  assert.equal(drains.isNearlyOver, true);
  assert.deepEqual(drains.observe(instant(200 + QUIET_MS - 1), idle), []);
  assert.deepEqual(drains.observe(instant(200 + QUIET_MS), idle), [{ slot: 0, incarnation: 1 }]);
  assert.equal(drains.isWatching, false);
  assert.deepEqual(drains.observe(instant(300), idle), []);
});

test("an unready worker is not watched, and its drain starts when it begins to drain", () => {
  const drains = new Drains();
  const unready = [upstream(0, "unready")];
  assert.equal(drains.want(unready), false);
  assert.equal(drains.applied(unready), false);
  assert.equal(drains.isWatching, false);
  const leaving = [upstream(0, "draining")];
  assert.equal(drains.want(leaving), true);
  assert.equal(drains.applied(leaving), true);
  assert.deepEqual(drains.observe(instant(0), idle), []);
  assert.deepEqual(drains.observe(instant(QUIET_MS), idle), [{ slot: 0, incarnation: 1 }]);
});

test("a request during the quiet period restarts it", () => {
  const drains = new Drains();
  const wanted = [upstream(0, "draining")];
  drains.want(wanted);
  drains.applied(wanted);
  drains.observe(instant(0), idle);
  assert.deepEqual(
    drains.observe(instant(50), () => true),
    [],
  );
  assert.deepEqual(drains.observe(instant(51), idle), []);
  assert.deepEqual(drains.observe(instant(60), idle), []);
  assert.equal(drains.observe(instant(61), idle).length, 1);
});

test("a worker whose draining or incarnation is not applied is not watched", () => {
  const drains = new Drains();
  drains.want([upstream(0, "draining", 2)]);
  assert.equal(drains.applied([upstream(0, "serving", 2)]), false);
  assert.equal(drains.applied([upstream(0, "draining", 1)]), false);
  assert.equal(drains.isWatching, false);
});

test("the same upstreams change nothing, another incarnation starts a new drain, and an absent worker has none", () => {
  const drains = new Drains();
  const wanted = [upstream(0, "draining")];
  drains.want(wanted);
  drains.applied(wanted);
  drains.observe(instant(0), idle);
  assert.equal(drains.observe(instant(20), idle).length, 1);
  assert.equal(drains.want(wanted), false);
  assert.deepEqual(drains.endAll(), []);
  assert.equal(drains.want([upstream(0, "draining", 2)]), true);
  assert.equal(drains.want([upstream(0, "serving", 2)]), false);
  assert.deepEqual(drains.endAll(), []);
});

test("without Envoy all drains end, each once", () => {
  const drains = new Drains();
  const wanted = [upstream(0, "draining"), upstream(1, "draining")];
  drains.want(wanted);
  drains.applied([upstream(0, "draining")]);
  assert.deepEqual(drains.endAll(), [
    { slot: 0, incarnation: 1 },
    { slot: 1, incarnation: 1 },
  ]);
  assert.deepEqual(drains.endAll(), []);
});
