import assert from "node:assert/strict";
import { test } from "node:test";
import type { Instant } from "../../base/time.ts";
import { type ConnectionCounts, OldClusterRequests } from "./oldClusterRequests.ts";

const at = (ms: number) => ms as Instant;

function counts(active: number, ofWorkers: number, openedMeanwhile = 0): ConnectionCounts {
  return { before: { active, opened: 50 }, ofWorkers, after: { opened: 50 + openedMeanwhile } };
}

function replacedCluster(): OldClusterRequests {
  const requests = new OldClusterRequests();
  requests.replaced(at(100), [{ slot: 0, incarnation: 3 }]);
  return requests;
}

test("a worker of the replaced cluster may have requests, its successor and other workers have none", () => {
  const requests = replacedCluster();
  assert.deepEqual(
    [requests.mayRunOn(0, 3), requests.mayRunOn(0, 4), requests.mayRunOn(1, 3), requests.isWatching],
    [true, false, false, true],
  );
});

test("no requests are left once each connection belongs to a known worker", () => {
  const requests = replacedCluster();
  requests.observe(at(200), counts(3, 2));
  assert.equal(requests.isWatching, true);
  requests.observe(at(300), counts(2, 2));
  assert.deepEqual([requests.isWatching, requests.mayRunOn(0, 3)], [false, false]);
});

test("a poll that is too early, or during which a connection was opened, proves nothing", () => {
  const requests = replacedCluster();
  requests.observe(at(109), counts(0, 0));
  requests.observe(at(200), counts(2, 2, 1));
  assert.equal(requests.isWatching, true);
});

test("a second replacement adds workers and restarts the wait", () => {
  const requests = replacedCluster();
  requests.replaced(at(195), [{ slot: 1, incarnation: 1 }]);
  requests.observe(at(200), counts(0, 0));
  assert.deepEqual([requests.mayRunOn(0, 3), requests.mayRunOn(1, 1)], [true, true]);
  requests.observe(at(205), counts(0, 0));
  assert.equal(requests.isWatching, false);
});
