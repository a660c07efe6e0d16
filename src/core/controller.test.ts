import assert from "node:assert/strict";
import { test } from "node:test";
import { poolSpec } from "../../test/support/poolSpec.ts";
import { after, type Instant, instant } from "../base/time.ts";
import {
  type ControllerEffect,
  type ControllerEvent,
  type ControllerState,
  newController,
  stepController,
} from "./controller.ts";
import { type ControllerSpec, emptied, type PoolSpec } from "./spec.ts";
import type { ControllerView } from "./view.ts";
import { viewOf } from "./viewOf.ts";
import type { WorkerEvent } from "./worker/event.ts";

interface Process {
  readonly pool: number;
  readonly slot: number;
  readonly incarnation: number;
}

/** A controller whose spawns succeed at once. Its processes exit only when the test calls `exit` or `exitAll`. */
class ControllerRig {
  readonly spec: ControllerSpec;
  state: ControllerState;
  now: Instant = instant(1000);
  effects: ControllerEffect[] = [];
  readonly processes = new Map<number, Process>();
  #nextPid = 100;

  constructor(spec: Partial<ControllerSpec> = {}) {
    this.spec = {
      shutdownTimeoutMs: 60_000,
      preStopDelayMs: 0,
      startParallelism: undefined,
      pools: [poolSpec()],
      ...spec,
    };
    this.state = newController(this.spec, this.now);
  }

  step(event: ControllerEvent): void {
    const { state, effects } = stepController(this.state, event);
    this.state = state;
    this.effects.push(...effects);
    for (const effect of effects) {
      if (effect.kind !== "spawn") continue;
      const { pool, slot, incarnation } = effect;
      const pid = this.#nextPid++;
      this.processes.set(pid, { pool, slot, incarnation });
      this.send(pool, slot, { kind: "spawned", at: this.now, incarnation, pid, random: 0.5 });
    }
  }

  send(pool: number, slot: number, event: WorkerEvent): void {
    this.step({ kind: "worker", pool, slot, event, random: 0.5 });
  }

  boot(): this {
    this.step({ kind: "boot", at: this.now, random: 0.5 });
    return this;
  }

  shutdown(reason = "received SIGTERM", exitCode = 0): void {
    this.step({ kind: "shutdown", at: this.now, reason, exitCode });
  }

  exit(pool: number, slot: number, code = 1): void {
    for (const [pid, process] of this.processes) {
      if (process.pool !== pool || process.slot !== slot) continue;
      this.processes.delete(pid);
      const status = { kind: "code", code } as const;
      const { incarnation } = process;
      this.send(pool, slot, { kind: "exited", at: this.now, incarnation, status, survivors: false, random: 0.5 });
      return;
    }
    assert.fail(`no process in slot ${slot} of pool ${pool}`);
  }

  exitAll(): void {
    for (const { pool, slot } of [...this.processes.values()]) this.exit(pool, slot);
  }

  stop(pool: number, slot: number): void {
    const order = { cause: "operator", reason: "asked", next: "down" } as const;
    this.send(pool, slot, { kind: "stop", at: this.now, order });
  }

  /** Lets time pass; deadlines of workers and controller fire. */
  pass(ms: number): void {
    const until = after(this.now, ms);
    for (;;) {
      const own = this.state.deadline;
      const workers = this.state.pools.flatMap(({ workers }, pool) => workers.map((worker) => ({ pool, worker })));
      const next = workers
        .filter(({ worker }) => worker.deadline !== undefined && worker.deadline <= until)
        .sort((a, b) => (a.worker.deadline ?? 0) - (b.worker.deadline ?? 0))[0];
      if (next?.worker.deadline !== undefined && (own === undefined || next.worker.deadline <= own)) {
        this.now = next.worker.deadline;
        this.send(next.pool, next.worker.slot, { kind: "deadline", at: this.now, random: 0.5 });
      } else if (own !== undefined && own <= until) {
        this.now = own;
        this.step({ kind: "deadline", at: this.now });
      } else break;
    }
    this.now = until;
  }

