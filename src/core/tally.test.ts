import assert from "node:assert/strict";
import { test } from "node:test";
import type { LimitKind, WorkerLifecycleEvent } from "./event.ts";
import { DURATION_BUCKETS_SECONDS, EMPTY_TALLY, type PoolTally, tallyEvent } from "./tally.ts";

type Body<T> = T extends unknown ? Omit<T, "pool" | "slot" | "incarnation"> : never;

function fold(...events: readonly Body<WorkerLifecycleEvent>[]): PoolTally {
  return events.reduce<PoolTally>(
    (tally, event) => tallyEvent(tally, { pool: "web", slot: 0, incarnation: 1, ...event }),
    EMPTY_TALLY,
  );
}

const EXITED = { kind: "exited", pid: 7, uptimeMs: 1 } as const;
const STOPPING = { kind: "stopping", pid: 7, cause: "rollout", reason: "r" } as const;

test("each event increments exactly its own total", () => {
  const empty = EMPTY_TALLY;
  assert.deepEqual(fold({ kind: "spawned", pid: 7, revision: 1 }), { ...empty, spawns: 1 });
  assert.deepEqual(fold({ kind: "spawn_failed", reason: "r" }), { ...empty, spawnFailures: 1 });
  assert.deepEqual(fold({ kind: "backing_off", delayMs: 0, reason: "r" }), { ...empty, restarts: 1 });
  assert.deepEqual(fold({ kind: "killed", pid: 7, reason: "r" }), { ...empty, sigkills: 1 });
  assert.deepEqual(fold({ kind: "gave_up", reason: "r" }), { ...empty, gaveUp: 1 });
});

test("an event without a total returns the same tally", () => {
  for (const event of [
    { kind: "starting", delayMs: 0, reason: "r" },
    { kind: "unready", reason: "r" },
    { kind: "draining", pid: 7, boundMs: 1000, reason: "r" },
    { ...STOPPING, signal: "SIGTERM", graceMs: 1000 },
  ] as const)
    assert.equal(tallyEvent(EMPTY_TALLY, { pool: "web", slot: 0, incarnation: 1, ...event }), EMPTY_TALLY, event.kind);
});

test("a stop with SIGKILL counts as a SIGKILL", () => {
  assert.equal(fold({ ...STOPPING, signal: "SIGKILL", graceMs: 0 }).sigkills, 1);
});

test("reached limits are counted by kind", () => {
  const kinds: readonly LimitKind[] = ["lifespan", "memory", "memory_hard", "requests", "memory"];
  const { limitEvents } = fold(...kinds.map((limit) => ({ kind: "limit_reached", limit, reason: "r" }) as const));
  assert.deepEqual(limitEvents, { lifespan: 1, memory: 2, memory_hard: 1, requests: 1 });
});

test("exits are counted by planned or unplanned and by exit code or signal", () => {
  const { exits } = fold(
    { ...EXITED, planned: false, status: { kind: "code", code: 3 } },
    { ...EXITED, planned: false, status: { kind: "code", code: 3 } },
    { ...EXITED, planned: false, status: { kind: "signal", signal: "SIGSEGV" } },
    { ...EXITED, planned: true, status: { kind: "signal", signal: "SIGTERM" } },
  );
  assert.deepEqual(exits, { "unplanned/3": 2, "unplanned/SIGSEGV": 1, "planned/SIGTERM": 1 });
});

test("a duration is counted in the first bucket whose limit it does not exceed, or in the last one", () => {
  const { timeToReady, stopDuration } = fold(
    { kind: "ready", afterMs: 0, evidence: "probe" },
    { kind: "ready", afterMs: 1, evidence: "probe" },
    { kind: "ready", afterMs: 1.1, evidence: "probe" },
    { kind: "ready", afterMs: 300_000, evidence: "probe" },
    { kind: "ready", afterMs: 300_001, evidence: "probe" },
    { kind: "stopped", durationMs: 2000, next: "respawn" },
  );
  assert.equal(timeToReady.counts.length, DURATION_BUCKETS_SECONDS.length + 1);
  assert.deepEqual(timeToReady.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
  assert.ok(Math.abs(timeToReady.sumSeconds - 600.0031) < 1e-9);
  assert.deepEqual(stopDuration.counts, [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  assert.equal(stopDuration.sumSeconds, 2);
});

test("no event decreases a total", () => {
  const events: readonly Body<WorkerLifecycleEvent>[] = [
    { kind: "starting", delayMs: 0, reason: "r" },
    { kind: "spawned", pid: 7, revision: 1 },
    { kind: "ready", afterMs: 20, evidence: "probe" },
    { kind: "limit_reached", limit: "memory", reason: "r" },
    { ...STOPPING, signal: "SIGTERM", graceMs: 1000 },
    { kind: "killed", pid: 7, reason: "r" },
    { ...EXITED, planned: true, status: { kind: "code", code: 0 } },
    { kind: "stopped", durationMs: 5, next: "stay down" },
    { kind: "spawn_failed", reason: "r" },
    { kind: "backing_off", delayMs: 5, reason: "r" },
    { kind: "gave_up", reason: "r" },
  ];
  let before = EMPTY_TALLY;
  for (const event of [...events, ...events]) {
    const tally = tallyEvent(before, { pool: "web", slot: 0, incarnation: 1, ...event });
    for (const [name, value] of numbersOf(tally)) assert.ok(value >= (numbersOf(before).get(name) ?? 0), name);
    before = tally;
  }
});

function numbersOf(value: object, path = ""): Map<string, number> {
  const numbers = new Map<string, number>();
  for (const [key, each] of Object.entries(value)) {
    const name = `${path}.${key}`;
    if (typeof each === "number") numbers.set(name, each);
    else for (const [inner, number] of numbersOf(each, name)) numbers.set(inner, number);
  }
  return numbers;
}

test("a drain adds its duration and the number of requests it cut off", () => {
  const tally = fold({ kind: "drained", afterMs: 30, cut: 2 });
  assert.equal(tally.requestsCut, 2);
  assert.equal(tally.drainDuration.sumSeconds, 0.03);
});

test("promotions of standby workers are counted", () => {
  assert.equal(fold({ kind: "promoted", reason: "web-0 is missing" }).promotions, 1);
});
