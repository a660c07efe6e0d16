import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { refKey } from "../../core/identity.ts";
import type { Listening } from "../../runtime/socket/socketOwners.ts";
import { ListeningWatch } from "./listeningWatch.ts";

/** One waiting worker, on a machine whose socket 1 listened before the controller started. */
class Scene {
  readonly #clock = new FakeClock();
  readonly found: string[] = [];
  tables: Listening = new Map([["1", "0.0.0.0:22"]]);
  held: Listening = new Map();
  reads = 0;
  inspections = 0;
  tookMs = 0;
  readonly watch = new ListeningWatch({
    clock: this.#clock,
    owners: {
      listNow: () => this.tables,
      listListening: () => {
        this.reads++;
        return Promise.resolve(this.tables);
      },
      held: () => {
        this.inspections++;
        return Promise.resolve({ found: this.held, isRefused: false, tookMs: this.tookMs });
      },
    },
    listens: (worker, _asked, found) => this.found.push(`${refKey(worker)} on ${[...found.values()].join()}`),
  });

  constructor() {
    this.watch.begin();
    this.watch.watch({ pool: 0, slot: 0, incarnation: 1 }, { leader: 100 });
  }

  listen(inode: string, address: string, isOwn: boolean): void {
    this.tables = new Map([...this.tables, [inode, address]]);
    if (isOwn) this.held = new Map([[inode, address]]);
  }

  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 100) {
      this.#clock.pass(100);
      await turn();
    }
  }
}

test("a worker that opens a listener is found once, with its address", async () => {
  const scene = new Scene();
  await scene.pass(500);
  scene.listen("2", "127.0.0.1:80", true);
  await scene.pass(1000);
  assert.deepEqual(scene.found, ["0/0/1 on 127.0.0.1:80"]);
  await scene.pass(10_000);
  assert.equal(scene.found.length, 1);
});

test("processes are inspected only after a new socket listens, and then three times", async () => {
  const scene = new Scene();
  await scene.pass(10_000);
  assert.equal(scene.inspections, 0);
  scene.listen("2", "127.0.0.1:81", false);
  await scene.pass(60_000);
  assert.equal(scene.inspections, 3);
});

test("looks become rarer with the age of the youngest worker, and stop when no worker waits", async () => {
  const scene = new Scene();
  await scene.pass(1000);
  const early = scene.reads;
  await scene.pass(9000);
  assert.ok(early >= 3 && scene.reads - early < 3 * early, `${early} reads in the first second, ${scene.reads} in all`);
  scene.watch.watch({ pool: 0, slot: 1, incarnation: 1 }, { leader: 101 });
  const before = scene.reads;
  await scene.pass(200);
  assert.ok(scene.reads > before, "a new worker is looked for soon");
  scene.watch.forget({ pool: 0, slot: 0, incarnation: 1 });
  scene.watch.forget({ pool: 0, slot: 1, incarnation: 1 });
  await scene.pass(60_000);
  const last = scene.reads;
  await scene.pass(60_000);
  assert.equal(scene.reads, last);
});

test("slow inspections are followed by a pause ten times as long", async () => {
  const scene = new Scene();
  scene.tookMs = 200;
  scene.listen("2", "127.0.0.1:81", false);
  await scene.pass(100);
  assert.equal(scene.inspections, 1);
  await scene.pass(1900);
  assert.equal(scene.inspections, 1);
  await scene.pass(100);
  assert.equal(scene.inspections, 2);
});