  get view(): ControllerView {
    return viewOf(this.state);
  }

  /** Effects since the last call: kinds of events with their slot, and "!" before every other effect. */
  take(): string[] {
    const kinds = this.effects.map((effect) => {
      if (effect.kind === "emit")
        return "slot" in effect.event ? `${effect.event.kind} ${effect.event.slot}` : effect.event.kind;
      if (effect.kind === "finish") return `!finish ${effect.exitCode}`;
      return "slot" in effect ? `!${effect.kind} ${effect.pool}/${effect.slot}` : `!${effect.kind}`;
    });
    this.effects = [];
    return kinds;
  }

  /** Reasons of the controller's own events since the last `take`. */
  get reasons(): string[] {
    return this.effects.flatMap((effect) =>
      effect.kind === "emit" && effect.event.kind.startsWith("controller_") && "reason" in effect.event
        ? [`${effect.event.kind}: ${effect.event.reason}`]
        : [],
    );
  }
}

function restart(onExhausted: "shutdown" | "give-up-worker"): Partial<PoolSpec> {
  return { restart: { ...poolSpec().restart, maxRestarts: 0, onExhausted } };
}

test("the boot starts all pools, and the controller is ready when every replica is ready", () => {
  const rig = new ControllerRig({ pools: [poolSpec(), poolSpec({ name: "jobs", replicas: 1 })] }).boot();
  assert.equal(rig.state.phase, "running");
  assert.deepEqual(rig.reasons, ["controller_started: 2 pools, 3 workers"]);
  const effects = rig.take();
  assert.equal(effects[0], "controller_started");
  assert.deepEqual(
    effects.filter((kind) => kind.startsWith("!")),
    ["!spawn 0/0", "!spawn 0/1", "!spawn 1/0", "!notifyReady"],
  );
});

test("the start message uses the singular for one pool with one worker", () => {
  const rig = new ControllerRig({ pools: [poolSpec({ replicas: 1 })] }).boot();
  assert.deepEqual(rig.reasons, ["controller_started: 1 pool, 1 worker"]);
});

test("the controller is in phase booting until the last replica is ready", () => {
  const rig = new ControllerRig({ pools: [poolSpec({ replicas: 3, startupWaitMs: 500 })] }).boot();
  rig.pass(999);
  assert.equal(rig.state.phase, "booting");
  assert.equal(rig.view.ready, false);
  rig.pass(1);
  assert.equal(rig.state.phase, "running");
  assert.deepEqual(
    rig.effects.filter((effect) => effect.kind === "emit" && effect.event.kind === "controller_ready"),
    [{ kind: "emit", event: { kind: "controller_ready", afterMs: 1000 } }],
  );
});

test("a worker that reached its restart limit or was stopped by an operator does not delay the boot", () => {
  const slow = { replicas: 4, startupWaitMs: 500 };
  const gaveUp = new ControllerRig({ pools: [poolSpec({ ...slow, ...restart("give-up-worker") })] }).boot();
  gaveUp.exit(0, 0);
  gaveUp.pass(1500);
  assert.equal(gaveUp.state.phase, "running");
  assert.equal(gaveUp.view.ready, true);
  const stopped = new ControllerRig({ pools: [poolSpec(slow)] }).boot();
  stopped.stop(0, 0);
  stopped.exit(0, 0);
  stopped.pass(1500);
  assert.equal(stopped.state.phase, "running");
});

test("a shutdown stops all workers at once and finishes when the last one has exited", () => {
  const rig = new ControllerRig().boot();
  rig.take();
  rig.shutdown();
  assert.deepEqual(rig.reasons, ["controller_stopping: received SIGTERM"]);
  assert.deepEqual(rig.take(), [
    "controller_stopping",
    "!notifyStopping",
    "stopping 0",
    "!signal 0/0",
    "stopping 1",
    "!signal 0/1",
  ]);
  rig.exit(0, 1);
  assert.equal(rig.state.phase, "stopping");
  rig.exit(0, 0);
  assert.deepEqual(rig.take().slice(-2), ["controller_stopped", "!finish 0"]);
  assert.equal(rig.state.deadline, undefined);
});

