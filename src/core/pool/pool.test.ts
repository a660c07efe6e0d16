import assert from "node:assert/strict";
import { test } from "node:test";
import { poolSpec, replacementOf } from "../../../test/support/poolSpec.ts";
import { after, type Instant, instant } from "../../base/time.ts";
import type { LimitKind } from "../event.ts";
import type { PoolSpec } from "../spec.ts";
import type { WorkerEvent } from "../worker/event.ts";
import { isStarting, type StopOrder } from "../worker/state.ts";
import { countReady, isHealthy } from "./health.ts";
import type { Order } from "./order.ts";
import { stepPool } from "./pool.ts";
import { isStandby } from "./roster.ts";
import { isEmpty, newPool, outcomeOf, type PoolEffect, type PoolEvent, type PoolState } from "./state.ts";

const SHUTDOWN: StopOrder = { cause: "shutdown", reason: "leaving", next: "down" };
const OPERATOR: StopOrder = { cause: "operator", reason: "asked", next: "down" };

/** One pool whose spawns succeed at once. The test controls time. */
class PoolRig {
  readonly spec: PoolSpec;
  state: PoolState;
  now: Instant = instant(1000);
  /** Effects since the last `take`. */
  effects: PoolEffect[] = [];
  /** Slots whose next spawn fails. */
  readonly refusing = new Set<number>();
  /** While true, spawns are pending until `answerSpawns`. */
  isSlow = false;
  readonly #pending: { readonly slot: number; readonly incarnation: number }[] = [];
  #nextPid = 100;
  #orders = 0;

  constructor(changes: Partial<PoolSpec> = {}) {
    this.spec = poolSpec(changes);
    this.state = newPool(this.spec, this.now);
  }

  step(event: PoolEvent): void {
    const { state, effects } = stepPool(this.state, event);
    this.state = state;
    this.effects.push(...effects);
    for (const effect of effects) if (effect.kind === "spawn") this.#pending.push(effect);
    if (!this.isSlow) this.answerSpawns();
  }

