import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../../base/time.ts";
import { beginRestart, endRestart, isTemporary, NO_CHANGES, noteChange, restartAt } from "./sourceChanges.ts";

test("a restart begins 300 ms after the latest change", () => {
  assert.equal(restartAt(NO_CHANGES), undefined);
  const one = noteChange(NO_CHANGES, instant(1000));
  assert.equal(restartAt(one), 1300);
  assert.equal(restartAt(noteChange(one, instant(1200))), 1500);
});

test("changes without a pause delay a restart by at most three seconds", () => {
  let changes = NO_CHANGES;
  for (let at = 1000; at <= 3900; at += 100) changes = noteChange(changes, instant(at));
  assert.equal(restartAt(changes), 4000);
});

test("a change during a restart leads to one more restart after it", () => {
  let changes = beginRestart();
  for (const at of [1000, 2000, 9000]) changes = noteChange(changes, instant(at));
  assert.equal(restartAt(changes), undefined);
  changes = endRestart(changes);
  assert.equal(restartAt(changes), 4000, "it is due at once");
  assert.equal(restartAt(endRestart(beginRestart())), undefined);
});

test("a file that exists neither before nor after the changes is temporary", () => {
  assert.ok(isTemporary(2, false), "created and renamed");
  assert.ok(!isTemporary(1, false), "removed");
  assert.ok(!isTemporary(0, true), "changed");
  assert.ok(!isTemporary(2, true), "replaced");
});
