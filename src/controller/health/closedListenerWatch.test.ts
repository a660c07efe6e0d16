import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import type { Listening } from "../../runtime/socket/socketOwners.ts";
import { ClosedListenerWatch } from "./closedListenerWatch.ts";

/** One watched worker that listened on 127.0.0.1:80 with socket 1. */
class Scene {
  readonly #clock = new FakeClock();
  readonly closed: string[] = [];
  /** The tables, the sockets that the worker holds, and whether its processes may be inspected. */
  tables: Listening | undefined = new Map([["1", "127.0.0.1:80"]]);
  held: Listening = new Map([["1", "127.0.0.1:80"]]);
  isRefused = false;
  inspections = 0;
  readonly watch = new ClosedListenerWatch({
    clock: this.#clock,
    owners: {
      listListening: () => Promise.resolve(this.tables),
      held: () => {
        this.inspections++;
        return Promise.resolve({ found: this.isRefused ? new Map() : this.held, isRefused: this.isRefused, tookMs: 0 });
      },
    },
    closed: (_worker, _asked, addresses) => this.closed.push(addresses.join()),
  });

  constructor() {
    this.watch.watch({ pool: 0, slot: 0, incarnation: 1 }, { leader: 1 }, this.held);
  }

  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      this.#clock.pass(1000);
      await turn();
    }
  }

  close(): void {
    this.tables = new Map();
    this.held = new Map();
  }
}

test("a worker that closes its only listener is reported once, after some seconds, with the address", async () => {
  const scene = new Scene();
  await scene.pass(10);
  scene.close();
  await scene.pass(3);
  assert.deepEqual(scene.closed, []);
  await scene.pass(20);
  assert.deepEqual(scene.closed, ["127.0.0.1:80"]);
});

test("a listener that is open for only a few seconds is not reported", async () => {
  const scene = new Scene();
  await scene.pass(3);
  scene.close();
  await scene.pass(60);
  assert.deepEqual(scene.closed, []);
});

test("the processes of a worker are not inspected while its socket listens", async () => {
  const scene = new Scene();
  await scene.pass(100);
  assert.equal(scene.inspections, 0);
});

test("a worker that replaces its listener, or closes it for a moment, is not reported", async () => {
  const scene = new Scene();
  scene.tables = scene.held = new Map([["2", "127.0.0.1:81"]]);
  await scene.pass(10);
  scene.close();
  await scene.pass(3);
  scene.tables = scene.held = new Map([["3", "127.0.0.1:81"]]);
  await scene.pass(3);
  scene.close();
  await scene.pass(3);
  assert.deepEqual(scene.closed, []);
  await scene.pass(3);
  assert.deepEqual(scene.closed, ["127.0.0.1:81"]);
});

test("missing evidence reports no worker", async () => {
  const refused = new Scene();
  refused.close();
  refused.isRefused = true;
  const unreadable = new Scene();
  unreadable.close();
  unreadable.tables = undefined;
  const forgotten = new Scene();
  forgotten.close();
  forgotten.watch.forget({ pool: 0, slot: 0, incarnation: 1 });
  for (const scene of [refused, unreadable, forgotten]) {
    await scene.pass(20);
    assert.deepEqual(scene.closed, []);
  }
});