test("during the pre-stop delay workers serve and are restarted after a crash, but the controller is not ready", () => {
  const rig = new ControllerRig({ preStopDelayMs: 5000 }).boot();
  rig.shutdown();
  assert.equal(rig.state.phase, "leaving");
  assert.deepEqual([rig.view.healthy, rig.view.ready], [true, false]);
  rig.exit(0, 0);
  assert.equal(rig.view.pools[0]?.readyCount, 2);
  rig.pass(4999);
  assert.equal(rig.state.phase, "leaving");
  rig.pass(1);
  assert.equal(rig.state.phase, "stopping");
  assert.equal(rig.view.pools[0]?.readyCount, 0);
  assert.equal(rig.state.deadline, 61_000);
});

test("the shutdown timeout limits the pre-stop delay", () => {
  const rig = new ControllerRig({ preStopDelayMs: 90_000, shutdownTimeoutMs: 1000 }).boot();
  rig.shutdown();
  assert.equal(rig.state.deadline, 2000);
  rig.pass(1000);
  assert.equal(rig.state.phase, "stopping");
});

test("workers that still run at the shutdown deadline are killed, and the exit code is 1", () => {
  const rig = new ControllerRig({ shutdownTimeoutMs: 3000 }).boot();
  rig.shutdown();
  rig.exit(0, 0);
  rig.take();
  rig.pass(3000);
  assert.deepEqual(
    rig.take().filter((kind) => kind.startsWith("!")),
    ["!kill 0/1"],
  );
  rig.exit(0, 1);
  assert.deepEqual(rig.take().slice(-1), ["!finish 1"]);
});

test("a shutdown finishes with exit code 1 if a killed process does not exit", () => {
  const rig = new ControllerRig({ shutdownTimeoutMs: 3000 }).boot();
  rig.shutdown();
  rig.pass(4999);
  assert.equal(rig.state.phase, "stopping");
  rig.pass(1);
  assert.equal(rig.state.phase, "stopped");
  assert.match(rig.reasons.at(-1) ?? "", /^controller_stopped: the kernel did not end every process in time$/u);
  assert.deepEqual(rig.take().slice(-1), ["!finish 1"]);
});

test("a second shutdown request kills all workers at once, during the stop and during the pre-stop delay", () => {
  for (const preStopDelayMs of [0, 5000]) {
    const rig = new ControllerRig({ preStopDelayMs }).boot();
    rig.shutdown();
    rig.take();
    rig.shutdown("received SIGINT");
    assert.deepEqual(
      rig.take().filter((kind) => kind.startsWith("!")),
      ["!kill 0/0", "!kill 0/1"],
    );
    assert.equal(rig.state.shutdownRequests, 2);
    rig.exitAll();
    assert.deepEqual(rig.take().slice(-1), ["!finish 1"]);
  }
});

test("a worker that ignores its stop signal is killed after its own grace period, before the shutdown deadline", () => {
  const rig = new ControllerRig().boot();
  rig.shutdown();
  rig.take();
  rig.pass(10_000);
  assert.deepEqual(rig.take(), ["killed 0", "!kill 0/0", "killed 1", "!kill 0/1"]);
  rig.exitAll();
  assert.deepEqual(rig.take().slice(-1), ["!finish 0"]);
});

