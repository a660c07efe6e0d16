import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "../../test/support/fakeClock.ts";
import { poolSpec } from "../../test/support/poolSpec.ts";
import { InvariantError } from "../base/errors.ts";
import type { LifecycleEvent } from "../core/event.ts";
import type { WorkerRef } from "../core/identity.ts";
import type { ControllerSpec, PoolSpec } from "../core/spec.ts";
import { Daemon } from "./daemon.ts";
import type { DriverListener, ProcessControl } from "./driver/driver.ts";

/** Processes that exist on paper: every spawn gets the next pid, from 100. */
class FakeProcesses implements ProcessControl {
  readonly asked: string[] = [];
  /** Called before each spawn; may throw. */
  beforeSpawn: (pool: number, slot: number) => void = () => {};
  /** Called when a spawn is confirmed; may throw. */
  onConfirm: (pool: number, slot: number) => void = () => {};
  #nextPid = 100;

  begin({ pool, slot, incarnation }: WorkerRef): () => number {
    this.beforeSpawn(pool, slot);
    this.asked.push(`spawn ${pool}/${slot} ${incarnation}`);
    const pid = this.#nextPid++;
    return () => {
      this.onConfirm(pool, slot);
      return pid;
    };
  }

  signal(leader: number, signal: string, scope: "group" | "escaped"): void {
    this.asked.push(`${signal} ${leader} ${scope}`);
  }

  kill(leader: number): void {
    this.asked.push(`kill ${leader}`);
  }

  take(): string[] {
    return this.asked.splice(0);
  }
}

/** Keeps all it hears as words; `onEmitted` may interfere. */
class RecordingListener implements DriverListener {
  readonly heard: string[] = [];
  readonly errors: unknown[] = [];
  changes = 0;
  onEmitted: (event: LifecycleEvent) => void = () => {};

  emitted(event: LifecycleEvent): void {
    this.heard.push("slot" in event ? `${event.kind} ${event.slot}` : event.kind);
    this.onEmitted(event);
  }
  /** Told after each event; counted, because every test would have to name it. */
  changed(): void {
    this.changes++;
  }
  drainProxy(pool: number): void {
    this.heard.push(`!drain ${pool}`);
  }
  ready(): void {
    this.heard.push("!ready");
  }
  stopping(): void {
    this.heard.push("!stopping");
  }
  finished(exitCode: number): void {
    this.heard.push(`!finished ${exitCode}`);
  }
  broken(error: unknown): void {
    this.heard.push("!broken");
    this.errors.push(error);
  }
  take(): string[] {
    return this.heard.splice(0);
  }
}

class Setting {
  readonly clock = new FakeClock();
  readonly processes = new FakeProcesses();
  readonly listener = new RecordingListener();
  readonly daemon: Daemon;

  constructor(pool: Partial<PoolSpec> = {}, controller: Partial<ControllerSpec> = {}) {
    const spec = {
      shutdownTimeoutMs: 60_000,
      preStopDelayMs: 0,
      startParallelism: undefined,
      pools: [poolSpec(pool)],
      ...controller,
    };
    const { clock, listener } = this;
    this.daemon = new Daemon({ spec, clock, random: () => 0.5, listener });
  }

  boot(): this {
    this.daemon.boot(this.processes);
    return this;
  }

  exit(slot: number, incarnation = 1): void {
    this.daemon.exited({ pool: 0, slot, incarnation }, { kind: "code", code: 3 }, false);
  }

  phases(): string[] {
    return this.daemon.view().pools.flatMap(({ workers }) => workers.map(({ phase }) => phase));
  }
}

test("boot spawns every replica and emits the events in order", () => {
  const { processes, listener, daemon } = new Setting().boot();
  assert.deepEqual(processes.take(), ["spawn 0/0 1", "spawn 0/1 1"]);
  assert.deepEqual(listener.take(), [
    "controller_started",
    "starting 0",
    "starting 1",
    "spawned 0",
    "ready 0",
    "spawned 1",
    "ready 1",
    "controller_ready",
    "!ready",
  ]);
  assert.equal(daemon.view().ready, true);
});

