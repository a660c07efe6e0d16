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
import type { ExitStatus } from "./exit.ts";
import type { Order } from "./pool/order.ts";
import { type ControllerPolicy, emptied, type PoolSpec } from "./spec.ts";
import type { PoolView } from "./view.ts";
import { viewOf } from "./viewOf.ts";
import type { WorkerEvent } from "./worker/event.ts";
import type { WorkerState } from "./worker/state.ts";

const PROBED = { readiness: { kind: "probed", timeoutMs: 10_000 } } as const;
const POLICY: ControllerPolicy = { shutdownTimeoutMs: 60_000, preStopDelayMs: 0, startParallelism: undefined };

/** A service whose workers are ready when the test says so. */
function service(name: string, changes: Partial<PoolSpec> = {}): PoolSpec {
  return poolSpec({ name, replicas: 1, ...PROBED, ...changes });
}

/** As the configuration makes it. */
function oneshot(name: string, changes: Partial<PoolSpec> = {}): PoolSpec {
  const base = poolSpec();
  return poolSpec({
    name,
    type: "oneshot",
    replicas: 1,
    readiness: { kind: "observed", surviveMs: 1000 },
    restart: { ...base.restart, condition: "on-failure", maxRestarts: 0 },
    rollout: { maxSurge: 0, maxUnavailable: { percent: 100 }, minReadyMs: 0 },
    ...changes,
  });
}

/** A controller whose spawns succeed at once. */
class Rig {
  state: ControllerState;
  now: Instant = instant(1000);
  /** `<pool>-<slot>` of each spawned process, and what happened, in order. */
  readonly log: string[] = [];
  exitCode: number | undefined;
  #lastPid = 100;
  #lastOrder = 0;

  constructor(pools: readonly PoolSpec[], policy: Partial<ControllerPolicy> = {}) {
    this.state = newController({ ...POLICY, ...policy, pools }, this.now);
    this.step({ kind: "boot", at: this.now, random: 0.5 });
  }