test("with on_exhausted shutdown, a worker that exceeds its restart limit shuts down the controller with exit code 1", () => {
  const rig = new ControllerRig({
    pools: [poolSpec(restart("shutdown")), poolSpec({ name: "jobs", replicas: 1 })],
  }).boot();
  rig.take();
  rig.exit(0, 0);
  assert.ok(rig.reasons.includes('controller_stopping: pool "web" used up its restarts'));
  assert.deepEqual(
    rig.take().filter((kind) => kind.startsWith("!")),
    ["!notifyStopping", "!signal 0/1", "!signal 1/0"],
  );
  rig.exitAll();
  assert.deepEqual(rig.take().slice(-1), ["!finish 1"]);
});

test("with on_exhausted shutdown, the controller stops at once if the failed worker was the only one", () => {
  const rig = new ControllerRig({ pools: [poolSpec({ replicas: 1, ...restart("shutdown") })] }).boot();
  rig.exit(0, 0);
  assert.equal(rig.state.phase, "stopped");
  assert.deepEqual(rig.take().slice(-1), ["!finish 1"]);
});

test("with give-up-worker, the controller runs until every worker has reached its restart limit, then exits with 1", () => {
  const rig = new ControllerRig({ pools: [poolSpec(restart("give-up-worker"))] }).boot();
  rig.exit(0, 0);
  assert.equal(rig.state.phase, "running");
  assert.equal(rig.view.healthy, false);
  rig.exit(0, 1);
  assert.ok(rig.reasons.includes("controller_stopping: every worker failed, used up its restarts or completed"));
  assert.deepEqual(rig.take().slice(-1), ["!finish 1"]);
});

test("a pool whose workers all reached their restart limit does not stop a controller with another running pool", () => {
  const rig = new ControllerRig({
    pools: [poolSpec({ replicas: 1, ...restart("give-up-worker") }), poolSpec({ name: "jobs", replicas: 1 })],
  }).boot();
  rig.exit(0, 0);
  assert.equal(rig.state.phase, "running");
});

test("a shutdown before the boot finishes at once", () => {
  const rig = new ControllerRig();
  rig.shutdown();
  assert.deepEqual(rig.take().slice(-1), ["!finish 0"]);
});

test("a stopped controller ignores every event", () => {
  const rig = new ControllerRig().boot();
  rig.shutdown();
  rig.exitAll();
  const before = rig.state;
  rig.take();
  rig.shutdown();
  rig.step({ kind: "deadline", at: rig.now });
  rig.boot();
  assert.equal(rig.state, before);
  assert.deepEqual(rig.effects, []);
});

test("a controller that is not shutting down ignores a deadline", () => {
  const rig = new ControllerRig().boot();
  rig.take();
  rig.step({ kind: "deadline", at: rig.now });
  assert.equal(rig.state.phase, "running");
  assert.deepEqual(rig.effects, []);
});

test("an event for a nonexistent pool throws a RangeError", () => {
  const rig = new ControllerRig().boot();
  assert.throws(() => rig.stop(7, 0), new RangeError("there is no pool 7"));
});

test("the view shows the workers of replicas and used slots, and pid and start time only while a process is alive", () => {
  const rig = new ControllerRig().boot();
  rig.now = after(rig.now, 500);
  rig.stop(0, 1);
  const { pools, phase, startedAt, shutdownRequests } = rig.view;
  assert.deepEqual([phase, startedAt, shutdownRequests], ["running", 1000, 0]);
  const [pool] = pools;
  assert.deepEqual(
    [pool?.name, pool?.replicas, pool?.readyCount, pool?.desiredHealthyPercentage, pool?.healthy],
    ["web", 2, 1, 75, false],
  );
  assert.deepEqual(pool?.workers[0], {
    id: "web-0",
    pool: "web",
    slot: 0,
    phase: "ready",
    incarnation: 1,
    revision: 1,
    pid: 100,
    since: 1000,
    spawnedAt: 1000,
    deadline: undefined,
    isProving: false,
    isStandby: false,
    answeredAt: undefined,
    servesInPanic: false,
    inFlight: undefined,
    restarts: 0,
    lastExit: undefined,
    reason: "running",
  });
  assert.deepEqual(
    [pool?.workers[1]?.phase, pool?.workers[1]?.pid, pool?.workers[1]?.deadline],
    ["stopping", 101, 11_500],
  );
  assert.equal(pool?.workers.length, 2);
  rig.exit(0, 1);
  const exited = rig.view.pools[0]?.workers[1];
  assert.deepEqual(
    [exited?.phase, exited?.pid, exited?.spawnedAt, exited?.lastExit],
    ["down", undefined, undefined, { kind: "code", code: 1 }],
  );
});