test("an event that a listener causes is handled after the current event", () => {
  const { daemon, listener, processes } = new Setting().boot();
  listener.take();
  processes.take();
  let depth = 0;
  listener.onEmitted = (event) => {
    depth++;
    assert.equal(depth, 1, "the daemon was entered again");
    if (event.kind === "exited" && event.slot === 0) daemon.order(0, "op-1", { kind: "stop", slots: [1] }, "asked");
    depth--;
  };
  daemon.exited({ pool: 0, slot: 0, incarnation: 1 }, { kind: "code", code: 3 }, false);
  assert.deepEqual(listener.take(), [
    "exited 0",
    "backing_off 0",
    "pool_degraded",
    "spawned 0",
    "ready 0",
    "pool_recovered",
    "operation_started",
    "stopping 1",
    "pool_degraded",
  ]);
  assert.deepEqual(processes.take(), ["spawn 0/0 2", "SIGTERM 101 group"]);
});

test("events are handled in the order of their arrival", () => {
  const { daemon, listener } = new Setting({ replicas: 3 }).boot();
  listener.take();
  listener.onEmitted = (event) => {
    if (event.kind !== "stopping" || event.slot !== 0) return;
    daemon.order(0, "op-2", { kind: "stop", slots: [2] }, "second");
    daemon.order(0, "op-1", { kind: "stop", slots: [1] }, "third");
  };
  daemon.order(0, "op-0", { kind: "stop", slots: [0] }, "first");
  assert.deepEqual(
    listener.take().filter((heard) => heard.startsWith("stopping")),
    ["stopping 0", "stopping 2", "stopping 1"],
  );
});

test("each worker has one timer, set to the deadline in its state", () => {
  const limits = { ...poolSpec().limits, lifespanMs: 60_000 };
  const { clock, daemon } = new Setting({ limits }).boot();
  assert.deepEqual(clock.armed, [61_000, 61_000]);
  daemon.order(0, "op-0", { kind: "stop", slots: [0] }, "asked");
  assert.deepEqual(clock.armed, [11_000, 61_000]);
  daemon.exited({ pool: 0, slot: 0, incarnation: 1 }, { kind: "code", code: 0 }, false);
  assert.deepEqual(clock.armed, [61_000]);
  const deadlines = daemon.view().pools.flatMap(({ workers }) => workers.map(({ deadline }) => deadline));
  assert.deepEqual(deadlines, [undefined, 61_000]);
});

test("a deadline that has passed is handled and leaves no timer", () => {
  const { clock, daemon, processes } = new Setting().boot();
  daemon.order(0, "op-0", { kind: "stop", slots: [0] }, "asked");
  processes.take();
  clock.pass(9999);
  assert.deepEqual(processes.take(), []);
  clock.pass(1);
  assert.deepEqual(processes.take(), ["kill 100"]);
  assert.deepEqual(clock.armed, []);
});

test("a timer that fires early is rearmed for the same instant", () => {
  const setting = new Setting().boot();
  const { clock, daemon, processes } = setting;
  daemon.order(0, "op-0", { kind: "stop", slots: [0] }, "asked");
  processes.take();
  clock.fireEarly();
  clock.fireEarly();
  assert.deepEqual(clock.armed, [11_000]);
  assert.deepEqual(processes.take(), []);
  clock.pass(10_000);
  assert.deepEqual(processes.take(), ["kill 100"]);
  assert.deepEqual(setting.phases(), ["stopping", "ready"]);
});

test("a rearmed timer is stopped when the deadline is cleared", () => {
  const setting = new Setting().boot();
  setting.daemon.order(0, "op-0", { kind: "stop", slots: [0] }, "asked");
  setting.clock.fireEarly();
  setting.exit(0);
  assert.deepEqual(setting.clock.armed, []);
});