  answerSpawns(): void {
    for (let spawn = this.#pending.shift(); spawn !== undefined; spawn = this.#pending.shift())
      this.#answer(spawn.slot, spawn.incarnation);
  }

  send(slot: number, event: WorkerEvent): void {
    this.step({ kind: "worker", slot, event, random: 0.5 });
  }

  #answer(slot: number, incarnation: number): void {
    const mine = { at: this.now, incarnation, random: 0.5 };
    if (this.refusing.delete(slot)) this.send(slot, { kind: "spawnFailed", ...mine, reason: "EAGAIN" });
    else this.send(slot, { kind: "spawned", ...mine, pid: this.#nextPid++ });
  }

  boot(): void {
    this.step({ kind: "boot", at: this.now, random: 0.5 });
  }

  exit(slot: number): void {
    const incarnation = this.worker(slot).incarnation;
    const status = { kind: "code", code: 3 } as const;
    this.send(slot, { kind: "exited", at: this.now, incarnation, status, survivors: false, random: 0.5 });
  }

  stop(slot: number): void {
    this.send(slot, { kind: "stop", at: this.now, order: OPERATOR });
  }

  start(slot: number): void {
    this.order({ kind: "start", slots: [slot] });
  }

  becomeUnready(slot: number): void {
    const { incarnation } = this.worker(slot);
    this.send(slot, { kind: "becameUnready", at: this.now, incarnation, reason: "the probe says no" });
  }

  hang(slot: number): void {
    const { incarnation } = this.worker(slot);
    this.send(slot, { kind: "livenessFailed", at: this.now, incarnation, reason: "no answer" });
  }

  becomeReady(slot: number): void {
    const { incarnation } = this.worker(slot);
    this.send(slot, { kind: "becameReady", at: this.now, incarnation });
  }

  drained(slot: number): void {
    this.send(slot, { kind: "drained", at: this.now, incarnation: this.worker(slot).incarnation });
  }

  /** Gives an order. The id of its operation is the number of orders so far. */
  order(order: Order): void {
    const id = `op-${++this.#orders}`;
    this.step({ kind: "order", at: this.now, id, order, reason: "asked", random: 0.5 });
  }

  limit(slot: number, limit: LimitKind = "memory"): void {
    const incarnation = this.worker(slot).incarnation;
    this.send(slot, { kind: "limitReached", at: this.now, incarnation, limit, reason: "too big" });
  }

  /** Lets time pass. Deadlines fire in chronological order. */
  pass(ms: number): void {
    const until = after(this.now, ms);
    for (;;) {
      const due = this.state.workers
        .filter(({ deadline }) => deadline !== undefined && deadline <= until)
        .sort((a, b) => (a.deadline ?? 0) - (b.deadline ?? 0))[0];
      const { deadline } = this.state;
      if (deadline !== undefined && deadline <= Math.min(until, due?.deadline ?? until)) {
        this.now = deadline;
        this.step({ kind: "deadline", at: this.now, random: 0.5 });
        continue;
      }
      if (due?.deadline === undefined) break;
      this.now = due.deadline;
      this.send(due.slot, { kind: "deadline", at: this.now, random: 0.5 });
    }
    this.now = until;
  }

  worker(slot: number): PoolState["workers"][number] {
    const worker = this.state.workers[slot];
    assert.ok(worker !== undefined);
    return worker;
  }

  get phases(): string[] {
    return this.state.workers.map((worker) => {
      if (isStarting(worker)) return "starting";
      return worker.phase === "down" ? worker.kind : worker.phase;
    });
  }

  /** Effects since the last call: kinds of events, and "!" before every other effect, with their slot. */
  take(): string[] {
    const kinds = this.effects.map((effect) => {
      if (effect.kind === "tell") return `${effect.event.kind} ${effect.event.slot}`;
      return effect.kind === "tellWide" ? effect.event.kind : `!${effect.kind} ${effect.slot}`;
    });
    this.effects = [];
    return kinds;
  }

  /** Kinds and reasons of the pool's own events since the last `take`, without those of operations. */
  get poolEvents(): string[] {
    return this.effects.flatMap((effect) =>
      effect.kind === "tellWide" && "pool" in effect.event && !("operation" in effect.event)
        ? [`${effect.event.kind}: ${effect.event.reason}`]
        : [],
    );
  }
}

function booted(changes: Partial<PoolSpec> = {}): PoolRig {
  const rig = new PoolRig(changes);
  rig.boot();
  rig.take();
  return rig;
}

const GIVE_UP_AT_ONCE: Partial<PoolSpec> = {
  restart: { ...poolSpec().restart, maxRestarts: 0, onExhausted: "give-up-worker" },
};
const LIFESPAN: Partial<PoolSpec> = { limits: { ...poolSpec().limits, lifespanMs: 60_000 } };
const IN_PLACE: Partial<PoolSpec> = { rollout: { maxSurge: 0, maxUnavailable: 1, minReadyMs: 0 } };

test("a new pool has an empty slot for each replica and each surge worker", () => {
  const { state } = new PoolRig({ replicas: 3, rollout: { maxSurge: 2, maxUnavailable: 0, minReadyMs: 0 } });
  assert.deepEqual(
    state.workers.map(({ slot, phase }) => [slot, phase]),
    [0, 1, 2, 3, 4].map((slot) => [slot, "down"]),
  );
  assert.equal(isEmpty(state), true);
});

test("the boot starts all replicas and leaves the surge slot free", () => {
  const rig = new PoolRig();
  rig.boot();
  assert.deepEqual(rig.phases, ["ready", "ready", "free"]);
  assert.equal(countReady(rig.state), 2);
  assert.equal(isEmpty(rig.state), false);
  assert.equal(rig.state.tally.spawns, 2);
});

test("the boot starts the first worker at once and the others startup_wait_time apart", () => {
  const rig = new PoolRig({ replicas: 3, startupWaitMs: 500 });
  rig.boot();
  assert.deepEqual(rig.phases, ["ready", "starting", "starting", "free"]);
  assert.deepEqual(
    rig.state.workers.map(({ deadline }) => deadline),
    [undefined, 1500, 2000, undefined],
  );
  assert.equal(rig.worker(2).reason, "waits 1s for its turn");
  rig.pass(499);
  assert.equal(countReady(rig.state), 1);
  rig.pass(1);
  assert.equal(countReady(rig.state), 2);
  rig.pass(500);
  assert.equal(countReady(rig.state), 3);
});

test("a crashed worker is restarted at once, and no other worker is affected", () => {
  const rig = booted();
  rig.exit(1);
  assert.deepEqual(rig.take(), [
    "exited 1",
    "backing_off 1",
    "!spawn 1",
    "pool_degraded",
    "spawned 1",
    "ready 1",
    "pool_recovered",
  ]);
  assert.equal(rig.worker(1).incarnation, 2);
  assert.equal(rig.worker(0).incarnation, 1);
  assert.equal(rig.state.tally.restarts, 1);
});

test("a worker that reached a limit is stopped after its successor is ready", () => {
  const rig = booted();
  rig.limit(0);
  assert.deepEqual(rig.poolEvents, [
    "rollout_started: web-0 is due (memory limit: too big), web-2 starts",
    "rollout_finished: web-2 took over from web-0",
  ]);
  const effects = rig.take();
  assert.deepEqual(effects, [
    "limit_reached 0",
    "rollout_started",
    "starting 2",
    "!spawn 2",
    "spawned 2",
    "ready 2",
    "stopping 0",
    "!signal 0",
    "rollout_finished",
  ]);
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready"]);
  rig.exit(0);
  assert.deepEqual(rig.take(), ["exited 0", "stopped 0"]);
  assert.deepEqual(rig.phases, ["free", "ready", "ready"]);
  assert.deepEqual(rig.state.tally.rollouts, { finished: 1, aborted: 0 });
  assert.equal(rig.state.tally.restarts, 0);
});

test("the reason for the stop of a replaced worker names the limit and the successor", () => {
  const rig = booted();
  rig.limit(0, "requests");
  const { order } = rig.worker(0) as { order?: StopOrder };
  assert.deepEqual(order, {
    cause: "requests",
    reason: "requests limit: too big, replaced by web-2",
    next: "down",
  });
});

test("workers that are due together are replaced one after another within max_surge, the longest due first", () => {
  const rig = booted({ replicas: 3 });
  rig.limit(1);
  rig.now = after(rig.now, 5);
  rig.limit(2);
  rig.now = after(rig.now, 5);
  rig.limit(0);
  assert.deepEqual(rig.phases, ["ready", "stopping", "ready", "ready"]);
  rig.exit(1);
  assert.deepEqual(rig.phases, ["ready", "ready", "stopping", "ready"]);
  rig.exit(2);
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready", "ready"]);
  rig.exit(0);
  assert.deepEqual(rig.phases, ["free", "ready", "ready", "ready"]);
  assert.equal(rig.state.tally.rollouts.finished, 3);
});

test("workers are replaced each time they reach their lifespan", () => {
  const rig = booted(LIFESPAN);
  for (let round = 1; round <= 3; round++) {
    rig.pass(60_000);
    for (const worker of rig.state.workers) if (worker.phase === "stopping") rig.exit(worker.slot);
    for (const worker of rig.state.workers) if (worker.phase === "stopping") rig.exit(worker.slot);
    assert.equal(countReady(rig.state), 2);
    assert.equal(rig.state.tally.rollouts.finished, 2 * round);
  }
  assert.equal(rig.state.tally.limitEvents.lifespan, 6);
  assert.equal(rig.state.tally.restarts, 0);
});

test("if the successor fails to start the replacement is aborted and the old worker stays for another lifespan", () => {
  const rig = booted(LIFESPAN);
  rig.refusing.add(2);
  rig.pass(60_000);
  assert.deepEqual(rig.worker(0).phase, "ready");
  assert.match(rig.poolEvents.join("\n"), /rollout_aborted: web-0 stays: successor web-2 EAGAIN; first crash/u);
  assert.ok((rig.state.tally.rollouts.aborted ?? 0) >= 1);
  assert.equal(rig.state.tally.restarts, 0, "a successor that fails is not restarted");
  const worker = rig.worker(0);
  assert.equal(worker.phase === "ready" && worker.due, undefined);
  assert.equal(worker.deadline, after(rig.now, 60_000));
});

test("after an aborted replacement a worker without lifespan is replaced when it reaches its limit again", () => {
  const rig = booted();
  rig.refusing.add(2);
  rig.limit(0);
  assert.ok(rig.take().includes("rollout_aborted"));
  assert.equal(rig.worker(0).deadline, undefined);
  if (rig.worker(2).phase === "stopping") rig.exit(2);
  assert.deepEqual(rig.phases, ["ready", "ready", "free"]);
  rig.limit(0);
  assert.ok(rig.take().includes("rollout_finished"));
});

test("a successor that exceeds its restart limit frees its slot, and the next replacement succeeds", () => {
  const rig = booted({ ...GIVE_UP_AT_ONCE, replicas: 1 });
  rig.refusing.add(1);
  rig.limit(0);
  assert.deepEqual(rig.phases, ["ready", "free"]);
  assert.equal(outcomeOf(rig.state), undefined);
  rig.limit(0);
  assert.deepEqual(rig.phases, ["stopping", "ready"]);
});

test("a worker keeps serving until its successor is ready", () => {
  const rig = booted({ replicas: 3 });
  rig.isSlow = true;
  rig.limit(0);
  assert.deepEqual(rig.phases, ["ready", "ready", "ready", "starting"]);
  rig.limit(1);
  assert.deepEqual(rig.phases, ["ready", "ready", "ready", "starting"]);
  assert.equal(rig.state.replacements.length, 1);
  rig.answerSpawns();
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready", "ready"]);
});

test("if a due worker crashes before its successor is ready, the successor takes its place", () => {
  const rig = booted();
  rig.isSlow = true;
  rig.limit(0);
  rig.exit(0);
  assert.deepEqual(rig.state.replacements, []);
  rig.isSlow = false;
  rig.answerSpawns();
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready"]);
  rig.exit(0);
  assert.deepEqual(rig.phases, ["free", "ready", "ready"]);
  // The successor also takes the place of a worker that waits for its restart.
  rig.isSlow = true;
  rig.limit(2);
  rig.refusing.add(2);
  rig.exit(2);
  rig.isSlow = false;
  rig.answerSpawns();
  assert.deepEqual(rig.phases, ["ready", "ready", "free"]);
});

test("an operator's stop of a due worker also stops its successor", () => {
  const rig = booted();
  rig.isSlow = true;
  rig.limit(0);
  rig.stop(0);
  rig.exit(0);
  rig.answerSpawns();
  assert.deepEqual(rig.phases, ["held", "ready", "stopping"]);
});

test("a replacement whose predecessor has already exited ends, and the successor stays", () => {
  const spec = poolSpec();
  const rig = booted();
  const state: PoolState = {
    ...rig.state,
    workers: [...newPool(spec, rig.now).workers.slice(0, 1), rig.worker(1), { ...rig.worker(0), slot: 2 }],
    replacements: [replacementOf({ old: 0, oldIncarnation: 1, successor: 2, successorIncarnation: 1 })],
  };
  const { state: next, effects } = stepPool(state, { kind: "boot", at: rig.now, random: 0.5 });
  assert.deepEqual(next.replacements, []);
  assert.deepEqual(
    next.workers.map(({ phase }) => phase),
    ["down", "ready", "ready"],
  );
  assert.deepEqual(effects, []);
});

test("an aborted replacement of a worker that no longer runs sets no deadline", () => {
  const rig = booted();
  const state: PoolState = {
    ...rig.state,
    replacements: [replacementOf({ old: 2, oldIncarnation: 9, successor: 0, successorIncarnation: 0 })],
  };
  const { state: next, effects } = stepPool(state, { kind: "boot", at: rig.now, random: 0.5 });
  assert.equal(next.workers[2]?.deadline, undefined);
  assert.ok(effects.some((effect) => effect.kind === "tellWide" && effect.event.kind === "rollout_aborted"));
});

test("a replaced worker that is not due for a limit is stopped with the cause of the replacement", () => {
  const rig = booted({ replicas: 1 });
  const state: PoolState = {
    ...rig.state,
    workers: [rig.worker(0), { ...rig.worker(0), slot: 1 }],
    replacements: [
      replacementOf({
        old: 0,
        oldIncarnation: 1,
        successor: 1,
        successorIncarnation: 1,
        cause: "rollout",
        reason: "asked",
      }),
    ],
  };
  const { state: next } = stepPool(state, { kind: "boot", at: rig.now, random: 0.5 });
  const [old] = next.workers;
  assert.equal(old?.phase === "stopping" && old.order.cause, "rollout");
});

test("with max_surge 0 workers are replaced in place, one at a time", () => {
  const rig = booted(IN_PLACE);
  assert.equal(rig.state.workers.length, 2);
  rig.limit(0);
  rig.limit(1);
  assert.deepEqual(rig.phases, ["stopping", "ready"]);
  rig.exit(0);
  assert.deepEqual(rig.phases, ["ready", "stopping"]);
  rig.exit(1);
  assert.deepEqual(rig.phases, ["ready", "ready"]);
  assert.equal(rig.state.tally.restarts, 0);
});

test("a planned replacement in place waits while a crashed worker is missing", () => {
  const rig = booted(IN_PLACE);
  rig.exit(1);
  rig.exit(1);
  assert.equal(rig.worker(1).phase, "backoff");
  rig.limit(0);
  assert.equal(rig.worker(0).phase, "ready");
  rig.pass(100);
  assert.deepEqual(rig.phases, ["stopping", "ready"]);
});

test("a worker stopped by an operator is not replaced and stays down until a start", () => {
  const rig = booted();
  rig.stop(0);
  assert.equal(rig.worker(0).phase, "stopping");
  rig.exit(0);
  assert.deepEqual(rig.phases, ["held", "ready", "free"]);
  rig.pass(100_000);
  assert.deepEqual(rig.phases, ["held", "ready", "free"]);
  rig.start(0);
  assert.deepEqual(rig.phases, ["ready", "ready", "free"]);
  assert.equal(rig.state.tally.restarts, 0);
});

test("a start of a running worker, a free slot or a nonexistent slot changes nothing", () => {
  const rig = booted();
  const before = rig.state;
  for (const slot of [0, 2, 99]) rig.start(slot);
  assert.deepEqual(rig.state, before);
  assert.ok(rig.effects.every((effect) => effect.kind === "tellWide"));
});

test("an operator can start a worker that reached its restart limit", () => {
  const rig = booted(GIVE_UP_AT_ONCE);
  rig.exit(0);
  assert.deepEqual(rig.phases, ["gave-up", "ready", "free"]);
  rig.start(0);
  assert.deepEqual(rig.phases, ["ready", "ready", "free"]);
});

test("a worker that reached its restart limit is not replaced, and the pool has failed when all have reached it", () => {
  const rig = booted(GIVE_UP_AT_ONCE);
  rig.exit(0);
  assert.equal(outcomeOf(rig.state), undefined);
  rig.exit(1);
  assert.deepEqual(rig.phases, ["gave-up", "gave-up", "free"]);
  assert.equal(outcomeOf(rig.state), "failed");
  assert.equal(rig.state.tally.gaveUp, 2);
});

test("while a pool scales up, its health is measured by the old number of replicas", () => {
  const rig = booted({
    replicas: 2,
    desiredHealthyPercentage: 75,
    readiness: { kind: "probed", timeoutMs: undefined },
  });
  const scale = (replicas: number) => rig.order({ kind: "scale", replicas });
  assert.equal(isHealthy(rig.state), false);
  for (const slot of [0, 1]) rig.becomeReady(slot);
  scale(8);
  assert.equal(isHealthy(rig.state), true, "both old replicas are ready");
  rig.exit(1);
  assert.equal(isHealthy(rig.state), false, "one of two is below 75 %");
  rig.pass(100);
  for (const slot of [1, 2, 3, 4, 5]) rig.becomeReady(slot);
  assert.equal(rig.state.measuredReplicas, 8, "six of eight are 75 %");
  rig.exit(5);
  assert.deepEqual(
    [...rig.poolEvents],
    [
      "pool_degraded: 1 of 2 replicas ready, 75 % required",
      "pool_recovered: 2 of 2 replicas ready, 75 % required",
      "pool_degraded: 5 of 8 replicas ready, 75 % required",
    ],
  );
  scale(4);
  assert.equal(isHealthy(rig.state), true);
  assert.equal(rig.state.measuredReplicas, 4, "scaling down takes effect at once");
});

test("health depends on desired_healthy_percentage, and each change after the boot is emitted", () => {
  const rig = new PoolRig({ replicas: 4, desiredHealthyPercentage: 75 });
  assert.equal(isHealthy(rig.state), false);
  rig.boot();
  assert.deepEqual(rig.poolEvents, []);
  assert.equal(isHealthy(rig.state), true);
  rig.stop(0);
  assert.equal(isHealthy(rig.state), true);
  assert.deepEqual(rig.poolEvents, []);
  rig.stop(1);
  assert.equal(isHealthy(rig.state), false);
  assert.deepEqual(rig.poolEvents, ["pool_degraded: 2 of 4 replicas ready, 75 % required"]);
  rig.stop(2);
  assert.equal(rig.poolEvents.length, 1);
  rig.exit(0);
  rig.exit(1);
  rig.start(0);
  assert.equal(rig.poolEvents.length, 1);
  rig.start(1);
  assert.deepEqual(rig.poolEvents.slice(1), ["pool_recovered: 3 of 4 replicas ready, 75 % required"]);
});

test("scaling down first frees the slot of a stopped worker, and its reason says that it is unused", () => {
  const rig = booted({ replicas: 3 });
  rig.stop(1);
  rig.exit(1);
  assert.equal(rig.phases[1], "held");
  rig.order({ kind: "scale", replicas: 2 });
  assert.equal(rig.phases[1], "free");
  assert.equal(rig.worker(1).reason, "the pool has 2 replicas and does not use this slot");
});

test("a leaving pool stops all workers, ends replacements and starts no worker", () => {
  const rig = booted({ replicas: 3, startupWaitMs: 500 });
  rig.limit(0);
  rig.take();
  rig.step({ kind: "leave", at: rig.now, order: SHUTDOWN });
  assert.deepEqual(rig.state.replacements, []);
  assert.ok(rig.phases.every((phase) => phase === "free" || phase === "stopping"));
  for (const { slot, phase } of rig.state.workers) if (phase === "stopping") rig.exit(slot);
  rig.pass(100_000);
  assert.equal(isEmpty(rig.state), true);
  assert.deepEqual(
    rig.take().filter((kind) => kind.startsWith("pool_")),
    [],
  );
});

test("a kill kills all workers and starts none again", () => {
  const rig = booted();
  rig.step({ kind: "kill", at: rig.now, reason: "at once" });
  assert.deepEqual(rig.take(), ["killed 0", "!kill 0", "killed 1", "!kill 1"]);
  rig.exit(0);
  rig.exit(1);
  assert.deepEqual(rig.phases, ["free", "free", "free"]);
  assert.equal(rig.state.tally.sigkills, 2);
});

test("a stopping predecessor counts as surge until it has exited", () => {
  const rig = booted({ replicas: 1, rollout: { maxSurge: 1, maxUnavailable: 0, minReadyMs: 0 } });
  rig.limit(0);
  assert.deepEqual(rig.phases, ["stopping", "ready"]);
  rig.limit(1);
  assert.deepEqual(rig.phases, ["stopping", "ready"]);
  rig.exit(0);
  assert.deepEqual(rig.phases, ["ready", "stopping"]);
});

test("an event for a nonexistent slot throws an error", () => {
  assert.throws(() => booted().stop(99), /there is no slot 99/u);
});

test("a pool with fewer slots than replicas starts only as many workers as it has slots", () => {
  const rig = new PoolRig({ replicas: 2, rollout: { maxSurge: 0, maxUnavailable: 1, minReadyMs: 0 } });
  const state: PoolState = { ...rig.state, workers: rig.state.workers.slice(0, 1) };
  const { state: next } = stepPool(state, { kind: "boot", at: rig.now, random: 0.5 });
  assert.deepEqual(
    next.workers.map(({ phase }) => phase),
    ["spawning"],
  );
});

/** Kinds of the operation events since the last `take`. */
function operations(rig: PoolRig): string[] {
  return rig.take().filter((kind) => kind.startsWith("operation_"));
}

const PROBED: Partial<PoolSpec> = { readiness: { kind: "probed", timeoutMs: 3000 }, drainMs: 5000 };

test("a restart replaces the workers one after another and finishes when the last predecessor has exited", () => {
  const rig = booted();
  rig.order({ kind: "restart", slots: undefined });
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready"]);
  rig.exit(0);
  assert.deepEqual(rig.phases, ["ready", "stopping", "ready"]);
  rig.exit(1);
  assert.deepEqual(operations(rig), [
    "operation_started",
    "operation_progressed",
    "operation_progressed",
    "operation_finished",
  ]);
  assert.deepEqual(
    rig.state.workers.map(({ incarnation }) => incarnation),
    [2, 1, 1],
  );
});

test("a restart in place continues when the restarted worker is ready", () => {
  const rig = booted({ ...PROBED, ...IN_PLACE, drainMs: undefined });
  for (const slot of [0, 1]) rig.becomeReady(slot);
  rig.take();
  rig.order({ kind: "restart", slots: undefined });
  rig.exit(0);
  assert.deepEqual(rig.phases, ["starting", "ready"]);
  rig.becomeReady(0);
  assert.deepEqual(rig.phases, ["ready", "stopping"]);
  rig.exit(1);
  rig.becomeReady(1);
  assert.equal(operations(rig).at(-1), "operation_finished");
});

test("a restart fails if a successor does not become ready, and the old workers stay and are no longer due", () => {
  const rig = booted({ ...PROBED, limits: { ...poolSpec().limits, lifespanMs: 60_000 } });
  for (const slot of [0, 1]) rig.becomeReady(slot);
  rig.take();
  rig.order({ kind: "restart", slots: undefined });
  assert.deepEqual(rig.phases, ["ready", "ready", "starting"]);
  rig.pass(3000);
  assert.deepEqual(rig.phases, ["ready", "ready", "stopping"]);
  const failed = rig.effects.find((effect) => effect.kind === "tellWide" && effect.event.kind === "operation_failed");
  assert.match(failed?.kind === "tellWide" && "reason" in failed.event ? failed.event.reason : "", /not ready 3s/u);
  for (const slot of [0, 1]) {
    const worker = rig.worker(slot);
    assert.ok(worker.phase === "ready");
    assert.deepEqual([worker.due, worker.deadline], [undefined, worker.spawnedAt + 60_000]);
  }
  assert.deepEqual(rig.state.running, []);
});

test("a restart fails if a worker that it started crashes", () => {
  const rig = booted({ replicas: 3 });
  rig.order({ kind: "restart", slots: undefined });
  rig.exit(3);
  assert.deepEqual(operations(rig), ["operation_started", "operation_failed"]);
  assert.deepEqual(rig.state.running, []);
});

test("the crash of an old worker does not fail a restart, because its restart replaces it", () => {
  const rig = booted(PROBED);
  for (const slot of [0, 1]) rig.becomeReady(slot);
  rig.now = after(rig.now, 10);
  rig.order({ kind: "restart", slots: undefined });
  rig.exit(1);
  rig.becomeReady(1);
  rig.becomeReady(2);
  rig.drained(0);
  rig.exit(0);
  assert.equal(operations(rig).at(-1), "operation_finished");
});

test("a restart of one worker does not affect the others", () => {
  const rig = booted();
  rig.order({ kind: "restart", slots: [1] });
  rig.exit(1);
  assert.deepEqual(rig.phases, ["ready", "free", "ready"]);
  assert.equal(operations(rig).at(-1), "operation_finished");
});

test("scaling up starts the missing workers and finishes when all are ready", () => {
  const rig = booted({ ...PROBED, replicas: 1 });
  rig.becomeReady(0);
  rig.order({ kind: "scale", replicas: 4 });
  assert.deepEqual(rig.phases, ["ready", "starting", "starting", "starting", "free"]);
  for (const slot of [1, 2, 3]) rig.becomeReady(slot);
  assert.deepEqual(operations(rig), ["operation_started", "operation_finished"]);
});

test("scaling down drains unready workers first, then those in the highest slots", () => {
  const rig = booted({ replicas: 4, drainMs: 5000 });
  rig.send(1, { kind: "becameUnready", at: rig.now, incarnation: 1, reason: "probe" });
  rig.order({ kind: "scale", replicas: 2 });
  assert.deepEqual(rig.phases, ["ready", "draining", "ready", "draining", "free"]);
  for (const slot of [1, 3]) {
    rig.drained(slot);
    rig.exit(slot);
  }
  assert.deepEqual(rig.phases, ["ready", "free", "ready", "free", "free"]);
  assert.equal(operations(rig).at(-1), "operation_finished");
});

test("scaling down frees the slots of stopped workers before it stops ready ones", () => {
  const rig = booted({ replicas: 3 });
  rig.order({ kind: "stop", slots: [0, 1] });
  rig.exit(0);
  rig.order({ kind: "scale", replicas: 1 });
  rig.exit(1);
  assert.deepEqual(rig.phases, ["free", "free", "ready", "free"]);
});

test("a reload replaces workers of older revisions and restores the old revision if it fails", () => {
  const rig = booted();
  rig.order({ kind: "reload", spec: { ...rig.spec, revision: 2 } });
  rig.exit(0);
  rig.exit(1);
  assert.deepEqual(
    rig.state.workers.filter(({ phase }) => phase === "ready").map(({ revision }) => revision),
    [2, 2],
  );
  rig.take();
  rig.order({ kind: "reload", spec: { ...rig.state.spec, revision: 3 } });
  rig.exit(1);
  assert.equal(operations(rig).at(-1), "operation_failed");
  assert.equal(rig.state.spec.revision, 2);
});

test("a reload stops workers that still boot with the old revision without waiting for them", () => {
  const rig = booted({ readiness: { kind: "probed", timeoutMs: 60_000 } });
  rig.becomeReady(0);
  rig.take();
  rig.order({ kind: "reload", spec: { ...rig.spec, revision: 2 } });
  assert.deepEqual(
    rig.phases.slice(0, 3),
    ["ready", "stopping", "starting"],
    "worker 0 gets a successor, worker 1 is restarted",
  );
  rig.exit(1);
  assert.equal(rig.worker(1).revision, 2);
  rig.becomeReady(1);
  rig.becomeReady(2);
  rig.exit(0);
  assert.equal(operations(rig).at(-1), "operation_finished");
  assert.equal(rig.state.tally.restarts, 0, "no restart counts as a crash");
});

function probed(): PoolRig {
  const rig = booted({ readiness: { kind: "probed", timeoutMs: 60_000 } });
  for (const { slot } of rig.state.workers.filter(isStarting)) rig.becomeReady(slot);
  rig.take();
  return rig;
}

test("a reload fails if a new worker hangs after it was ready, and all workers return to the old revision", () => {
  const rig = probed();
  rig.order({ kind: "reload", spec: { ...rig.spec, revision: 2 } });
  rig.becomeReady(2);
  rig.exit(0);
  assert.deepEqual(rig.phases, ["starting", "ready", "ready"], "the next worker is being replaced");
  rig.hang(2);
  assert.equal(operations(rig).at(-1), "operation_failed");
  for (let turn = 0; turn < 20; turn++) {
    for (const worker of rig.state.workers) {
      if (isStarting(worker)) rig.becomeReady(worker.slot);
      if (worker.phase === "stopping") rig.exit(worker.slot);
    }
  }
  const serving = rig.state.workers.filter(({ phase }) => phase === "ready");
  assert.deepEqual(
    serving.map(({ revision }) => revision),
    [1, 1],
  );
});

test("an operation does not wait for old workers that have become unready", () => {
  const rig = probed();
  for (const slot of [0, 1]) rig.becomeUnready(slot);
  rig.order({ kind: "scale", replicas: 3 });
  assert.deepEqual(operations(rig), ["operation_started"]);
  rig.becomeReady(2);
  assert.equal(operations(rig).at(-1), "operation_finished");
});

test("a reload waits for a running operation while the pool is healthy, and makes it fail when the pool is not", () => {
  const rig = probed();
  rig.order({ kind: "scale", replicas: 3 });
  rig.order({ kind: "reload", spec: { ...rig.state.spec, revision: 2 } });
  assert.deepEqual(operations(rig), ["operation_started", "operation_queued"], "two of two are ready");
  rig.becomeUnready(0);
  assert.deepEqual(operations(rig), ["operation_failed", "operation_started"]);
  assert.equal(rig.state.spec.revision, 2);
  assert.equal(rig.state.spec.replicas, 3, "the new number of replicas is kept");
});

test("a reload of an unhealthy pool takes over the slot of a failed restart's successor and does not fail with it", () => {
  const rig = probed();
  rig.order({ kind: "restart", slots: undefined });
  assert.deepEqual(rig.phases, ["ready", "ready", "starting"]);
  rig.becomeUnready(0);
  rig.becomeUnready(1);
  rig.order({ kind: "reload", spec: { ...rig.state.spec, revision: 2 } });
  rig.exit(2);
  assert.deepEqual(
    operations(rig).filter((kind) => kind === "operation_failed"),
    ["operation_failed"],
    "only the restart fails",
  );
  assert.equal(rig.state.running[0]?.order.kind, "reload");
  assert.equal(rig.worker(2).revision, 2);
});

test("with max_surge 0 a reload replaces unready workers first and does not wait for stopped ones", () => {
  const rig = booted({ ...IN_PLACE, replicas: 4, readiness: { kind: "probed", timeoutMs: 60_000 } });
  for (const slot of [0, 1, 2, 3]) rig.becomeReady(slot);
  rig.order({ kind: "stop", slots: [3] });
  rig.exit(3);
  rig.becomeUnready(2);
  rig.order({ kind: "reload", spec: { ...rig.state.spec, revision: 2 } });
  assert.deepEqual(rig.phases, ["ready", "ready", "stopping", "held"]);
  for (const slot of [2, 0, 1]) {
    rig.exit(slot);
    rig.becomeReady(slot);
  }
  assert.equal(operations(rig).at(-1), "operation_finished");
});

test("a queued order keeps the values that are current when it starts, not when it was given", () => {
  const rig = booted();
  rig.order({ kind: "restart", slots: undefined });
  const { spec } = rig.state;
  rig.order({ kind: "scale", replicas: 3 });
  rig.order({ kind: "reload", spec: { ...spec, revision: 2 }, keeps: ["replicas"] });
  rig.order({ kind: "reload", spec: { ...spec, signalTimeoutMs: 1 }, keeps: ["revision", "replicas"] });
  for (let turn = 0; turn < 20; turn++)
    for (const { slot, phase } of rig.state.workers) if (phase === "stopping") rig.exit(slot);
  assert.deepEqual([rig.state.running, rig.state.queue], [[], []]);
  const { revision, replicas, signalTimeoutMs } = rig.state.spec;
  assert.deepEqual([revision, replicas, signalTimeoutMs], [2, 3, 1]);
});

test("while a pool scales up, the limit for mass liveness failures counts only the old workers", () => {
  const rig = booted({ replicas: 4, readiness: { kind: "probed", timeoutMs: 60_000 }, desiredHealthyPercentage: 75 });
  for (const slot of [0, 1, 2, 3]) rig.becomeReady(slot);
  rig.order({ kind: "scale", replicas: 16 });
  for (const slot of [0, 1, 2, 3]) rig.hang(slot);
  assert.deepEqual(
    [0, 1, 2, 3].filter((slot) => rig.worker(slot).phase === "stopping"),
    [],
    "no worker is stopped before a successor is ready",
  );
});

test("an operator's stop of a predecessor stops its booting successor, but its failure does not", () => {
  const rig = booted({ readiness: { kind: "probed", timeoutMs: 60_000 }, ...GIVE_UP_AT_ONCE });
  for (const slot of [0, 1]) rig.becomeReady(slot);
  rig.limit(0);
  rig.stop(0);
  assert.deepEqual(rig.phases, ["stopping", "ready", "stopping"]);
  for (const slot of [0, 2]) rig.exit(slot);
  assert.deepEqual(rig.phases, ["held", "ready", "free"]);
  rig.limit(1);
  rig.exit(1);
  assert.deepEqual(rig.phases, ["held", "free", "starting"]);
});

test("a changed lifespan applies to running workers at once and counts from their start", () => {
  const rig = booted({ limits: { ...poolSpec().limits, lifespanMs: 3_600_000, jitterRatio: 0.1 } });
  const startedAt = rig.now;
  rig.pass(10_000);
  const reload = (limits: Partial<PoolSpec["limits"]>) =>
    rig.order({ kind: "reload", spec: { ...rig.state.spec, limits: { ...rig.state.spec.limits, ...limits } } });
  const deadlines = () => [0, 1].map((slot) => rig.worker(slot).deadline);
  reload({ lifespanMs: 100_000 });
  const [first = 0, second = 0] = deadlines();
  for (const deadline of [first, second]) assert.ok(deadline >= startedAt + 90_000 && deadline <= startedAt + 110_000);
  assert.notEqual(first, second);
  reload({ memoryBytes: 5 });
  assert.deepEqual(deadlines(), [first, second], "another limit does not change them");
  reload({ lifespanMs: undefined });
  assert.deepEqual(deadlines(), [undefined, undefined]);
  reload({ lifespanMs: 5000 });
  rig.take();
  rig.pass(1);
  assert.ok(rig.take().includes("limit_reached 0"), "the new lifespan has already passed");
});

test("a reload that needs no new process finishes at once", () => {
  const rig = booted();
  rig.order({ kind: "reload", spec: { ...rig.spec, signalTimeoutMs: 1 } });
  assert.deepEqual(rig.take(), ["operation_started", "operation_finished"]);
  assert.equal(rig.state.spec.signalTimeoutMs, 1);
});

test("operations of a pool run one after another, and a shutdown fails them all", () => {
  const rig = booted();
  rig.order({ kind: "restart", slots: undefined });
  rig.order({ kind: "scale", replicas: 5 });
  assert.deepEqual(operations(rig), ["operation_started", "operation_queued"]);
  rig.step({ kind: "leave", at: rig.now, order: SHUTDOWN });
  assert.deepEqual(operations(rig), ["operation_failed", "operation_failed"]);
  rig.order({ kind: "restart", slots: undefined });
  assert.deepEqual(operations(rig), ["operation_queued", "operation_failed"]);
});

test("a stop and a start of a worker do not wait for other operations of the pool", () => {
  const rig = booted({ replicas: 3 });
  rig.order({ kind: "restart", slots: undefined });
  rig.order({ kind: "stop", slots: [2] });
  assert.deepEqual(rig.phases, ["stopping", "ready", "stopping", "ready"]);
  rig.exit(2);
  rig.order({ kind: "start", slots: [2] });
  assert.deepEqual(operations(rig), [
    "operation_started",
    "operation_started",
    "operation_progressed",
    "operation_progressed",
    "operation_finished",
    "operation_started",
    "operation_progressed",
    "operation_finished",
  ]);
});

/** Two probed workers. An operator has stopped the first one and is starting it again. */
function startedByOperator(): PoolRig {
  const rig = booted({ ...PROBED, replicas: 2 });
  for (const slot of [0, 1]) rig.becomeReady(slot);
  rig.order({ kind: "stop", slots: [0] });
  rig.drained(0);
  rig.exit(0);
  rig.take();
  rig.order({ kind: "start", slots: [0] });
  return rig;
}

test("a start fails if its worker crashes, not if another worker crashes", () => {
  const rig = startedByOperator();
  rig.exit(1);
  assert.deepEqual(operations(rig), ["operation_started"]);
  rig.exit(0);
  assert.deepEqual(operations(rig), ["operation_failed"]);
});

test("a start fails if its worker is stopped before it is ready", () => {
  const rig = startedByOperator();
  rig.order({ kind: "stop", slots: [0] });
  assert.deepEqual(operations(rig), ["operation_started", "operation_started"]);
  rig.exit(0);
  assert.deepEqual(operations(rig), ["operation_failed", "operation_progressed", "operation_finished"]);
});

test("a hung worker is stopped without a drain after its successor is ready", () => {
  const rig = booted({ drainMs: 5000 });
  rig.send(0, { kind: "livenessFailed", at: rig.now, incarnation: 1, reason: "hangs" });
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready"]);
});

/** A pool of ready, probed workers. The last `standby` of them are standby workers. */
function withStandby(changes: Partial<PoolSpec>): PoolRig {
  const rig = booted({ ...PROBED, drainMs: undefined, standby: 1, ...changes });
  for (let slot = 0; slot < rig.spec.replicas + rig.spec.standby; slot++) {
    rig.pass(1);
    rig.becomeReady(slot);
  }
  rig.take();
  return rig;
}

function standbySlots(rig: PoolRig): number[] {
  return rig.state.workers.filter(isStandby).map(({ slot }) => slot);
}

test("a restart replaces the standby worker first, and promotes it as the successor of the next worker", () => {
  const rig = withStandby({});
  assert.deepEqual(standbySlots(rig), [2]);
  rig.order({ kind: "restart", slots: undefined });
  assert.deepEqual(rig.phases, ["ready", "ready", "stopping", "free"]);
  rig.exit(2);
  assert.deepEqual(rig.phases, ["ready", "ready", "starting", "free"]);
  rig.becomeReady(2);
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready", "starting"]);
  rig.exit(0);
  rig.pass(1);
  rig.becomeReady(3);
  assert.deepEqual(rig.phases, ["starting", "stopping", "ready", "ready"]);
  rig.exit(1);
  rig.becomeReady(0);
  assert.deepEqual(rig.phases, ["ready", "free", "ready", "ready"]);
  assert.deepEqual(standbySlots(rig), [0]);
  assert.deepEqual(
    rig.take().filter((kind) => /^(enlisted|rollout_started|operation_finished)/u.test(kind)),
    ["enlisted 2", "enlisted 3", "operation_finished"],
  );
});

test("a standby worker that is being replaced counts as one surge worker", () => {
  const rig = withStandby({ replicas: 4, rollout: { maxSurge: 2, maxUnavailable: 0, minReadyMs: 0 } });
  rig.order({ kind: "restart", slots: undefined });
  assert.deepEqual(rig.phases, ["ready", "ready", "ready", "ready", "stopping", "starting", "free"]);
  rig.exit(4);
  assert.deepEqual(rig.phases, ["ready", "ready", "ready", "ready", "starting", "starting", "free"]);
});

test("a restart fails before it replaces a serving worker if the new standby worker fails", () => {
  const rig = withStandby({});
  rig.order({ kind: "restart", slots: undefined });
  rig.exit(2);
  rig.exit(2);
  assert.equal(operations(rig).at(-1), "operation_failed");
  assert.deepEqual(rig.phases.slice(0, 2), ["ready", "ready"]);
  assert.deepEqual([rig.worker(0).incarnation, rig.worker(1).incarnation], [1, 1]);
});

test("a due worker waits for a standby worker that is restarting, but not for one that an operator stopped", () => {
  const stopped = withStandby({});
  stopped.stop(2);
  stopped.exit(2);
  stopped.limit(0);
  assert.deepEqual(stopped.phases, ["ready", "ready", "held", "starting"]);
  const crashed = withStandby({});
  crashed.exit(1);
  crashed.limit(0);
  assert.deepEqual(crashed.phases, ["ready", "starting", "ready", "free"]);
  crashed.becomeReady(1);
  assert.deepEqual(crashed.phases, ["stopping", "ready", "ready", "starting"]);
});

test("a reload to fewer replicas starts a successor at once in the slot of a worker in backoff", () => {
  const rig = booted({ ...PROBED, ...IN_PLACE, drainMs: undefined, replicas: 4 });
  for (const slot of [0, 1, 2, 3]) rig.becomeReady(slot);
  rig.exit(0);
  rig.order({ kind: "restart", slots: undefined });
  const rollout = { maxSurge: 1, maxUnavailable: 0, minReadyMs: 0 };
  rig.order({ kind: "reload", spec: { ...rig.spec, replicas: 3, revision: rig.spec.revision + 1, rollout } });
  assert.deepEqual(rig.phases, ["starting", "ready", "ready", "ready"]);
  // The second crash makes the restart operation fail, and the reload begins.
  rig.exit(0);
  assert.deepEqual(rig.phases, ["starting", "ready", "ready", "ready"]);
  assert.equal(rig.state.replacements.length, 1);
});

const PROVING: Partial<PoolSpec> = {
  readiness: { kind: "probed", timeoutMs: undefined },
  rollout: { maxSurge: 1, maxUnavailable: 0, minReadyMs: 5000 },
};

/** A probed pool with a min ready time whose workers are all ready. */
function provingPool(changes: Partial<PoolSpec> = {}): PoolRig {
  const rig = booted({ ...PROVING, ...changes });
  for (let slot = 0; slot < rig.spec.replicas; slot++) rig.becomeReady(slot);
  rig.pass(10_000);
  rig.take();
  return rig;
}

test("a rollout waits until its first new worker has been ready for min_ready, and then continues without pauses", () => {
  const rig = provingPool({ replicas: 3 });
  rig.order({ kind: "restart", slots: undefined });
  rig.becomeReady(3);
  rig.pass(4999);
  assert.deepEqual(rig.phases, ["ready", "ready", "ready", "ready"]);
  rig.pass(1);
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready", "ready"]);
  rig.exit(0);
  rig.becomeReady(0);
  assert.deepEqual(rig.phases, ["ready", "stopping", "ready", "ready"]);
});

test("a rollout replaces no worker if the first new one crashes within min_ready", () => {
  for (const kind of ["restart", "reload"] as const) {
    const rig = provingPool({ replicas: 3 });
    rig.order(
      kind === "restart"
        ? { kind, slots: undefined }
        : { kind, spec: { ...rig.spec, revision: rig.spec.revision + 1 } },
    );
    rig.becomeReady(3);
    rig.pass(3000);
    rig.exit(3);
    assert.ok(rig.take().includes("operation_failed"), kind);
    assert.deepEqual(
      rig.state.workers.slice(0, 3).map(({ phase, incarnation }) => [phase, incarnation]),
      [0, 1, 2].map(() => ["ready", 1]),
    );
    assert.equal(isHealthy(rig.state), true);
  }
});

test("a rollout in place replaces at most max_unavailable workers until the first new one has passed min_ready", () => {
  const rig = provingPool({ replicas: 3, rollout: { maxSurge: 0, maxUnavailable: 1, minReadyMs: 5000 } });
  rig.order({ kind: "restart", slots: undefined });
  rig.exit(0);
  rig.becomeReady(0);
  rig.pass(4999);
  assert.deepEqual(rig.phases, ["ready", "ready", "ready"]);
  rig.pass(1);
  assert.deepEqual(rig.phases, ["ready", "stopping", "ready"]);
});

test("an in-place restart of a single worker finishes when the new one has been ready for min_ready", () => {
  const rig = provingPool({ replicas: 1, rollout: { maxSurge: 0, maxUnavailable: 1, minReadyMs: 5000 } });
  rig.order({ kind: "restart", slots: undefined });
  rig.exit(0);
  rig.becomeReady(0);
  rig.pass(4999);
  assert.ok(!rig.take().includes("operation_finished"));
  rig.pass(1);
  assert.ok(rig.take().includes("operation_finished"));
});

test("the replacement of a worker that reached a limit does not wait for min_ready", () => {
  const rig = provingPool();
  rig.limit(0);
  rig.becomeReady(2);
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready"]);
});

test("a ready worker that crashed twice in a row counts for the pool's health only after twice its last uptime", () => {
  const rig = provingPool({ replicas: 1, standby: 0, desiredHealthyPercentage: 100 });
  const crash = () => {
    rig.pass(4000);
    rig.exit(0);
    if (rig.worker(0).phase === "backoff") rig.pass(500);
    rig.becomeReady(0);
  };
  crash();
  assert.equal(isHealthy(rig.state), true, "after one crash it counts at once");
  rig.take();
  crash();
  assert.equal(countReady(rig.state), 1, "it is ready");
  assert.equal(isHealthy(rig.state), false);
  assert.deepEqual(rig.poolEvents, ["pool_degraded: 0 of 1 replicas ready, 100 % required"]);
  rig.pass(1);
  const { spawnedAt } = rig.worker(0) as { spawnedAt?: Instant };
  rig.pass(after(spawnedAt ?? rig.now, 7999) - rig.now);
  assert.equal(isHealthy(rig.state), false);
  rig.pass(1);
  assert.equal(isHealthy(rig.state), true);
});