test("the view shows a surge slot after its first use", () => {
  const rig = new ControllerRig().boot();
  const limit = { kind: "limitReached", at: rig.now, incarnation: 1, limit: "memory", reason: "too big" } as const;
  rig.send(0, 0, limit);
  assert.deepEqual(
    rig.view.pools[0]?.workers.map(({ id }) => id),
    ["web-0", "web-1", "web-2"],
  );
  rig.exit(0, 0);
  assert.equal(rig.view.pools[0]?.workers.length, 3);
  assert.equal(rig.view.pools[0]?.tally.rollouts.finished, 1);
});

test("a controller is healthy if every pool is healthy", () => {
  const rig = new ControllerRig({ pools: [poolSpec(), poolSpec({ name: "jobs", replicas: 1 })] });
  assert.equal(rig.view.healthy, false);
  rig.boot();
  assert.deepEqual([rig.view.healthy, rig.view.ready], [true, true]);
  rig.stop(1, 0);
  assert.deepEqual([rig.view.healthy, rig.view.ready], [false, false]);
});

/** A pool "web" behind its proxy. Both are ready. */
function proxied(changes: Partial<ControllerSpec> = {}): ControllerRig {
  const web = poolSpec({ replicas: 1, drainMs: 4000 });
  const proxy = poolSpec({
    name: "web-proxy",
    role: "proxy",
    fronts: "web",
    replicas: 1,
    readiness: { kind: "probed", timeoutMs: 5000 },
    rollout: { maxSurge: 0, maxUnavailable: 1, minReadyMs: 0 },
  });
  const rig = new ControllerRig({ pools: [web, proxy], ...changes }).boot();
  rig.send(1, 0, { kind: "becameReady", at: rig.now, incarnation: 1 });
  rig.take();
  return rig;
}

test("a proxy starts before its workers, and the controller is ready when both are ready", () => {
  const rig = proxied();
  assert.deepEqual(
    [...rig.processes.values()].map(({ pool }) => pool),
    [1, 0],
  );
  assert.equal(rig.state.phase, "running");
  assert.deepEqual(
    rig.view.pools.map(({ name, role, fronts }) => [name, role, fronts]),
    [
      ["web", "workers", undefined],
      ["web-proxy", "proxy", "web"],
    ],
  );
});

test("a shutdown drains the proxy first, then stops the workers, then the proxy", () => {
  const rig = proxied();
  rig.shutdown();
  assert.equal(rig.state.phase, "draining");
  assert.equal(rig.state.deadline, rig.now + 4000);
  assert.deepEqual(
    rig.effects.filter(({ kind }) => kind !== "emit"),
    [{ kind: "notifyStopping" }, { kind: "drainProxy", pool: 1 }],
  );
  assert.equal(rig.view.ready, false);
  rig.take();
  rig.step({ kind: "proxyDrained", at: rig.now, pool: 1 });
  assert.equal(rig.state.phase, "stopping");
  assert.deepEqual(
    rig.state.pools.map(({ workers }) => workers[0]?.phase),
    ["stopping", "ready"],
  );
  rig.exit(0, 0);
  assert.equal(rig.state.pools[1]?.workers[0]?.phase, "stopping");
  rig.exit(1, 0);
  assert.equal(rig.state.phase, "stopped");
});

