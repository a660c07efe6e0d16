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

/** One pool whose spawns succeed at once and whose time is moved by hand. */
class PoolRig {
  readonly spec: PoolSpec;
  state: PoolState;
  now: Instant = instant(1000);
  /** Everything the pool asked for since the last `take`. */
  effects: PoolEffect[] = [];
  /** Slots whose next spawn fails. */
  readonly refusing = new Set<number>();
  /** While set, spawns stay under way until `answerSpawns`. */
  isSlow = false;
  readonly #underWay: { readonly slot: number; readonly incarnation: number }[] = [];
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
    for (const effect of effects) if (effect.kind === "spawn") this.#underWay.push(effect);
    if (!this.isSlow) this.answerSpawns();
  }

  answerSpawns(): void {
    for (let spawn = this.#underWay.shift(); spawn !== undefined; spawn = this.#underWay.shift())
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

  /** An operation; its id is the number of operations so far. */
  order(order: Order): void {
    const id = `op-${++this.#orders}`;
    this.step({ kind: "order", at: this.now, id, order, reason: "asked", random: 0.5 });
  }

  limit(slot: number, limit: LimitKind = "memory"): void {
    const incarnation = this.worker(slot).incarnation;
    this.send(slot, { kind: "limitReached", at: this.now, incarnation, limit, reason: "too big" });
  }

  /** Lets time pass; deadlines fire in their order. */
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

  /** The kinds of what was asked for or told since the last call; signals and spawns with their slot. */
  take(): string[] {
    const kinds = this.effects.map((effect) => {
      if (effect.kind === "tell") return `${effect.event.kind} ${effect.event.slot}`;
      return effect.kind === "tellWide" ? effect.event.kind : `!${effect.kind} ${effect.slot}`;
    });
    this.effects = [];
    return kinds;
  }

  /** Reasons of the wide events since the last `take`, without those of operations. */
  get wide(): string[] {
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
const IN_PLACE: Partial<PoolSpec> = { rollout: { maxSurge: 0, maxUnavailable: 1, settleMs: 0 } };

test("an empty pool has a slot for each replica and each surge", () => {
  const { state } = new PoolRig({ replicas: 3, rollout: { maxSurge: 2, maxUnavailable: 0, settleMs: 0 } });
  assert.deepEqual(
    state.workers.map(({ slot, phase }) => [slot, phase]),
    [0, 1, 2, 3, 4].map((slot) => [slot, "down"]),
  );
  assert.equal(isEmpty(state), true);
});

test("the boot starts the replicas and leaves the surge slot free", () => {
  const rig = new PoolRig();
  rig.boot();
  assert.deepEqual(rig.phases, ["ready", "ready", "free"]);
  assert.equal(countReady(rig.state), 2);
  assert.equal(isEmpty(rig.state), false);
  assert.equal(rig.state.tally.spawns, 2);
});

test("startup_wait_time lies between two starts of the boot, the first is at once", () => {
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

test("a crash restarts its own slot at once and no other", () => {
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

test("a worker that is due is replaced: the successor first, then the stop of the old one", () => {
  const rig = booted();
  rig.limit(0);
  assert.deepEqual(rig.wide, [
    "rollout_started: web-0 is due (memory limit: too big), web-2 starts",
    "rollout_finished: web-2 took over from web-0",
  ]);
  const seen = rig.take();
  assert.deepEqual(seen, [
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

test("the stop of a replaced worker names the limit and its successor", () => {
  const rig = booted();
  rig.limit(0, "requests");
  const { order } = rig.worker(0) as { order?: StopOrder };
  assert.deepEqual(order, {
    cause: "requests",
    reason: "requests limit: too big, replaced by web-2",
    next: "down",
  });
});

test("workers that are due together take turns within the surge, the longest due first", () => {
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

test("a lifespan that is over replaces every worker in turn, indefinitely", () => {
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

test("a successor that cannot start ends the replacement: the old worker stays for another lifespan", () => {
  const rig = booted(LIFESPAN);
  rig.refusing.add(2);
  rig.pass(60_000);
  assert.deepEqual(rig.worker(0).phase, "ready");
  assert.match(
    rig.wide.join("\n"),
    /rollout_aborted: web-0 stays: successor web-2 EAGAIN; first crash: restart at once/u,
  );
  assert.ok((rig.state.tally.rollouts.aborted ?? 0) >= 1);
  const worker = rig.worker(0);
  assert.equal(worker.phase === "ready" && worker.due, undefined);
  assert.equal(worker.deadline, after(rig.now, 60_000));
});

test("an aborted replacement of a worker without lifespan waits for its limit to speak again", () => {
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

test("a successor that may not be restarted leaves the pool alive and its slot free for the next try", () => {
  const rig = booted({ ...GIVE_UP_AT_ONCE, replicas: 1 });
  rig.refusing.add(1);
  rig.limit(0);
  assert.deepEqual(rig.phases, ["ready", "free"]);
  assert.equal(outcomeOf(rig.state), undefined);
  rig.limit(0);
  assert.deepEqual(rig.phases, ["stopping", "ready"]);
});

test("a worker stays and keeps serving until its successor is ready", () => {
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

test("a due worker that crashes before its successor is ready gives its place to it: it is further than who begins anew", () => {
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
  // The same where it waits for its restart.
  rig.isSlow = true;
  rig.limit(2);
  rig.refusing.add(2);
  rig.exit(2);
  rig.isSlow = false;
  rig.answerSpawns();
  assert.deepEqual(rig.phases, ["ready", "ready", "free"]);
});

test("an operator who stops a due worker stops its successor with it", () => {
  const rig = booted();
  rig.isSlow = true;
  rig.limit(0);
  rig.stop(0);
  rig.exit(0);
  rig.answerSpawns();
  assert.deepEqual(rig.phases, ["held", "ready", "stopping"]);
});

test("a predecessor that left by itself gives its place to the successor", () => {
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

test("an abort of a predecessor that is no longer running postpones nothing", () => {
  const rig = booted();
  const state: PoolState = {
    ...rig.state,
    replacements: [replacementOf({ old: 2, oldIncarnation: 9, successor: 0, successorIncarnation: 0 })],
  };
  const { state: next, effects } = stepPool(state, { kind: "boot", at: rig.now, random: 0.5 });
  assert.equal(next.workers[2]?.deadline, undefined);
  assert.ok(effects.some((effect) => effect.kind === "tellWide" && effect.event.kind === "rollout_aborted"));
});

test("a take-over of a worker that is not due any more is called a rollout", () => {
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

test("without surge a worker is replaced in place, and only while no other is missing", () => {
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

test("a crash uses up the unavailability that a planned replacement would have had", () => {
  const rig = booted(IN_PLACE);
  rig.exit(1);
  rig.exit(1);
  assert.equal(rig.worker(1).phase, "backoff");
  rig.limit(0);
  assert.equal(rig.worker(0).phase, "ready");
  rig.pass(100);
  assert.deepEqual(rig.phases, ["stopping", "ready"]);
});

test("an operator's stop holds the slot until a start, and nothing takes its place", () => {
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

test("a start of what runs, of a free slot or of no slot changes nothing", () => {
  const rig = booted();
  const before = rig.state;
  for (const slot of [0, 2, 99]) rig.start(slot);
  assert.deepEqual(rig.state, before);
  assert.ok(rig.effects.every((effect) => effect.kind === "tellWide"));
});

test("a start brings back what gave up", () => {
  const rig = booted(GIVE_UP_AT_ONCE);
  rig.exit(0);
  assert.deepEqual(rig.phases, ["gave-up", "ready", "free"]);
  rig.start(0);
  assert.deepEqual(rig.phases, ["ready", "ready", "free"]);
});

test("a worker that gave up keeps its slot: nothing takes its place", () => {
  const rig = booted(GIVE_UP_AT_ONCE);
  rig.exit(0);
  assert.equal(outcomeOf(rig.state), undefined);
  rig.exit(1);
  assert.deepEqual(rig.phases, ["gave-up", "gave-up", "free"]);
  assert.equal(outcomeOf(rig.state), "failed");
  assert.equal(rig.state.tally.gaveUp, 2);
});

test("a pool that scales up is as healthy as it was until the new number has been reached once", () => {
  const rig = booted({
    replicas: 2,
    desiredHealthyPercentage: 75,
    readiness: { kind: "probed", timeoutMs: undefined },
  });
  const scale = (replicas: number) => rig.order({ kind: "scale", replicas });
  assert.equal(isHealthy(rig.state), false);
  for (const slot of [0, 1]) rig.becomeReady(slot);
  scale(8);
  assert.equal(isHealthy(rig.state), true, "two serve as before");
  rig.exit(1);
  assert.equal(isHealthy(rig.state), false, "one of two is too few");
  rig.pass(100);
  for (const slot of [1, 2, 3, 4, 5]) rig.becomeReady(slot);
  assert.equal(rig.state.measuredReplicas, 8, "six of eight are enough");
  rig.exit(5);
  assert.deepEqual(
    [...rig.wide],
    [
      "pool_degraded: 1 of 2 replicas ready, 75 % required",
      "pool_recovered: 2 of 2 replicas ready, 75 % required",
      "pool_degraded: 5 of 8 replicas ready, 75 % required",
    ],
  );
  scale(4);
  assert.equal(isHealthy(rig.state), true);
  assert.equal(rig.state.measuredReplicas, 4, "fewer count at once");
});

test("health follows desired_healthy_percentage and is told at each change after the first boot", () => {
  const rig = new PoolRig({ replicas: 4, desiredHealthyPercentage: 75 });
  assert.equal(isHealthy(rig.state), false);
  rig.boot();
  assert.deepEqual(rig.wide, []);
  assert.equal(isHealthy(rig.state), true);
  rig.stop(0);
  assert.equal(isHealthy(rig.state), true);
  assert.deepEqual(rig.wide, []);
  rig.stop(1);
  assert.equal(isHealthy(rig.state), false);
  assert.deepEqual(rig.wide, ["pool_degraded: 2 of 4 replicas ready, 75 % required"]);
  rig.stop(2);
  assert.equal(rig.wide.length, 1);
  rig.exit(0);
  rig.exit(1);
  rig.start(0);
  assert.equal(rig.wide.length, 1);
  rig.start(1);
  assert.deepEqual(rig.wide.slice(1), ["pool_recovered: 3 of 4 replicas ready, 75 % required"]);
});

test("a stopped worker counts as a replica; a pool that is scaled down removes it first and says that its slot is not used", () => {
  const rig = booted({ replicas: 3 });
  rig.stop(1);
  rig.exit(1);
  assert.equal(rig.phases[1], "held");
  rig.order({ kind: "scale", replicas: 2 });
  assert.equal(rig.phases[1], "free");
  assert.equal(rig.worker(1).reason, "the pool has 2 replicas and does not use this slot");
});

test("a pool that leaves stops every worker, replaces nothing and starts nothing again", () => {
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

test("a kill kills every worker and starts nothing again", () => {
  const rig = booted();
  rig.step({ kind: "kill", at: rig.now, reason: "at once" });
  assert.deepEqual(rig.take(), ["killed 0", "!kill 0", "killed 1", "!kill 1"]);
  rig.exit(0);
  rig.exit(1);
  assert.deepEqual(rig.phases, ["free", "free", "free"]);
  assert.equal(rig.state.tally.sigkills, 2);
});

test("a stop during a planned replacement counts for the surge until the old worker is gone", () => {
  const rig = booted({ replicas: 1, rollout: { maxSurge: 1, maxUnavailable: 0, settleMs: 0 } });
  rig.limit(0);
  assert.deepEqual(rig.phases, ["stopping", "ready"]);
  rig.limit(1);
  assert.deepEqual(rig.phases, ["stopping", "ready"]);
  rig.exit(0);
  assert.deepEqual(rig.phases, ["ready", "stopping"]);
});

test("a slot that does not exist is a bug of the caller", () => {
  assert.throws(() => booted().stop(99), /there is no slot 99/u);
});

test("a pool whose slots are all taken starts no more than it has", () => {
  const rig = new PoolRig({ replicas: 2, rollout: { maxSurge: 0, maxUnavailable: 1, settleMs: 0 } });
  const state: PoolState = { ...rig.state, workers: rig.state.workers.slice(0, 1) };
  const { state: next } = stepPool(state, { kind: "boot", at: rig.now, random: 0.5 });
  assert.deepEqual(
    next.workers.map(({ phase }) => phase),
    ["spawning"],
  );
});

/** What an operation says about itself, without its words. */
function operations(rig: PoolRig): string[] {
  return rig.take().filter((kind) => kind.startsWith("operation_"));
}

const PROBED: Partial<PoolSpec> = { readiness: { kind: "probed", timeoutMs: 3000 }, drainMs: 5000 };

test("a restart replaces every worker, one after another, and is done when the last predecessor is gone", () => {
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

test("a restart in place waits for each worker to be ready again", () => {
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

test("a successor that does not become ready ends the restart; predecessors stay and are due no more", () => {
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
    assert.equal(worker.phase === "ready" && worker.due, undefined);
    assert.equal(worker.deadline, rig.now + 60_000);
  }
  assert.deepEqual(rig.state.running, []);
});

test("what was born during a restart and crashes ends it", () => {
  const rig = booted({ replicas: 3 });
  rig.order({ kind: "restart", slots: undefined });
  rig.exit(3);
  assert.deepEqual(operations(rig), ["operation_started", "operation_failed"]);
  assert.deepEqual(rig.state.running, []);
});

test("a crash of an old worker is no failure of a restart: it is replaced that way", () => {
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

test("a restart of one worker leaves the others alone", () => {
  const rig = booted();
  rig.order({ kind: "restart", slots: [1] });
  rig.exit(1);
  assert.deepEqual(rig.phases, ["ready", "free", "ready"]);
  assert.equal(operations(rig).at(-1), "operation_finished");
});

test("scaling up starts what is missing and is done when all are ready", () => {
  const rig = booted({ ...PROBED, replicas: 1 });
  rig.becomeReady(0);
  rig.order({ kind: "scale", replicas: 4 });
  assert.deepEqual(rig.phases, ["ready", "starting", "starting", "starting", "free"]);
  for (const slot of [1, 2, 3]) rig.becomeReady(slot);
  assert.deepEqual(operations(rig), ["operation_started", "operation_finished"]);
});

test("scaling down lets the highest slots drain, and those first that serve nobody", () => {
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

test("scaling down frees what an operator holds before it stops what serves", () => {
  const rig = booted({ replicas: 3 });
  rig.order({ kind: "stop", slots: [0, 1] });
  rig.exit(0);
  rig.order({ kind: "scale", replicas: 1 });
  rig.exit(1);
  assert.deepEqual(rig.phases, ["free", "free", "ready", "free"]);
});

test("a reload replaces what has an older revision, and goes back to it where that fails", () => {
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

test("a reload does not wait for workers that still boot with what it has replaced", () => {
  const rig = booted({ readiness: { kind: "probed", timeoutMs: 60_000 } });
  rig.becomeReady(0);
  rig.take();
  rig.order({ kind: "reload", spec: { ...rig.spec, revision: 2 } });
  assert.deepEqual(rig.phases.slice(0, 3), ["ready", "stopping", "starting"], "one is replaced, one begins again");
  rig.exit(1);
  assert.equal(rig.worker(1).revision, 2);
  rig.becomeReady(1);
  rig.becomeReady(2);
  rig.exit(0);
  assert.equal(operations(rig).at(-1), "operation_finished");
  assert.equal(rig.state.tally.restarts, 0, "none of it is a crash");
});

function probed(): PoolRig {
  const rig = booted({ readiness: { kind: "probed", timeoutMs: 60_000 } });
  for (const { slot } of rig.state.workers.filter(isStarting)) rig.becomeReady(slot);
  rig.take();
  return rig;
}

test("a reload fails by a successor that was ready and then hangs, and who was replaced already goes back too", () => {
  const rig = probed();
  rig.order({ kind: "reload", spec: { ...rig.spec, revision: 2 } });
  rig.becomeReady(2);
  rig.exit(0);
  assert.deepEqual(rig.phases, ["starting", "ready", "ready"], "the next one is under way");
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

test("an operation does not wait for workers that were ready once and are not now", () => {
  const rig = probed();
  for (const slot of [0, 1]) rig.becomeUnready(slot);
  rig.order({ kind: "scale", replicas: 3 });
  assert.deepEqual(operations(rig), ["operation_started"]);
  rig.becomeReady(2);
  assert.equal(operations(rig).at(-1), "operation_finished");
});

test("a reload of a pool that is not healthy gives up what goes on there; of a healthy one it waits", () => {
  const rig = probed();
  rig.order({ kind: "scale", replicas: 3 });
  rig.order({ kind: "reload", spec: { ...rig.state.spec, revision: 2 } });
  assert.deepEqual(operations(rig), ["operation_started", "operation_queued"], "two of two serve as before");
  rig.becomeUnready(0);
  assert.deepEqual(operations(rig), ["operation_failed", "operation_started"]);
  assert.equal(rig.state.spec.revision, 2);
  assert.equal(rig.state.spec.replicas, 3, "what scaling has changed stays");
});

test("a repairing reload is not blamed for a successor of before, and takes its place", () => {
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
    "only the restart",
  );
  assert.equal(rig.state.running[0]?.order.kind, "reload");
  assert.equal(rig.worker(2).revision, 2);
});

test("without surge a reload replaces who is not ready first, and does not wait for what an operator holds", () => {
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

test("what an order keeps is what there is when it begins, not when it was given", () => {
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

test("while a pool grows no more of those who serve are replaced at once for a common fault", () => {
  const rig = booted({ replicas: 4, readiness: { kind: "probed", timeoutMs: 60_000 }, desiredHealthyPercentage: 75 });
  for (const slot of [0, 1, 2, 3]) rig.becomeReady(slot);
  rig.order({ kind: "scale", replicas: 16 });
  for (const slot of [0, 1, 2, 3]) rig.hang(slot);
  assert.deepEqual(
    [0, 1, 2, 3].filter((slot) => rig.worker(slot).phase === "stopping"),
    [],
    "one has a successor, three wait",
  );
});

test("a predecessor that an operator stops takes its successor with it also without a drain, one that gives up does not", () => {
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

test("another life span holds for running workers at once, counted from their birth", () => {
  const rig = booted({ limits: { ...poolSpec().limits, lifespanMs: 3_600_000, jitterRatio: 0.1 } });
  const born = rig.now;
  rig.pass(10_000);
  const reload = (limits: Partial<PoolSpec["limits"]>) =>
    rig.order({ kind: "reload", spec: { ...rig.state.spec, limits: { ...rig.state.spec.limits, ...limits } } });
  const deadlines = () => [0, 1].map((slot) => rig.worker(slot).deadline);
  reload({ lifespanMs: 100_000 });
  const [first = 0, second = 0] = deadlines();
  for (const deadline of [first, second]) assert.ok(deadline >= born + 90_000 && deadline <= born + 110_000);
  assert.notEqual(first, second);
  reload({ memoryBytes: 5 });
  assert.deepEqual(deadlines(), [first, second], "nothing else spreads them anew");
  reload({ lifespanMs: undefined });
  assert.deepEqual(deadlines(), [undefined, undefined]);
  reload({ lifespanMs: 5000 });
  rig.take();
  rig.pass(1);
  assert.ok(rig.take().includes("limit_reached 0"), "it is over already");
});

test("a reload that changes no process is done at once", () => {
  const rig = booted();
  rig.order({ kind: "reload", spec: { ...rig.spec, signalTimeoutMs: 1 } });
  assert.deepEqual(rig.take(), ["operation_started", "operation_finished"]);
  assert.equal(rig.state.spec.signalTimeoutMs, 1);
});

test("operations of a pool wait for one another, and a shutdown ends them all", () => {
  const rig = booted();
  rig.order({ kind: "restart", slots: undefined });
  rig.order({ kind: "scale", replicas: 5 });
  assert.deepEqual(operations(rig), ["operation_started", "operation_queued"]);
  rig.step({ kind: "leave", at: rig.now, order: SHUTDOWN });
  assert.deepEqual(operations(rig), ["operation_failed", "operation_failed"]);
  rig.order({ kind: "restart", slots: undefined });
  assert.deepEqual(operations(rig), ["operation_queued", "operation_failed"]);
});

test("a worker is stopped and started at once, whatever the pool is busy with", () => {
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

/** Two probed workers; the first was stopped by an operator and is being started again. */
function startingAgain(): PoolRig {
  const rig = booted({ ...PROBED, replicas: 2 });
  for (const slot of [0, 1]) rig.becomeReady(slot);
  rig.order({ kind: "stop", slots: [0] });
  rig.drained(0);
  rig.exit(0);
  rig.take();
  rig.order({ kind: "start", slots: [0] });
  return rig;
}

test("a start fails when its worker does, not when another one does", () => {
  const rig = startingAgain();
  rig.exit(1);
  assert.deepEqual(operations(rig), ["operation_started"]);
  rig.exit(0);
  assert.deepEqual(operations(rig), ["operation_failed"]);
});

test("a start fails when its worker is stopped before it is ready", () => {
  const rig = startingAgain();
  rig.order({ kind: "stop", slots: [0] });
  assert.deepEqual(operations(rig), ["operation_started", "operation_started"]);
  rig.exit(0);
  assert.deepEqual(operations(rig), ["operation_failed", "operation_progressed", "operation_finished"]);
});

test("a worker that hangs is replaced, successor first, without waiting for its requests", () => {
  const rig = booted({ drainMs: 5000 });
  rig.send(0, { kind: "livenessFailed", at: rig.now, incarnation: 1, reason: "hangs" });
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready"]);
});

/** Probed workers, all ready; the youngest `standby` of them are the reserve. */
function withReserve(changes: Partial<PoolSpec>): PoolRig {
  const rig = booted({ ...PROBED, drainMs: undefined, standby: 1, ...changes });
  for (let slot = 0; slot < rig.spec.replicas + rig.spec.standby; slot++) {
    rig.pass(1);
    rig.becomeReady(slot);
  }
  rig.take();
  return rig;
}

function sparesOf(rig: PoolRig): number[] {
  return rig.state.workers.filter(isStandby).map(({ slot }) => slot);
}

test("a restart renews the reserve first, and what is renewed is the successor of each worker in turn", () => {
  const rig = withReserve({});
  assert.deepEqual(sparesOf(rig), [2]);
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
  assert.deepEqual(sparesOf(rig), [0]);
  assert.deepEqual(
    rig.take().filter((kind) => /^(enlisted|rollout_started|operation_finished)/u.test(kind)),
    ["enlisted 2", "enlisted 3", "operation_finished"],
  );
});

test("a reserve that is being renewed takes one place of the surge, the others are started beside it", () => {
  const rig = withReserve({ replicas: 4, rollout: { maxSurge: 2, maxUnavailable: 0, settleMs: 0 } });
  rig.order({ kind: "restart", slots: undefined });
  assert.deepEqual(rig.phases, ["ready", "ready", "ready", "ready", "stopping", "starting", "free"]);
  rig.exit(4);
  assert.deepEqual(rig.phases, ["ready", "ready", "ready", "ready", "starting", "starting", "free"]);
});

test("a reserve that cannot be renewed ends the restart before anyone who serves was touched", () => {
  const rig = withReserve({});
  rig.order({ kind: "restart", slots: undefined });
  rig.exit(2);
  rig.exit(2);
  assert.equal(operations(rig).at(-1), "operation_failed");
  assert.deepEqual(rig.phases.slice(0, 2), ["ready", "ready"]);
  assert.deepEqual([rig.worker(0).incarnation, rig.worker(1).incarnation], [1, 1]);
});

test("a limit waits for the reserve that comes back after a crash, not for one that an operator stopped", () => {
  const stopped = withReserve({});
  stopped.stop(2);
  stopped.exit(2);
  stopped.limit(0);
  assert.deepEqual(stopped.phases, ["ready", "ready", "held", "starting"]);
  const crashed = withReserve({});
  crashed.exit(1);
  crashed.limit(0);
  assert.deepEqual(crashed.phases, ["ready", "starting", "ready", "free"]);
  crashed.becomeReady(1);
  assert.deepEqual(crashed.phases, ["stopping", "ready", "ready", "starting"]);
});

test("a reload to fewer replicas uses the slot of one that waited for its restart at once", () => {
  const rig = booted({ ...PROBED, ...IN_PLACE, drainMs: undefined, replicas: 4 });
  for (const slot of [0, 1, 2, 3]) rig.becomeReady(slot);
  rig.exit(0);
  rig.order({ kind: "restart", slots: undefined });
  const rollout = { maxSurge: 1, maxUnavailable: 0, settleMs: 0 };
  rig.order({ kind: "reload", spec: { ...rig.spec, replicas: 3, revision: rig.spec.revision + 1, rollout } });
  assert.deepEqual(rig.phases, ["starting", "ready", "ready", "ready"]);
  // It crashes a second time and would wait; the restart fails by that, the reload begins.
  rig.exit(0);
  assert.deepEqual(rig.phases, ["starting", "ready", "ready", "ready"]);
  assert.equal(rig.state.replacements.length, 1);
});

const PROVING: Partial<PoolSpec> = {
  readiness: { kind: "probed", timeoutMs: undefined },
  rollout: { maxSurge: 1, maxUnavailable: 0, settleMs: 5000 },
};

/** A probed pool whose workers are all ready. */
function provingPool(changes: Partial<PoolSpec> = {}): PoolRig {
  const rig = booted({ ...PROVING, ...changes });
  for (let slot = 0; slot < rig.spec.replicas; slot++) rig.becomeReady(slot);
  rig.pass(10_000);
  rig.take();
  return rig;
}

test("a rollout waits until its first new worker has stayed ready for min ready, and then goes on without pauses", () => {
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

test("a new worker that answers its probe and crashes ends the rollout before it has replaced any worker", () => {
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

test("in place a rollout replaces as many as may be unavailable until the first has proved itself", () => {
  const rig = provingPool({ replicas: 3, rollout: { maxSurge: 0, maxUnavailable: 1, settleMs: 5000 } });
  rig.order({ kind: "restart", slots: undefined });
  rig.exit(0);
  rig.becomeReady(0);
  rig.pass(4999);
  assert.deepEqual(rig.phases, ["ready", "ready", "ready"]);
  rig.pass(1);
  assert.deepEqual(rig.phases, ["ready", "stopping", "ready"]);
});

test("a restart of a single worker in place is finished when the new one has stayed ready for min ready", () => {
  const rig = provingPool({ replicas: 1, rollout: { maxSurge: 0, maxUnavailable: 1, settleMs: 5000 } });
  rig.order({ kind: "restart", slots: undefined });
  rig.exit(0);
  rig.becomeReady(0);
  rig.pass(4999);
  assert.ok(!rig.take().includes("operation_finished"));
  rig.pass(1);
  assert.ok(rig.take().includes("operation_finished"));
});

test("a limit that requires the replacement of one worker does not wait for min ready", () => {
  const rig = provingPool();
  rig.limit(0);
  rig.becomeReady(2);
  assert.deepEqual(rig.phases, ["stopping", "ready", "ready"]);
});

test("a worker with a probe that crashed twice in a row counts for health only after twice its last life", () => {
  const rig = provingPool({ replicas: 1, standby: 0, desiredHealthyPercentage: 100 });
  const crash = () => {
    rig.pass(4000);
    rig.exit(0);
    if (rig.worker(0).phase === "backoff") rig.pass(500);
    rig.becomeReady(0);
  };
  crash();
  assert.equal(isHealthy(rig.state), true, "one crash is repaired by its restart");
  rig.take();
  crash();
  assert.equal(countReady(rig.state), 1, "it serves");
  assert.equal(isHealthy(rig.state), false);
  assert.deepEqual(rig.wide, ["pool_degraded: 0 of 1 replicas ready, 100 % required"]);
  rig.pass(1);
  const { spawnedAt } = rig.worker(0) as { spawnedAt?: Instant };
  rig.pass(after(spawnedAt ?? rig.now, 7999) - rig.now);
  assert.equal(isHealthy(rig.state), false);
  rig.pass(1);
  assert.equal(isHealthy(rig.state), true);
});
