import assert from "node:assert/strict";
import { test } from "node:test";
import { refKey, type WorkerRef } from "../../core/identity.ts";
import { ReadinessGate } from "./readinessGate.ts";

class Scene {
  readonly changes: string[] = [];
  readonly gate = new ReadinessGate({
    becameReady: (worker) => this.changes.push(`ready ${refKey(worker)}`),
    becameUnready: (worker, reason) => this.changes.push(`unready ${refKey(worker)}: ${reason}`),
  });

  take(): string[] {
    return this.changes.splice(0);
  }
}

const WORKER: WorkerRef = { pool: 0, slot: 1, incarnation: 3 };

test("a worker is ready when no source objects, and each change is emitted once", () => {
  const scene = new Scene();
  const { gate } = scene;
  const take = () => scene.take();
  gate.begin(WORKER);
  gate.object(WORKER, "owner", "foreign process");
  gate.withdraw(WORKER, "readiness");
  assert.deepEqual(take(), []);
  gate.withdraw(WORKER, "owner");
  assert.deepEqual(take(), ["ready 0/1/3"]);
  gate.object(WORKER, "readiness", "HTTP 500");
  gate.object(WORKER, "owner", "foreign process");
  assert.deepEqual(take(), ["unready 0/1/3: HTTP 500"]);
  gate.withdraw(WORKER, "readiness");
  assert.deepEqual(take(), [], "the foreign process still listens");
  gate.withdraw(WORKER, "owner");
  gate.withdraw(WORKER, "owner");
  assert.deepEqual(take(), ["ready 0/1/3"]);
});

test("a stalled accept queue makes every worker of its pool unready, including later ones", () => {
  const scene = new Scene();
  const { gate } = scene;
  gate.begin(WORKER);
  gate.withdraw(WORKER, "readiness");
  gate.begin({ pool: 9, slot: 1, incarnation: 1 });
  gate.withdraw({ pool: 9, slot: 1, incarnation: 1 }, "readiness");
  scene.take();
  gate.setStalled(0, "no process accepts connections");
  gate.begin({ pool: 0, slot: 2, incarnation: 1 });
  gate.withdraw({ pool: 0, slot: 2, incarnation: 1 }, "readiness");
  assert.deepEqual(scene.take(), ["unready 0/1/3: no process accepts connections"]);
  gate.setStalled(0, undefined);
  assert.deepEqual(scene.take(), ["ready 0/1/3", "ready 0/2/1"]);
});

test("a worker that counts as ready by its uptime is unready at once while its pool is stalled", () => {
  const scene = new Scene();
  scene.gate.begin(WORKER);
  scene.gate.accept(WORKER);
  assert.deepEqual(scene.take(), [], "it is known to be ready");
  scene.gate.setStalled(0, "no process accepts connections");
  scene.gate.begin({ pool: 0, slot: 1, incarnation: 4 });
  scene.take();
  scene.gate.accept({ pool: 0, slot: 1, incarnation: 4 });
  assert.deepEqual(scene.take(), ["unready 0/1/4: no process accepts connections"]);
});

test("events of an incarnation that has exited change nothing", () => {
  const scene = new Scene();
  scene.gate.begin(WORKER);
  scene.gate.begin({ pool: 0, slot: 1, incarnation: 4 });
  scene.gate.withdraw(WORKER, "readiness");
  scene.gate.forget(WORKER);
  assert.deepEqual(scene.take(), []);
  scene.gate.withdraw({ pool: 0, slot: 1, incarnation: 4 }, "readiness");
  assert.deepEqual(scene.take(), ["ready 0/1/4"]);
});
