import assert from "node:assert/strict";
import { test } from "node:test";
import { replacementOf } from "../../../test/support/poolSpec.ts";
import { instant } from "../../base/time.ts";
import { newWorker, type WorkerState } from "../worker/state.ts";
import { decideReplacement, decideRoom, maxSurgeOf, maxUnavailableOf } from "./rollout.ts";

const AT = instant(1000);
const replacement = replacementOf({ old: 0, oldIncarnation: 3, successor: 2, successorIncarnation: 1 });

function worker(phase: "ready" | "unready", incarnation: number): WorkerState {
  const alive = { ...newWorker(0, AT), incarnation, deadline: undefined, pid: 7, spawnedAt: AT, due: undefined };
  return phase === "ready"
    ? { ...alive, phase, isStandby: false }
    : { ...alive, phase, readiness: "failing", answeredAt: undefined, liveness: undefined };
}

function starting(incarnation: number): WorkerState {
  return {
    ...newWorker(2, AT),
    phase: "spawning",
    incarnation,
    deadline: undefined,
    settleMs: 0,
    pendingStop: undefined,
  };
}

function stopping(incarnation: number): WorkerState {
  const order = { cause: "operator", reason: "asked", next: "down" } as const;
  const alive = { pid: 7, spawnedAt: AT };
  return { ...newWorker(2, AT), ...alive, phase: "stopping", incarnation, deadline: undefined, order, reason: "asked" };
}

function backoff(incarnation: number): WorkerState {
  return { ...newWorker(2, AT), phase: "backoff", incarnation, deadline: AT, reason: "exited with code 3" };
}

test("a replacement waits until the successor is ready", () => {
  assert.deepEqual(decideReplacement(replacement, worker("ready", 3), starting(1)), { kind: "wait" });
  assert.deepEqual(decideReplacement(replacement, worker("ready", 3), worker("unready", 1)), { kind: "wait" });
  assert.deepEqual(decideReplacement(replacement, worker("ready", 3), worker("ready", 1)), { kind: "take-over" });
  assert.deepEqual(decideReplacement(replacement, worker("unready", 3), worker("ready", 1)), { kind: "take-over" });
});

test("a replacement is aborted if its successor crashed, is stopping or is down, with the successor's reason", () => {
  const verdicts = [backoff(1), stopping(1), { ...newWorker(2, AT), incarnation: 1, reason: "gave up" }].map((state) =>
    decideReplacement(replacement, worker("ready", 3), state),
  );
  assert.deepEqual(verdicts, [
    { kind: "abort", reason: "exited with code 3" },
    { kind: "abort", reason: "asked" },
    { kind: "abort", reason: "gave up" },
  ]);
  assert.equal(decideReplacement(replacement, worker("ready", 3), starting(2)).kind, "abort");
  assert.equal(decideReplacement(replacement, worker("ready", 3), worker("ready", 2)).kind, "abort");
});

test("a replacement is obsolete if its predecessor was restarted or is stopping", () => {
  assert.deepEqual(decideReplacement(replacement, worker("ready", 4), worker("ready", 1)), { kind: "obsolete" });
  assert.deepEqual(decideReplacement(replacement, stopping(3), starting(1)), { kind: "obsolete" });
  assert.deepEqual(decideReplacement(replacement, backoff(3), starting(1)), { kind: "obsolete" });
});

test("surge workers use up max_surge, and missing replicas use up max_unavailable", () => {
  const rollout = { maxSurge: 2, maxUnavailable: 1, minReadyMs: 0 };
  assert.deepEqual(decideRoom({ rollout, replicas: 9 }, 0, 0), { surge: 2, inPlace: 1 });
  assert.deepEqual(decideRoom({ rollout, replicas: 9 }, 1, 1), { surge: 1, inPlace: 0 });
  assert.deepEqual(decideRoom({ rollout, replicas: 9 }, 3, 5), { surge: 0, inPlace: 0 });
});

test("a percentage of surge is rounded up, of unavailability down, and both are never 0", () => {
  const counts = (surge: number, unavailable: number, replicas: number): readonly number[] => {
    const shares = { maxSurge: { percent: surge }, maxUnavailable: { percent: unavailable } };
    return [maxSurgeOf(shares, replicas), maxUnavailableOf(shares, replicas)];
  };
  assert.deepEqual(counts(25, 25, 5), [2, 1]);
  assert.deepEqual(counts(100, 100, 3), [3, 3]);
  assert.deepEqual(counts(0, 25, 4), [0, 1]);
  assert.deepEqual(counts(0, 25, 3), [1, 0]);
  assert.equal(maxSurgeOf({ maxSurge: 0, maxUnavailable: 2 }, 1), 0);
  assert.equal(maxSurgeOf({ maxSurge: 0, maxUnavailable: 0 }, 4), 1);
});