test("the next incarnation is spawned after the backoff", () => {
  const setting = new Setting({ replicas: 1 }).boot();
  setting.exit(0);
  setting.exit(0, 2);
  assert.deepEqual(setting.phases(), ["backoff"]);
  assert.deepEqual(setting.clock.armed, [1100]);
  setting.clock.pass(100);
  assert.deepEqual(setting.processes.take(), ["spawn 0/0 1", "spawn 0/0 2", "spawn 0/0 3"]);
});

test("the exit of an earlier incarnation changes nothing", () => {
  const setting = new Setting().boot();
  setting.exit(0);
  const view = setting.daemon.view();
  setting.listener.take();
  setting.exit(0, 1);
  setting.daemon.vacated({ pool: 0, slot: 0, incarnation: 1 });
  assert.deepEqual(setting.daemon.view(), view);
  assert.deepEqual(setting.listener.take(), []);
});

test("up to four processes start before the first exec is confirmed, and all are confirmed in the end", () => {
  const setting = new Setting({ replicas: 6 });
  const { processes } = setting;
  processes.onConfirm = (pool, slot) => processes.asked.push(`confirm ${pool}/${slot}`);
  setting.boot();
  const [begun, confirmed] = ["spawn", "confirm"].map((what) => (slot: number) => `${what} 0/${slot}`);
  assert.deepEqual(
    processes.take().map((line) => line.replace(/^(spawn \S+) 1$/u, "$1")),
    [
      ...[0, 1, 2, 3, 4].map((slot) => begun?.(slot)),
      confirmed?.(0),
      begun?.(5),
      ...[1, 2, 3, 4, 5].map((slot) => confirmed?.(slot)),
    ],
  );
});

test("a failed exec is a failed spawn of that worker alone", () => {
  const setting = new Setting({ replicas: 2 });
  let failures = 1;
  setting.processes.onConfirm = (_, slot) => {
    if (slot === 0 && failures-- > 0) throw new Error("exec: ENOENT");
  };
  setting.boot();
  const heard = setting.listener.take().filter((event) => event.startsWith("spawn_failed"));
  assert.deepEqual(heard, ["spawn_failed 0"]);
  assert.deepEqual(setting.phases(), ["ready", "ready"]);
});

test("a failed spawn becomes an event and is retried with backoff", () => {
  const setting = new Setting({ replicas: 1 });
  const { processes, listener, clock } = setting;
  let failures = 2;
  processes.beforeSpawn = () => {
    if (failures-- > 0) throw new Error("posix_spawn: EAGAIN");
  };
  setting.boot();
  assert.deepEqual(listener.take(), [
    "controller_started",
    "starting 0",
    "spawn_failed 0",
    "backing_off 0",
    "spawn_failed 0",
    "backing_off 0",
  ]);
  assert.match(setting.daemon.view().pools[0]?.workers[0]?.reason ?? "", /^posix_spawn: EAGAIN; crash 2 in a row/u);
  clock.pass(100);
  assert.deepEqual(setting.phases(), ["ready"]);
});

test("anything that a spawn throws becomes the reason", () => {
  const setting = new Setting({ replicas: 1 });
  setting.processes.beforeSpawn = () => {
    setting.processes.beforeSpawn = () => {};
    throw "no error object";
  };
  setting.listener.onEmitted = (event) => {
    if (event.kind === "spawn_failed") assert.equal(event.reason, "no error object");
  };
  setting.boot();
  assert.deepEqual(setting.phases(), ["ready"]);
  assert.deepEqual(setting.listener.errors, []);
});

test("survivors of a crash are signaled, and the slot is reused after the last one has exited", () => {
  const { daemon, processes } = new Setting({ replicas: 1 }).boot();
  processes.take();
  daemon.exited({ pool: 0, slot: 0, incarnation: 1 }, { kind: "code", code: 1 }, true);
  assert.deepEqual(processes.take(), ["SIGTERM 100 group"]);
  daemon.vacated({ pool: 0, slot: 0, incarnation: 1 });
  assert.deepEqual(processes.take(), ["spawn 0/0 2"]);
});

