import assert from "node:assert/strict";
import { test } from "node:test";
import { RESOURCES_FILTER, resourceState } from "./resourceStates.ts";

const SETTLED: readonly (readonly [string, number | string])[] = [
  ["http.ingress.rds.ingress.version_text", "1"],
  ["listener_manager.lds.version_text", "2"],
  ["listener_manager.total_listeners_active", 1],
  ["cluster_manager.cds.version_text", "3"],
];

test("each kind has its own version, and missing statistics mean settled and never rejected", () => {
  const stats = new Map(SETTLED);
  assert.deepEqual(resourceState("routes", stats), { version: "1", refusals: 0, isSettled: true });
  assert.deepEqual(resourceState("listener", stats), { version: "2", refusals: 0, isSettled: true });
  assert.deepEqual(resourceState("cluster", stats), { version: "3", refusals: 0, isSettled: true });
});

test("a warming resource is not settled", () => {
  const warming = new Map([
    ...SETTLED,
    ["listener_manager.total_listeners_warming", 1] as const,
    ["cluster_manager.warming_clusters", 1] as const,
  ]);
  assert.equal(resourceState("listener", warming).isSettled, false);
  assert.equal(resourceState("cluster", warming).isSettled, false);
  assert.equal(resourceState("listener", new Map()).isSettled, false);
});

test("rejected updates, unreadable files and listeners that cannot listen count as refusals", () => {
  const stats = new Map([
    ["listener_manager.lds.update_rejected", 1],
    ["listener_manager.lds.update_failure", 2],
    ["listener_manager.listener_create_failure", 4],
    ["cluster_manager.cds.update_rejected", 8],
  ]);
  assert.equal(resourceState("listener", stats).refusals, 7);
  assert.equal(resourceState("cluster", stats).refusals, 8);
  assert.equal(resourceState("routes", stats).refusals, 0);
});

test("the filter matches each of the statistics and nothing else", () => {
  const filter = new RegExp(RESOURCES_FILTER, "u");
  for (const [name] of SETTLED) assert.match(name, filter);
  assert.doesNotMatch("listener_manager.lds.update_rejected_more", filter);
  assert.doesNotMatch("listener_managerxlds.update_rejected", filter);
});