  step(event: ControllerEvent): void {
    const { state, effects } = stepController(this.state, event);
    this.state = state;
    const spawned = effects.flatMap((effect) => this.#perform(effect));
    for (const answer of spawned) this.step(answer);
  }

  #perform(effect: ControllerEffect): ControllerEvent[] {
    if (effect.kind === "finish") this.exitCode = effect.exitCode;
    if (effect.kind === "kill") this.log.push(`${this.state.pools[effect.pool]?.spec.name}-${effect.slot} killed`);
    if (effect.kind === "emit") {
      const { kind } = effect.event;
      if (kind === "pool_blocked" || kind === "pool_unblocked" || kind.startsWith("operation_f"))
        this.log.push(`${"pool" in effect.event ? effect.event.pool : ""} ${kind}`);
    }
    if (effect.kind !== "spawn") return [];
    const { pool, slot, incarnation } = effect;
    this.log.push(`${this.state.pools[pool]?.spec.name}-${slot}`);
    const event = { kind: "spawned", at: this.now, incarnation, pid: ++this.#lastPid, random: 0.5 } as const;
    return [{ kind: "worker", pool, slot, event, random: 0.5 }];
  }

  /** What has been logged since the last call. */
  took(): string[] {
    return this.log.splice(0);
  }

  index(name: string): number {
    return this.state.pools.findIndex(({ spec }) => spec.name === name);
  }

  worker(name: string, slot = 0): WorkerState {
    const worker = this.state.pools[this.index(name)]?.workers[slot];
    assert.ok(worker !== undefined);
    return worker;
  }

  view(name: string): PoolView {
    const view = viewOf(this.state).pools.find((pool) => pool.name === name);
    assert.ok(view !== undefined);
    return view;
  }

  send(name: string, event: WorkerEvent, slot = 0): void {
    this.step({ kind: "worker", pool: this.index(name), slot, event, random: 0.5 });
  }

  ready(name: string, slot = 0): void {
    this.send(name, { kind: "becameReady", at: this.now, incarnation: this.worker(name, slot).incarnation }, slot);
  }

  exit(name: string, code: number, slot = 0): void {
    const status: ExitStatus = { kind: "code", code };
    const { incarnation } = this.worker(name, slot);
    this.send(name, { kind: "exited", at: this.now, incarnation, status, survivors: false, random: 0.5 }, slot);
  }

  order(name: string, order: Order): void {
    const id = `op-${++this.#lastOrder}`;
    this.step({ kind: "order", at: this.now, pool: this.index(name), id, order, reason: "test", random: 0.5 });
  }

  add(spec: PoolSpec): void {
    this.step({ kind: "addPools", at: this.now, specs: [spec] });
    this.order(spec.name, { kind: "reload", spec });
  }

  shutDown(): void {
    this.step({ kind: "shutdown", at: this.now, reason: "test", exitCode: 0 });
  }
}

test("pools start when what they depend on has started, is ready, or has completed", () => {
  const rig = new Rig([
    service("web", { dependsOn: { api: "ready", migrate: "completed" } }),
    service("api", { dependsOn: { db: "started" } }),
    service("db"),
    oneshot("migrate"),
  ]);
  assert.deepEqual(rig.took(), [
    "db-0",
    "migrate-0",
    "web pool_blocked",
    "api pool_blocked",
    "api pool_unblocked",
    "api-0",
  ]);
  const { waitsFor, healthy, workers } = rig.view("web");
  assert.equal(waitsFor, 'waiting for pool "api" to become ready and pool "migrate" to complete');
  assert.deepEqual([healthy, workers[0]?.phase, workers[0]?.reason], [false, "starting", waitsFor]);
  rig.ready("api");
  assert.equal(rig.view("web").waitsFor, 'waiting for pool "migrate" to complete');
  rig.took();
  rig.exit("migrate", 0);
  assert.deepEqual(rig.took(), ["web pool_unblocked", "web-0"]);
  assert.deepEqual([rig.view("web").waitsFor, rig.view("migrate").workers[0]?.phase], [undefined, "completed"]);
  rig.ready("web");
  rig.ready("db");
  assert.ok(viewOf(rig.state).ready);
});

test("a dependency that fails later does not stop what depends on it", () => {
  const rig = new Rig([service("web", { dependsOn: { db: "ready" } }), service("db")]);
  rig.ready("db");
  rig.ready("web");
  rig.exit("db", 1);
  assert.equal(rig.worker("web").phase, "ready");
  rig.took();
  rig.exit("web", 1);
  assert.deepEqual(rig.took(), ["web-0"], "it restarts although its dependency is not ready");
});

test("a failed oneshot pool ends the controller with its reason, and what depends on it never starts", () => {
  const rig = new Rig([service("web", { dependsOn: { migrate: "completed" } }), oneshot("migrate"), service("db")]);
  rig.exit("migrate", 3);
  assert.equal(
    rig.state.reason,
    'pool "migrate" failed: migrate-0 exited with code 3; 1 crash or failed start within 10m; the limit is 0',
  );
  rig.exit("db", 0);
  assert.equal(rig.exitCode, 1);
  assert.ok(!rig.log.includes("web-0"));
});

test("a oneshot pool that gave up blocks what depends on it, and its next success opens it", () => {
  const base = oneshot("migrate");
  const rig = new Rig([
    service("web", { dependsOn: { api: "ready" } }),
    service("api", { dependsOn: { migrate: "completed" } }),
    { ...base, restart: { ...base.restart, onExhausted: "give-up-worker" } },
    service("db"),
  ]);
  rig.exit("migrate", 3);
  assert.equal(rig.view("api").waitsFor, 'waiting for pool "migrate" to complete, but it failed');
  assert.equal(rig.view("web").waitsFor, 'waiting for pool "api" to become ready, but it cannot start');
  rig.took();
  rig.order("migrate", { kind: "restart", slots: undefined });
  assert.equal(rig.view("web").waitsFor, 'waiting for pool "api" to become ready');
  rig.exit("migrate", 0);
  assert.ok(rig.took().includes("api-0"));
});

test("if no worker is left and a pool cannot start, the controller exits with 1", () => {
  const base = oneshot("migrate");
  const rig = new Rig([
    service("web", { dependsOn: { migrate: "completed" } }),
    { ...base, restart: { ...base.restart, onExhausted: "give-up-worker" } },
  ]);
  rig.exit("migrate", 3);
  assert.equal(rig.exitCode, 1);
});

test("a run that an operation began fails the operation and not the controller", () => {
  const rig = new Rig([oneshot("migrate"), service("web")]);
  rig.ready("web");
  rig.exit("migrate", 0);
  rig.took();
  rig.order("migrate", { kind: "reload", spec: oneshot("migrate", { revision: 2 }) });
  assert.deepEqual(rig.took(), ["migrate-0"]);
  rig.exit("migrate", 3);
  assert.deepEqual(rig.took(), ["migrate operation_failed"]);
  assert.deepEqual([rig.state.phase, rig.worker("migrate").phase], ["running", "down"]);
  assert.equal(rig.view("migrate").healthy, true, "oneshot pools do not count for health");
  rig.order("migrate", { kind: "restart", slots: undefined });
  rig.exit("migrate", 0);
  assert.deepEqual(rig.took(), ["migrate-0", "migrate operation_finished"]);
});

test("a run in progress is stopped before the pool runs again", () => {
  const rig = new Rig([oneshot("migrate"), service("web")]);
  const isRunning = () => {
    const [worker] = rig.view("migrate").workers;
    assert.deepEqual([worker?.phase, worker?.deadline, worker?.isProving], ["running", undefined, false]);
  };
  isRunning();
  rig.now = after(rig.now, 1000);
  rig.send("migrate", { kind: "deadline", at: rig.now, random: 0.5 });
  isRunning();
  rig.now = after(rig.now, 1000);
  rig.took();
  rig.order("migrate", { kind: "restart", slots: undefined });
  assert.deepEqual([rig.worker("migrate").phase, rig.took()], ["stopping", []]);
  rig.exit("migrate", 143);
  assert.deepEqual(rig.took(), ["migrate-0"]);
  rig.exit("migrate", 0);
  assert.deepEqual(rig.took(), ["migrate operation_finished"]);
});

test("a pool that a reload adds fails if what it depends on fails", () => {
  const rig = new Rig([service("db")]);
  rig.ready("db");
  rig.took();
  rig.add(service("web", { dependsOn: { migrate: "completed" } }));
  rig.add(oneshot("migrate"));
  assert.deepEqual(rig.took(), ["web pool_blocked", "migrate-0"]);
  rig.exit("migrate", 1);
  assert.deepEqual(rig.took(), ["migrate operation_failed", "web pool_blocked", "web operation_failed"]);
  assert.equal(rig.state.phase, "running");
  // What the reload then does with both.
  for (const name of ["web", "migrate"]) rig.order(name, { kind: "reload", spec: emptied(service(name)) });
  assert.deepEqual(
    viewOf(rig.state).pools.map(({ name }) => name),
    ["db"],
  );
});

test("pools stop in the reverse order, each after the drain of its proxy, and a second signal kills all", () => {
  const fronts = (name: string) =>
    service(`${name}-proxy`, {
      role: "proxy",
      fronts: name,
      rollout: { maxSurge: 0, maxUnavailable: 1, minReadyMs: 0 },
    });
  const boot = () => {
    const rig = new Rig([service("web", { dependsOn: { api: "ready" } }), service("api"), fronts("api")]);
    for (const name of ["api-proxy", "api", "web"]) rig.ready(name);
    rig.took();
    rig.shutDown();
    return rig;
  };
  const rig = boot();
  assert.deepEqual([rig.worker("web").phase, rig.worker("api").phase, rig.state.draining], ["stopping", "ready", []]);
  rig.exit("api", 143);
  assert.deepEqual(rig.took(), ["api-0"], "what still has dependents is kept running");
  rig.exit("web", 143);
  assert.deepEqual([rig.state.phase, rig.state.draining], ["draining", [rig.index("api-proxy")]]);
  rig.step({ kind: "proxyDrained", at: rig.now, pool: rig.index("api-proxy") });
  assert.deepEqual([rig.worker("api").phase, rig.worker("api-proxy").phase], ["stopping", "ready"]);
  rig.exit("api", 143);
  rig.exit("api-proxy", 0);
  assert.equal(rig.exitCode, 0);

  const impatient = boot();
  impatient.shutDown();
  assert.deepEqual(impatient.took().toSorted(), ["api-0 killed", "api-proxy-0 killed", "web-0 killed"]);
});

test("start_parallelism bounds all boots, and a proxy does not count", () => {
  const rig = new Rig(
    [service("a", { replicas: 2 }), service("b", { replicas: 2 }), service("a-proxy", { role: "proxy", fronts: "a" })],
    { startParallelism: 1 },
  );
  assert.deepEqual(rig.took(), ["a-proxy-0", "a-0"]);
  const [, second] = rig.view("a").workers;
  assert.deepEqual([second?.phase, second?.pid], ["starting", undefined]);
  assert.match(second?.reason ?? "", /^waits until fewer workers are starting \(supervisor\.start_parallelism\)/u);
  rig.ready("a");
  assert.deepEqual(rig.took(), ["a-1"]);
  rig.now = after(rig.now, 10_000);
  rig.send("a", { kind: "deadline", at: rig.now, random: 0.5 }, 1);
  assert.deepEqual(rig.took(), ["b-0"], "a worker that never gets ready gives way");
  rig.step({ kind: "setPolicy", at: rig.now, policy: { ...POLICY, startParallelism: 2 } });
  assert.deepEqual(rig.took(), ["b-1"]);
});

test("restarts of a pool that has been healthy come before first starts", () => {
  const rig = new Rig([service("a"), service("b"), service("c")], { startParallelism: 1 });
  rig.ready("a");
  assert.deepEqual(rig.took(), ["a-0", "b-0"]);
  rig.now = after(rig.now, 5);
  rig.exit("a", 1);
  assert.deepEqual(rig.took(), []);
  rig.ready("b");
  assert.deepEqual(rig.took(), ["a-0"]);
  rig.ready("a");
  assert.deepEqual(rig.took(), ["c-0"]);
});

test("failed runs are repeated only as max_restarts allows", () => {
  const base = oneshot("migrate");
  const rig = new Rig([{ ...base, restart: { ...base.restart, maxRestarts: 1 } }, service("web")]);
  rig.exit("migrate", 3);
  assert.equal(rig.state.phase, "booting");
  rig.exit("migrate", 0);
  assert.equal(rig.view("migrate").workers[0]?.phase, "completed");
});