test("a drain is limited by the pool's drain limit and by the shutdown timeout", () => {
  const rig = proxied();
  rig.shutdown();
  rig.pass(4000);
  assert.equal(rig.state.phase, "stopping");
  assert.equal(rig.state.deadline, rig.now + 56_000);
  const bounded = proxied({ shutdownTimeoutMs: 1000 });
  bounded.shutdown();
  assert.equal(bounded.state.deadline, bounded.now + 1000);
});

test("a shutdown does not wait for the drain of a proxy that does not run", () => {
  const rig = proxied();
  rig.exit(1, 0);
  rig.shutdown();
  assert.equal(rig.state.phase, "stopping");
});

test("a second shutdown request during the drain kills all workers at once", () => {
  const rig = proxied();
  rig.shutdown();
  rig.shutdown();
  assert.equal(rig.state.killing, true);
  assert.deepEqual(rig.state.draining, []);
});

test("a shutdown includes a proxy that an operator has stopped before", () => {
  const rig = proxied();
  const order = { kind: "stop", slots: [0] } as const;
  rig.step({ kind: "order", at: rig.now, pool: 1, id: "op-1", order, reason: "asked", random: 0.5 });
  rig.exit(1, 0);
  rig.shutdown();
  rig.exitAll();
  assert.equal(rig.state.phase, "stopped");
  assert.deepEqual(
    rig.state.pools.map(({ leaving }) => leaving),
    [true, true],
  );
});

test("an order starts an operation of its pool, and the view shows it while it runs", () => {
  const rig = new ControllerRig({ pools: [poolSpec({ drainMs: 100 })] }).boot();
  const order = { kind: "restart", slots: undefined } as const;
  rig.step({ kind: "order", at: rig.now, pool: 0, id: "op-1", order, reason: "asked", random: 0.5 });
  assert.deepEqual(rig.view.pools[0]?.operations, [
    {
      id: "op-1",
      what: "restart",
      done: 0,
      total: 2,
      startedAt: rig.now,
    },
  ]);
  assert.equal(rig.view.pools[0]?.workers[0]?.inFlight, 0);
});

test("a pool that is added during a shutdown starts no worker and does not delay it", () => {
  const rig = new ControllerRig().boot();
  rig.shutdown();
  rig.step({ kind: "addPools", at: rig.now, specs: [poolSpec({ name: "late" })] });
  const order = { kind: "reload", spec: poolSpec({ name: "late" }) } as const;
  rig.step({ kind: "order", at: rig.now, pool: 1, id: "op-1", order, reason: "asked", random: 0.5 });
  rig.exitAll();
  assert.equal(rig.state.phase, "stopped");
  assert.equal(rig.state.exitCode, 0);
});

test("a controller without pools runs on unhealthy, and is ready again when a pool is added", () => {
  const rig = new ControllerRig().boot();
  const order = { kind: "reload", spec: emptied(poolSpec()) } as const;
  rig.step({ kind: "order", at: rig.now, pool: 0, id: "op-1", order, reason: "asked", random: 0.5 });
  rig.exitAll();
  assert.deepEqual([rig.view.pools, rig.view.phase, rig.view.healthy, rig.view.ready], [[], "running", false, false]);
  rig.step({ kind: "addPools", at: rig.now, specs: [poolSpec({ name: "other" })] });
  const fill = { kind: "reload", spec: poolSpec({ name: "other" }) } as const;
  rig.step({ kind: "order", at: rig.now, pool: 1, id: "op-2", order: fill, reason: "asked", random: 0.5 });
  assert.deepEqual([rig.view.pools.map(({ name }) => name), rig.view.ready], [["other"], true]);
});

test("removing a pool also stops its standby workers", () => {
  const rig = new ControllerRig({ pools: [poolSpec(), poolSpec({ name: "backed", standby: 1 })] }).boot();
  const order = { kind: "reload", spec: emptied(poolSpec({ name: "backed", standby: 1 })) } as const;
  rig.step({ kind: "order", at: rig.now, pool: 1, id: "op-1", order, reason: "asked", random: 0.5 });
  for (const slot of [0, 1, 2]) rig.exit(1, slot);
  assert.deepEqual(
    rig.view.pools.map(({ name }) => name),
    ["web"],
  );
});

