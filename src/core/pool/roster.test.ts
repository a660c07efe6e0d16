import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../../base/time.ts";
import { newWorker, type WorkerState } from "../worker/state.ts";
import { Roster, takeCensus } from "./roster.ts";

const AT = instant(1000);

function ready(slot: number, changes: { readonly isStandby?: boolean; readonly streak?: number } = {}): WorkerState {
  const { isStandby = false, streak = 0 } = changes;
  const { crashes, ...common } = newWorker(slot, AT);
  return {
    ...common,
    crashes: { ...crashes, streak },
    phase: "ready",
    deadline: undefined,
    pid: 100 + slot,
    spawnedAt: AT,
    due: undefined,
    isStandby,
  };
}

function rosterOf(...workers: WorkerState[]): Roster {
  return new Roster(workers, takeCensus(workers));
}

test("the census is updated with each change of a worker", () => {
  const roster = rosterOf(newWorker(0, AT), ready(1), ready(2, { isStandby: true }), ready(3, { streak: 2 }));
  roster.set(ready(0));
  roster.set({ ...newWorker(1, AT), phase: "down", deadline: undefined, kind: "gave-up" });
  roster.set(newWorker(4, AT));
  assert.deepEqual(roster.census, takeCensus(roster.workers));
  const { serving, standby, absent, gaveUp, inUse, occupied, crashedRepeatedly } = roster.census;
  assert.deepEqual(
    { serving, standby, absent, gaveUp, inUse, occupied, crashedRepeatedly },
    { serving: 2, standby: 1, absent: 1, gaveUp: 1, inUse: 4, occupied: 3, crashedRepeatedly: 1 },
  );
});

test("freeSlot returns the lowest free slot, also after a lower one was freed", () => {
  const roster = rosterOf(ready(0), ready(1), newWorker(2, AT), newWorker(3, AT));
  assert.equal(roster.freeSlot(), 2);
  roster.set(ready(2));
  assert.equal(roster.freeSlot(), 3);
  roster.set(newWorker(0, AT));
  assert.equal(roster.freeSlot(), 0);
});

test("takeChanged returns each changed slot once, and undefined after markAllChanged", () => {
  const roster = rosterOf(ready(0), ready(1));
  roster.set(newWorker(1, AT));
  assert.deepEqual(roster.takeChanged(), new Set([1]));
  assert.deepEqual(roster.takeChanged(), new Set());
  roster.markAllChanged();
  assert.equal(roster.takeChanged(), undefined);
});

test("a roster does not modify the list it was created from", () => {
  const workers = [ready(0)];
  new Roster(workers, takeCensus(workers)).set(newWorker(0, AT));
  assert.equal(workers[0]?.phase, "ready");
});