test("processes that left the group of a stopped worker are signaled too", () => {
  const { daemon, processes } = new Setting({ replicas: 1 }).boot();
  daemon.order(0, "op-0", { kind: "stop", slots: [0] }, "asked");
  processes.take();
  daemon.exited({ pool: 0, slot: 0, incarnation: 1 }, { kind: "code", code: 0 }, true);
  assert.deepEqual(processes.take(), ["SIGTERM 100 escaped"]);
});

test("an order starts a stopped worker", () => {
  const setting = new Setting({ replicas: 1 }).boot();
  setting.daemon.order(0, "op-0", { kind: "stop", slots: [0] }, "asked");
  setting.exit(0);
  assert.deepEqual(setting.phases(), ["down"]);
  setting.daemon.order(0, "op-0", { kind: "start", slots: [0] }, "asked");
  assert.deepEqual(setting.phases(), ["ready"]);
});

test("a shutdown is emitted, limited in time, and finishes when no process is left", () => {
  const setting = new Setting({}, { preStopDelayMs: 5000 }).boot();
  const { daemon, listener, clock } = setting;
  listener.take();
  assert.equal(daemon.msSinceShutdownRequest(), undefined);
  daemon.shutdown("received SIGTERM");
  assert.deepEqual(listener.take(), ["controller_stopping", "!stopping"]);
  assert.deepEqual(clock.armed, [6000]);
  clock.pass(5000);
  assert.equal(daemon.msSinceShutdownRequest(), 5000);
  assert.deepEqual(clock.armed, [16_000, 16_000, 61_000]);
  setting.exit(0);
  setting.exit(1);
  assert.deepEqual(listener.take().slice(-2), ["controller_stopped", "!finished 0"]);
  assert.deepEqual(clock.armed, []);
});

test("the view is computed once per state", () => {
  const setting = new Setting().boot();
  const view = setting.daemon.view();
  assert.equal(setting.daemon.view(), view);
  setting.exit(0);
  assert.notEqual(setting.daemon.view(), view);
});

test("a listener that throws is a bug that kills every worker and is reported once", () => {
  const setting = new Setting().boot();
  const { listener, processes, daemon } = setting;
  listener.take();
  processes.take();
  const bug = new TypeError("undefined is not a function");
  listener.onEmitted = () => {
    throw bug;
  };
  daemon.order(0, "op-0", { kind: "stop", slots: [0] }, "asked");
  assert.deepEqual(processes.take(), ["SIGTERM 100 group", "kill 100", "kill 101"]);
  assert.deepEqual(listener.errors, [bug]);
  daemon.fail(new Error("another"));
  assert.equal(listener.errors.length, 1);
});

test("a bug during boot also kills workers whose start is not in the state yet", () => {
  const setting = new Setting({ replicas: 3 });
  setting.listener.onEmitted = (event) => {
    if (event.kind === "spawned") throw new Error("bug");
  };
  setting.boot();
  assert.deepEqual(setting.processes.take().slice(-3), ["kill 100", "kill 101", "kill 102"]);
  assert.equal(setting.listener.errors.length, 1);
});

test("after a bug no worker starts and no timer is left", () => {
  const setting = new Setting({}, { shutdownTimeoutMs: 60_000 }).boot();
  const { daemon, processes, listener, clock } = setting;
  daemon.shutdown("asked");
  daemon.fail(new InvariantError("impossible event"));
  processes.take();
  listener.take();
  assert.deepEqual(clock.armed, []);
  setting.exit(0);
  setting.exit(1);
  daemon.order(0, "op-0", { kind: "start", slots: [0] }, "asked");
  daemon.shutdown("again");
  assert.deepEqual(processes.take(), []);
  assert.deepEqual(listener.take(), []);
});

