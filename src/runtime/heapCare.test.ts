import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { HeapCare } from "./heapCare.ts";

const MIB = 1 << 20;

/** A heap of 20 MiB whose garbage a collection frees, under a clock that the test moves. */
class Scene {
  readonly #context: TestContext;
  nowMs = 0;
  activity = 0;
  garbageBytes = 0;
  readonly collections: string[] = [];

  constructor(context: TestContext) {
    this.#context = context;
    context.mock.timers.enable({ apis: ["setTimeout"] });
    context.mock.method(process, "hrtime", () => [0, this.nowMs * 1e6]);
    const care = new HeapCare(() => this.activity, {
      read: () => ({ total_heap_size: 20 * MIB + this.garbageBytes, used_heap_size: 20 * MIB + this.garbageBytes }),
      collect: (flushesCode) => this.#collect(flushesCode ? "full, with code" : "full"),
      collectQuickly: () => this.#collect("quick"),
    });
    context.after(() => care.close());
  }

  #collect(how: string): void {
    this.collections.push(`${how} at ${this.nowMs / 1000}s`);
    this.garbageBytes = 0;
  }

  /** Lets time pass, busy or idle, while garbage accumulates. */
  pass(seconds: number, { isBusy, garbagePerSecond = 0 }: { isBusy: boolean; garbagePerSecond?: number }): void {
    for (let halves = 0; halves < seconds * 2; halves++) {
      this.nowMs += 500;
      this.garbageBytes += garbagePerSecond / 2;
      if (isBusy) this.activity++;
      this.#context.mock.timers.tick(500);
    }
  }
}

test("a busy controller collects its garbage quickly, once a minute", (context) => {
  const scene = new Scene(context);
  scene.pass(200, { isBusy: true, garbagePerSecond: MIB });
  assert.deepEqual(scene.collections, ["quick at 60s", "quick at 120s", "quick at 180s"]);
});

test("a busy controller with less than a megabyte of garbage does not collect", (context) => {
  const scene = new Scene(context);
  scene.pass(60, { isBusy: true, garbagePerSecond: MIB });
  scene.pass(200, { isBusy: true, garbagePerSecond: MIB / 250 });
  assert.deepEqual(scene.collections, ["quick at 60s"]);
});

test("an idle controller collects thoroughly, the code of its startup once", (context) => {
  const scene = new Scene(context);
  scene.pass(30, { isBusy: false });
  assert.deepEqual(scene.collections, ["full, with code at 5s"]);
  scene.garbageBytes = 4 * MIB;
  scene.pass(30, { isBusy: false });
  assert.deepEqual(scene.collections.slice(1), ["full at 35s"]);
});
