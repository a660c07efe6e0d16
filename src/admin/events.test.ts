import assert from "node:assert/strict";
import { test } from "node:test";
import type { LifecycleEvent } from "../core/event.ts";
import type { EventRecord } from "./api.ts";
import { EventLog } from "./events.ts";

const NOON = new Date(Date.UTC(2026, 0, 2, 12));

function spawned(pid: number): LifecycleEvent {
  return { kind: "spawned", pool: "web", slot: 0, incarnation: 1, pid, revision: 1 };
}

function filled(count: number): EventLog {
  const log = new EventLog(() => NOON);
  for (let pid = 1; pid <= count; pid++) log.add(spawned(pid));
  return log;
}

test("an event gets a number, the wall-clock time, a level and a message", () => {
  const log = filled(1);
  assert.deepEqual(log.add({ kind: "unready", pool: "web", slot: 1, incarnation: 2, reason: "HTTP 500" }), {
    kind: "unready",
    pool: "web",
    slot: 1,
    incarnation: 2,
    reason: "HTTP 500",
    seq: 2,
    time: "2026-01-02T12:00:00.000Z",
    level: "warn",
    message: 'worker "web-1" is unready: HTTP 500',
  });
});

test("events after a number are returned oldest first", () => {
  const log = filled(5);
  const numbers = (since: number) => log.since(since).map(({ seq }) => seq);
  assert.deepEqual(numbers(0), [1, 2, 3, 4, 5]);
  assert.deepEqual(numbers(3), [4, 5]);
  assert.deepEqual(numbers(5), []);
  assert.deepEqual(numbers(99), []);
  assert.deepEqual(numbers(-7), [1, 2, 3, 4, 5]);
  assert.deepEqual(filled(0).since(0), []);
});

test("only the last 500 events are kept, in order", () => {
  for (const count of [500, 501, 1250, 1500]) {
    const kept = filled(count).since(0);
    assert.equal(kept.length, 500);
    assert.deepEqual([kept[0]?.seq, kept.at(-1)?.seq], [count - 499, count]);
    assert.ok(kept.every((record, index) => record.seq === count - 499 + index));
    assert.ok(kept.every((record) => record.kind === "spawned" && record.pid === record.seq));
  }
});

test("a follower is notified of each new event until it is disposed", () => {
  const log = filled(2);
  const heard: EventRecord[] = [];
  const following = log.follow((record) => heard.push(record));
  const third = log.add(spawned(3));
  following[Symbol.dispose]();
  log.add(spawned(4));
  assert.deepEqual(heard, [third]);
});

test("a follower that is disposed during an event does not affect the others", () => {
  const log = filled(0);
  const heard: string[] = [];
  const first = log.follow(() => {
    heard.push("first");
    first[Symbol.dispose]();
  });
  log.follow(() => heard.push("second"));
  log.add(spawned(1));
  log.add(spawned(2));
  assert.deepEqual(heard, ["first", "second", "second"]);
});
