import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import { controllerView, poolView, workerView } from "../../../test/support/view.ts";
import { instant } from "../../base/time.ts";
import type { AutoscalePolicy } from "../../core/spec.ts";
import type { PoolView } from "../../core/view.ts";
import { Autoscaler } from "./autoscaler.ts";

const POLICY: AutoscalePolicy = {
  minReplicas: 1,
  maxReplicas: 8,
  targetCpu: 0.5,
  targetInFlight: undefined,
  upAfterMs: 4000,
  downAfterMs: 60_000,
};

/** Pool "web" with two ready workers and a standby worker, each of which uses `cpus`. */
class Scene {
  readonly clock = new FakeClock();
  readonly orders: string[] = [];
  policy: AutoscalePolicy | undefined;
  cpus = 1;
  #cpuSeconds = 0;
  inFlight = 0;
  pool: PoolView = poolView([
    workerView(0, "ready"),
    workerView(1, "ready"),
    workerView(2, "ready", { isStandby: true }),
  ]);
  readonly autoscaler: Autoscaler;

  constructor(policy: AutoscalePolicy | undefined) {
    this.policy = policy;
    this.autoscaler = new Autoscaler({
      clock: this.clock,
      daemon: {
        view: () => controllerView([this.pool]),
        specOf: () => poolSpec({ autoscale: this.policy }),
      },
      usages: {
        read: (pids) =>
          new Map([...pids].map((pid) => [pid, { cpuSeconds: this.#cpuSeconds, residentBytes: 0, processCount: 1 }])),
      },
      proxies: () => {
        const { inFlight } = this;
        const worker = { requestsTotal: 0, failedTotal: 0, inFlight, failedActiveCheck: false };
        return new Map([["web", { workers: new Map([0, 1, 2].map((slot) => [slot, worker])) }]]);
      },
      scale: (pool, replicas, reason) => this.orders.push(`${pool} to ${replicas}: ${reason}`),
    });
  }

  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      this.#cpuSeconds += this.cpus;
      this.clock.pass(1000);
      await turn();
    }
  }
}

test("a pool grows with the CPU time of its ready workers, after they have been seen twice", async () => {
  const scene = new Scene(POLICY);
  await scene.pass(7);
  assert.deepEqual(scene.orders, []);
  await scene.pass(1);
  assert.deepEqual(scene.orders, ["0 to 4: more wanted for 4s: 1 CPUs a worker, the target is 0.5"]);
});

test("requests in flight of standby workers do not count", async () => {
  const scene = new Scene({ ...POLICY, targetCpu: undefined, targetInFlight: 2 });
  scene.inFlight = 5;
  await scene.pass(6);
  assert.deepEqual(scene.orders, ["0 to 5: more wanted for 4s: 5 requests in flight a worker, the target is 2"]);
});

test("a pool that an operation changes is not scaled", async () => {
  const scene = new Scene(POLICY);
  const restart = { id: "op-1", what: "restart", done: 0, total: 2, startedAt: instant(0) } as const;
  scene.pool = { ...scene.pool, operations: [restart] };
  await scene.pass(20);
  assert.deepEqual(scene.orders, []);
  scene.pool = { ...scene.pool, operations: [] };
  await scene.pass(6);
  assert.equal(scene.orders.length, 1);
});

test("no timer runs until a reload adds an autoscaled pool", () => {
  const scene = new Scene(undefined);
  const reload = {
    kind: "operation_started",
    pool: "web",
    operation: "op-1",
    what: "reload",
    done: 0,
    total: 0,
    reason: "",
  } as const;
  scene.autoscaler.handle(reload);
  assert.deepEqual(scene.clock.armed, []);
  scene.policy = POLICY;
  scene.autoscaler.handle(reload);
  assert.equal(scene.clock.armed.length, 1);
});
