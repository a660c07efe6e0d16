import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { controllerView, poolView, workerView } from "../../../test/support/view.ts";
import type { ReloadPlan } from "../../admin/api.ts";
import type { Logger } from "../../base/log.ts";
import type { WorkerView } from "../../core/view.ts";
import { SourceWatch } from "./sourceWatch.ts";
import type { TreeWatchListener } from "./treeWatch.ts";

/** Pools "web" and "api" in directories of their own, and a configuration beside them. */
class Scene implements Disposable {
  readonly root = realpathSync(mkdtempSync(join(tmpdir(), "monoceros-sources-")));
  readonly clock = new FakeClock();
  readonly orders: string[] = [];
  readonly lines: string[] = [];
  reload: () => Promise<ReloadPlan> = () =>
    Promise.resolve({ changes: ["web: args"], refused: [], failed: [], operations: [] });
  readonly watch: SourceWatch;
  #listener: TreeWatchListener | undefined;

  /** `workers` of pool "web". */
  constructor(workers: readonly WorkerView[] = [workerView(0, "ready")]) {
    mkdirSync(join(this.root, "web"));
    mkdirSync(join(this.root, "api"));
    const note = (message: string) => void this.lines.push(message);
    const log: Logger = { debug: note, info: note, warn: note, error: note };
    const pools = [
      poolView(workers, { index: 0, name: "web" }),
      poolView([], { index: 1, name: "web-proxy", role: "proxy", fronts: "web" }),
      poolView([workerView(0, "ready")], { index: 2, name: "api" }),
    ];
    this.watch = new SourceWatch({
      sources: () => ["web", "api"].map((pool) => ({ pool, directories: [join(this.root, pool)] })),
      settings: () => [join(this.root, "web/config.yaml")],
      view: () => controllerView(pools),
      order: (pool, { kind, ...order }, reason) => {
        const slots = "slots" in order && order.slots !== undefined ? ` ${order.slots.join()}` : "";
        this.orders.push(`${kind} ${pool}${slots}: ${reason.replace(`${this.root}/`, "")}`);
        return `op-${this.orders.length}`;
      },
      reload: () => this.reload(),
      clock: this.clock,
      log,
      openTrees: (listener) => {
        this.#listener = listener;
        return { add: () => {}, size: 1, [Symbol.dispose]: () => {} };
      },
    });
  }

  /** Creates a file if it is missing; otherwise changes it. */
  write(path: string): void {
    const file = join(this.root, path);
    const isNew = !existsSync(file);
    writeFileSync(file, "");
    this.#listener?.changed(file, isNew);
  }

  remove(path: string): void {
    rmSync(join(this.root, path));
    this.#listener?.changed(join(this.root, path), true);
  }

  /** Lets changes settle, so that a restart begins if one is due. */
  async settle(): Promise<void> {
    this.clock.pass(10_000);
    await turn();
  }

  end(operation: string, kind: "operation_finished" | "operation_failed" = "operation_finished"): void {
    this.watch.handle({ kind, pool: "web", operation, what: "restart", done: 1, total: 1, reason: "" });
  }

  [Symbol.dispose](): void {
    this.watch[Symbol.dispose]();
    rmSync(this.root, { recursive: true, force: true });
  }
}

test("a change restarts only the pools whose directory it is in, not their proxies", async () => {
  using scene = new Scene();
  scene.write("api/app.js");
  await scene.settle();
  assert.deepEqual(scene.orders, ["restart 2: api/app.js changed"]);
});

test("changes during a restart lead to one more restart after it, even if it failed", async () => {
  using scene = new Scene();
  scene.write("web/app.js");
  await scene.settle();
  scene.write("web/first.js");
  scene.write("web/second.js");
  await scene.settle();
  assert.equal(scene.orders.length, 1);
  scene.end("op-1", "operation_failed");
  await scene.settle();
  assert.deepEqual(scene.orders, ["restart 0: web/app.js changed", "restart 0: web/first.js and 1 other changed"]);
});

test("a temporary file that replaces another one is not named, and alone has no effect", async () => {
  using scene = new Scene();
  scene.write("web/sed1234");
  scene.remove("web/sed1234");
  scene.write("web/app.js");
  await scene.settle();
  assert.deepEqual(scene.orders, ["restart 0: web/app.js changed"]);
  scene.end("op-1");
  scene.write("web/transient");
  scene.remove("web/transient");
  await scene.settle();
  scene.write("web/other.js");
  await scene.settle();
  assert.deepEqual(scene.orders.slice(1), ["restart 0: web/other.js changed"]);
});

test("a removed file restarts its pool", async () => {
  using scene = new Scene();
  scene.write("web/app.js");
  await scene.settle();
  scene.end("op-1");
  scene.remove("web/app.js");
  await scene.settle();
  assert.deepEqual(scene.orders, ["restart 0: web/app.js changed", "restart 0: web/app.js changed"]);
});

test("a change of the configuration reloads it instead, and the next change waits for its operations", async () => {
  using scene = new Scene();
  const { promise: read, resolve } = Promise.withResolvers<ReloadPlan>();
  scene.reload = () => read;
  scene.write("web/config.yaml");
  await scene.settle();
  scene.write("web/app.js");
  await scene.settle();
  // One operation ends before the reload is reported.
  scene.end("reload-1");
  const operations = ["reload-1", "reload-2"].map((id) => ({ id, pool: "web" }));
  resolve({ changes: ["web: args"], refused: [], failed: [], operations });
  await turn();
  await scene.settle();
  assert.deepEqual(scene.orders, []);
  scene.end("reload-2");
  await scene.settle();
  assert.deepEqual(scene.orders, ["restart 0: web/app.js changed"]);
  assert.ok(scene.lines.includes("reload: web: args"));
});

test("an invalid configuration is reported, and the next change tries again", async () => {
  using scene = new Scene();
  scene.reload = () => Promise.reject(new Error("config.yaml has 1 problem"));
  scene.write("web/config.yaml");
  await scene.settle();
  assert.ok(scene.lines.includes("the change has no effect: config.yaml has 1 problem"));
  scene.write("web/app.js");
  await scene.settle();
  assert.deepEqual(scene.orders, ["restart 0: web/app.js changed"]);
});

test("crashed workers start at once, and running workers restart", async () => {
  using crashed = new Scene([workerView(0, "backoff"), workerView(1, "down")]);
  crashed.write("web/app.js");
  await crashed.settle();
  assert.deepEqual(crashed.orders, ["stop 0 0: web/app.js changed", "start 0 0: web/app.js changed"]);
  using mixed = new Scene([workerView(0, "ready"), workerView(1, "backoff")]);
  mixed.write("web/app.js");
  await mixed.settle();
  const orders = ["stop 0 1", "start 0 1", "restart 0"];
  assert.deepEqual(
    mixed.orders,
    orders.map((order) => `${order}: web/app.js changed`),
  );
});