/** Pools of one worker with a restart policy. */
function jobs(...conditions: readonly PoolSpec["restart"]["condition"][]): PoolSpec[] {
  return conditions.map((condition, index) =>
    poolSpec({ name: `job${index}`, replicas: 1, restart: { ...poolSpec().restart, condition } }),
  );
}

test("a completed worker does not make its pool unhealthy, and the controller keeps running", () => {
  const rig = new ControllerRig({ pools: [...jobs("on-failure"), poolSpec({ replicas: 1 })] }).boot();
  rig.exit(0, 0, 0);
  assert.equal(rig.state.phase, "running");
  assert.deepEqual(
    rig.view.pools.map(({ healthy, readyCount }) => [healthy, readyCount]),
    [
      [true, 0],
      [true, 1],
    ],
  );
});

test("a worker that failed with restart policy never makes its pool unhealthy, and the controller keeps running", () => {
  const rig = new ControllerRig({ pools: [...jobs("never"), poolSpec({ replicas: 1 })] }).boot();
  rig.exit(0, 0, 1);
  assert.deepEqual([rig.state.phase, rig.view.pools[0]?.healthy], ["running", false]);
});

test("the controller exits with 0 when every worker has completed", () => {
  const rig = new ControllerRig({ pools: jobs("on-failure", "never") }).boot();
  rig.exit(0, 0, 0);
  rig.exit(1, 0, 0);
  assert.ok(rig.reasons.includes("controller_stopping: every worker completed"));
  assert.deepEqual(rig.take().slice(-1), ["!finish 0"]);
});

test("the controller exits with 1 when all workers have completed or failed and at least one has failed", () => {
  const rig = new ControllerRig({ pools: jobs("on-failure", "never") }).boot();
  rig.exit(1, 0, 3);
  rig.exit(0, 0, 0);
  assert.deepEqual(rig.take().slice(-1), ["!finish 1"]);
});

test("workers that exit by a signal during pre_stop_delay are replaced and do not count against the restart limit", () => {
  const { restart } = poolSpec();
  const pools = [poolSpec({ replicas: 1, restart: { ...restart, maxRestarts: 0 } })];
  const rig = new ControllerRig({ preStopDelayMs: 5000, pools }).boot();
  rig.shutdown();
  rig.exit(0, 0, 143);
  assert.deepEqual([rig.state.phase, rig.state.exitCode, rig.view.pools[0]?.readyCount], ["leaving", 0, 1]);
  // Once the stop has begun, the worker stays down.
  rig.pass(5000);
  rig.exit(0, 0, 143);
  assert.deepEqual(rig.take().slice(-1), ["!finish 0"]);
});

test("a stop signal that workers have received with their process group is not sent again", () => {
  const rig = new ControllerRig().boot();
  rig.step({ kind: "shutdown", at: rig.now, reason: "received SIGTERM", exitCode: 0, groupWaitMs: 50 });
  assert.deepEqual([rig.state.phase, rig.effects.some(({ kind }) => kind === "signal")], ["leaving", false]);
  rig.pass(10);
  rig.step({ kind: "groupSignaled", at: rig.now, signal: "SIGTERM" });
  rig.pass(50);
  assert.deepEqual([rig.state.phase, rig.effects.some(({ kind }) => kind === "signal")], ["stopping", false]);
});

test("without a group signal workers are sent their stop signal after the settle time", () => {
  const rig = new ControllerRig().boot();
  rig.step({ kind: "shutdown", at: rig.now, reason: "received SIGTERM", exitCode: 0, groupWaitMs: 50 });
  rig.pass(50);
  assert.equal(rig.effects.filter(({ kind }) => kind === "signal").length, 2);
});
