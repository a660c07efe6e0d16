import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { controllerView, poolView, workerView } from "../../../test/support/view.ts";
import type { PoolView } from "../../core/view.ts";
import { BalanceWatch } from "./balanceWatch.ts";

/** Ready workers, of which slot 0 uses a whole CPU and the others none. */
class Scene {
  readonly #clock = new FakeClock();
  readonly read: number[] = [];
  #cpuSeconds = 0;
  readonly watch: BalanceWatch;

  constructor(pools: readonly PoolView[]) {
    const usage = (pid: number) => ({ cpuSeconds: this.#cpuSecondsOf(pid), residentBytes: 0, processCount: 1 });
    const sources = {
      view: () => controllerView(pools),
      proxies: () => new Map(),
      usages: {
        read: (pids: Iterable<number>) => {
          this.read.push(...pids);
          return new Map([...pids].map((pid) => [pid, usage(pid)]));
        },
      },
    };
    this.watch = new BalanceWatch(sources, this.#clock);
  }

  #cpuSecondsOf(pid: number): number {
    return pid === 100 ? this.#cpuSeconds : 0;
  }

  look() {
    return this.watch.look((pid) => this.#cpuSecondsOf(pid));
  }

  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      this.#cpuSeconds++;
      this.#clock.pass(1000);
      await turn();
    }
  }
}

test("a query compares with an earlier sample, the first of which is taken after two seconds", async () => {
  const scene = new Scene([poolView([workerView(0, "ready"), workerView(1, "ready")])]);
  await scene.pass(1);
  assert.equal(scene.look().get("web")?.cpuSpread, undefined);
  await scene.pass(4);
  const balance = scene.look().get("web");
  assert.equal(balance?.cpuSpread, 2);
  assert.deepEqual(
    balance?.workers.map(({ slot, watchedMs, cpuRatio }) => [slot, watchedMs, cpuRatio]),
    [
      [0, 3000, 1],
      [1, 3000, 0],
    ],
  );
});

test("samples are not taken of a proxy, of a single worker, and of workers that are not ready", async () => {
  const proxy = poolView([workerView(0, "ready"), workerView(1, "ready")], { name: "web-proxy", role: "proxy" });
  const single = poolView([workerView(0, "ready")], { name: "single" });
  const starting = poolView([workerView(0, "ready"), workerView(1, "starting")], { name: "starting" });
  const scene = new Scene([proxy, single, starting]);
  await scene.pass(5);
  assert.deepEqual(scene.read, [100, 101], "the pool with two processes");
  const balances = scene.look();
  assert.deepEqual([...balances.keys()], ["single", "starting"]);
  assert.deepEqual(balances.get("single")?.workers, []);
  assert.deepEqual(
    balances.get("starting")?.workers.map(({ slot }) => slot),
    [0],
  );
});
