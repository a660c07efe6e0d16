import assert from "node:assert/strict";
import { test } from "node:test";
import {
  addNamed,
  addObservations,
  forgetAbsent,
  growth,
  NO_COUNTS,
  NO_NAMED_COUNTS,
  type RequestCounts,
  type WorkerObservation,
} from "./requestCounts.ts";

function seen(slot: number, requests: number, more: Partial<WorkerObservation> = {}): WorkerObservation {
  return { slot, incarnation: 1, requests, failed: 0, ...more };
}

function totals(counts: RequestCounts): readonly (readonly [number, number, number])[] {
  return [...counts.slots].map(([slot, count]) => [slot, count.requestsTotal, count.ofIncarnation] as const);
}

test("a counter that is smaller than before was reset", () => {
  assert.equal(growth(5, 8), 3);
  assert.equal(growth(5, 5), 0);
  assert.equal(growth(5, 2), 2);
});

test("the same values observed again add nothing", () => {
  let counts = addObservations(NO_COUNTS, 1, [seen(0, 5), seen(1, 2)]);
  counts = addObservations(counts, 1, [seen(0, 5), seen(1, 4, { failed: 1 })]);
  assert.deepEqual(totals(counts), [
    [0, 5, 5],
    [1, 4, 4],
  ]);
  assert.equal(counts.slots.get(1)?.failedTotal, 1);
});

test("a restarted Envoy counts from 0, even if its counters already exceed the old values", () => {
  let counts = addObservations(NO_COUNTS, 1, [seen(0, 5), seen(1, 3)]);
  counts = addObservations(counts, 2, [seen(0, 9)]);
  assert.deepEqual(totals(counts), [
    [0, 14, 14],
    [1, 3, 3],
  ]);
  // The slot that was not seen at first begins at 0 in the new process as well.
  counts = addObservations(counts, 2, [seen(0, 10), seen(1, 4)]);
  assert.deepEqual(totals(counts), [
    [0, 15, 15],
    [1, 7, 7],
  ]);
});

test("a worker that was removed and added again counts from 0", () => {
  let counts = addObservations(NO_COUNTS, 1, [seen(0, 5), seen(1, 5)]);
  counts = forgetAbsent(counts, new Set([1]));
  counts = addObservations(counts, 1, [seen(0, 6, { incarnation: 2 }), seen(1, 6)]);
  assert.deepEqual(totals(counts), [
    [0, 11, 6],
    [1, 6, 6],
  ]);
});

test("requests of an incarnation start at 0, those of the slot continue", () => {
  let counts = addObservations(NO_COUNTS, 1, [seen(0, 5, { failed: 2 })]);
  counts = forgetAbsent(counts, new Set());
  counts = addObservations(counts, 1, [seen(0, 1, { incarnation: 2, failed: 1 })]);
  assert.deepEqual(totals(counts), [[0, 6, 1]]);
  assert.equal(counts.slots.get(0)?.failedTotal, 3);
});

test("a former state is never modified", () => {
  const before = addObservations(NO_COUNTS, 1, [seen(0, 5)]);
  addObservations(before, 1, [seen(0, 7)]);
  forgetAbsent(before, new Set());
  assert.deepEqual(totals(before), [[0, 5, 5]]);
  assert.equal(before.slots.get(0)?.seenRequests, 5);
  assert.equal(NO_COUNTS.slots.size, 0);
});

test("named counters add up over restarts and may be missing once", () => {
  let counts = addNamed(
    NO_NAMED_COUNTS,
    1,
    new Map([
      ["a", 5],
      ["b", 1],
    ]),
  );
  counts = addNamed(counts, 1, new Map([["a", 6]]));
  counts = addNamed(
    counts,
    1,
    new Map([
      ["a", 6],
      ["b", 3],
    ]),
  );
  assert.deepEqual(
    [...counts.totals],
    [
      ["a", 6],
      ["b", 3],
    ],
  );
  counts = addNamed(counts, 2, new Map([["a", 8]]));
  counts = addNamed(
    counts,
    2,
    new Map([
      ["a", 9],
      ["b", 1],
    ]),
  );
  assert.deepEqual(
    [...counts.totals],
    [
      ["a", 15],
      ["b", 4],
    ],
  );
});
