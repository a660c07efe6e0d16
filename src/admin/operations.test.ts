import assert from "node:assert/strict";
import { test } from "node:test";
import type { OperationKind, WideLifecycleEvent } from "../core/event.ts";
import { OperationLog } from "./operations.ts";

interface News {
  readonly id?: string;
  readonly what?: OperationKind;
  readonly done?: number;
  readonly total?: number;
  readonly reason?: string;
}

function news(
  kind: "queued" | "started" | "progressed" | "finished" | "failed",
  changes: News = {},
): WideLifecycleEvent {
  const { id = "op-1", what = "restart", done = 0, total = 0, reason = "asked for" } = changes;
  return { kind: `operation_${kind}`, pool: "web", operation: id, what, done, total, reason };
}

/** A log whose clock goes on a second with each look. */
function newLog(): OperationLog {
  let seconds = 0;
  return new OperationLog(() => new Date(1000 * seconds++));
}

function time(second: number): string {
  return new Date(1000 * second).toISOString();
}

test("an operation keeps its first reason and its times from the queue to its success", () => {
  const log = newLog();
  const common = { id: "op-1", pool: "web", what: "restart", reason: "asked for" };
  log.handle(news("queued"));
  assert.deepEqual(log.get("op-1"), {
    ...common,
    state: "queued",
    done: 0,
    total: 0,
    started_at: null,
    ended_at: null,
  });
  log.handle(news("started", { total: 2 }));
  const running = { ...common, state: "running", total: 2, started_at: time(1), ended_at: null };
  assert.deepEqual(log.get("op-1"), { ...running, done: 0 });
  log.handle(news("progressed", { done: 1, total: 2, reason: "another" }));
  assert.deepEqual(log.get("op-1"), { ...running, done: 1 });
  assert.deepEqual(log.pending(), [log.get("op-1")]);
  log.handle(news("finished", { done: 2, total: 2 }));
  assert.deepEqual(log.get("op-1"), { ...running, state: "succeeded", done: 2, ended_at: time(3) });
  assert.deepEqual(log.pending(), []);
});

test("a failed operation has an error and keeps the reason of the request", () => {
  const log = newLog();
  log.handle(news("started", { total: 2 }));
  log.handle(news("failed", { done: 1, total: 2, reason: "web-2 exited" }));
  const { state, error, reason, done } = log.get("op-1") ?? {};
  assert.deepEqual([state, error, reason, done], ["failed", "web-2 exited", "asked for", 1]);
});

test("an operation that fails in the queue has no start time", () => {
  const log = newLog();
  log.handle(news("queued"));
  log.handle(news("failed", { reason: "the controller shuts down" }));
  assert.deepEqual([log.get("op-1")?.started_at, log.get("op-1")?.ended_at], [null, time(1)]);
});

test("other events are ignored", () => {
  const log = newLog();
  log.handle({ kind: "pool_degraded", pool: "web", reason: "because" });
  assert.deepEqual([log.list(), log.get("web")], [[], undefined]);
});

test("200 operations are kept, and ended operations are dropped first", () => {
  const log = newLog();
  log.handle(news("started", { id: "slow" }));
  for (let index = 0; index < 250; index++) {
    log.handle(news("started", { id: `op-${index}` }));
    log.handle(news("finished", { id: `op-${index}` }));
  }
  const ids = log.list().map(({ id }) => id);
  assert.deepEqual([ids.length, ids[0], ids[1], ids.at(-1)], [200, "slow", "op-51", "op-249"]);
});

test("the limit holds even if no operation has ended", () => {
  const log = newLog();
  for (let index = 0; index < 300; index++) log.handle(news("queued", { id: `op-${index}` }));
  assert.equal(log.list().length, 200);
  assert.equal(log.list()[0]?.id, "op-100");
});