test("an invariant violation in a spawn is a bug, not a failed spawn", () => {
  const setting = new Setting();
  setting.processes.beforeSpawn = () => {
    throw new InvariantError("two live incarnations");
  };
  setting.boot();
  assert.deepEqual(setting.listener.errors, [new InvariantError("two live incarnations")]);
});

test("an order that needs a process before boot is a bug", () => {
  const { daemon, listener } = new Setting({ replicas: 1 });
  daemon.order(0, "op-0", { kind: "stop", slots: [0] }, "asked");
  assert.equal(listener.errors.length, 1);
  assert.match(String(listener.errors[0]), /a spawn before the boot/u);
});

/** A setting where every effect and event takes 1 ms. */
function slowSetting(replicas: number): Setting {
  const setting = new Setting({ replicas });
  setting.clock.drift = 1;
  return setting;
}

test("a large pool starts over many turns of the event loop, each with a limited number of effects", () => {
  const setting = slowSetting(200).boot();
  const { clock, processes, daemon } = setting;
  const perTurn = [processes.take().length];
  while (clock.turn()) perTurn.push(processes.take().length);
  assert.ok(Math.max(...perTurn) <= 10, `${perTurn}`);
  assert.equal(daemon.view().pools[0]?.readyCount, 200);
});

test("events that arrive between two turns are handled after the queued events, and none is lost", () => {
  const setting = slowSetting(50).boot();
  const { clock, daemon, listener } = setting;
  daemon.shutdown("received SIGTERM");
  assert.equal(daemon.view().shutdownRequests, 0);
  while (clock.turn()) {}
  assert.equal(daemon.view().shutdownRequests, 1);
  assert.deepEqual(setting.phases().slice(0, 50), Array(50).fill("stopping"));
  clock.drift = 0;
  for (let slot = 0; slot < 50; slot++)
    daemon.exited({ pool: 0, slot, incarnation: 1 }, { kind: "code", code: 0 }, false);
  assert.deepEqual(listener.take().slice(-2), ["controller_stopped", "!finished 0"]);
});

test("a timer that fires while an event that ends its phase waits for the next turn has no effect", () => {
  const setting = new Setting({ replicas: 1 }).boot();
  const { clock, daemon, processes, listener } = setting;
  setting.exit(0);
  setting.exit(0, 2);
  assert.deepEqual(setting.phases(), ["backoff"]);
  processes.take();
  clock.drift = 10;
  daemon.setPolicy({ shutdownTimeoutMs: 1234, preStopDelayMs: 0, startParallelism: undefined });
  daemon.order(0, "op-0", { kind: "start", slots: [0] }, "test");
  daemon.order(0, "op-1", { kind: "stop", slots: [0] }, "test");
  clock.drift = 0;
  clock.pass(100);
  while (clock.turn()) {}
  assert.deepEqual(listener.errors, []);
  assert.deepEqual(setting.phases(), ["down"]);
  assert.deepEqual(processes.take(), []);
});

test("pools and policies added between two turns are known at once", () => {
  const { clock, daemon } = slowSetting(50).boot();
  const index = daemon.addPools([poolSpec({ name: "jobs", replicas: 1 })]);
  daemon.setPolicy({ shutdownTimeoutMs: 1234, preStopDelayMs: 0, startParallelism: undefined });
  assert.equal(daemon.specOf(index).name, "jobs");
  assert.equal(daemon.policy.shutdownTimeoutMs, 1234);
  while (clock.turn()) {}
  assert.equal(daemon.view().pools[0]?.readyCount, 50);
});

test("a bug between two turns kills every started worker and starts no other", () => {
  const { clock, daemon, processes } = slowSetting(50).boot();
  const started = processes.take().length;
  daemon.fail(new Error("bug"));
  assert.deepEqual(
    processes.take(),
    Array.from({ length: started }, (_, index) => `kill ${100 + index}`),
  );
  while (clock.turn()) {}
  assert.deepEqual(processes.take(), []);
});
