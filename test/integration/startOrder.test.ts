/** Start order with real processes: depends_on, oneshot pools, start_parallelism, and command. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerUnderTest, poolOf } from "../support/controller.ts";
import { proxyPool } from "../support/traffic.ts";
import { eventsOf, happened, recordsOf, said, saidBy, shellPool } from "../support/watch.ts";

const STAY = "exec sleep 1000";
/** Completes when the test sends SIGUSR1, and fails at SIGUSR2. */
const JOB = "trap 'exit 0' USR1; trap 'exit 3' USR2; echo armed; while :; do sleep 0.02; done";

/** A controller whose pool web waits for the completion of migrate, which the test ends. */
async function startBlocked(): Promise<ControllerUnderTest> {
  const controller = await ControllerUnderTest.start({
    workers: [
      shellPool("web", STAY, { replicas: 2, depends_on: { migrate: "completed" } }),
      shellPool("migrate", JOB, { type: "oneshot" }),
    ].join("\n"),
  });
  await said(controller, "migrate-0", "armed");
  return controller;
}

test("a pool waits for the oneshot pool that it depends on, and starts when that has completed", async () => {
  await using controller = await startBlocked();
  const waitsFor = 'waiting for pool "migrate" to complete';
  assert.equal((await happened(controller, "pool_blocked")).reason, waitsFor);
  const { pools } = await controller.status();
  assert.deepEqual(
    pools.map(({ name, healthy, waits_for, workers }) => [name, healthy, waits_for, workers[0]?.phase]),
    [
      ["web", false, waitsFor, "starting"],
      ["migrate", true, null, "running"],
    ],
  );
  assert.deepEqual(
    eventsOf(controller, "spawned").map(({ pool }) => pool),
    ["migrate"],
  );
  process.kill(await controller.pidOf("migrate-0"), "SIGUSR1");
  await happened(controller, "controller_ready");
  assert.equal((await controller.worker("migrate-0")).phase, "completed");
  const order = controller.events.flatMap((event) =>
    event.kind === "spawned" || event.kind === "ended" ? [`${event.pool} ${event.kind}`] : [],
  );
  assert.deepEqual(order, ["migrate spawned", "migrate ended", "web spawned", "web spawned"]);
});

test("if a oneshot pool fails, what depends on it does not start, and the controller exits with 1 and the reason", async () => {
  await using controller = await startBlocked();
  process.kill(await controller.pidOf("migrate-0"), "SIGUSR2");
  assert.deepEqual(await controller.ended, { code: 1, signal: null });
  assert.ok(!eventsOf(controller, "spawned").some(({ pool }) => pool === "web"));
  const reasons = recordsOf(controller.stderr).map((record) => String(record["msg"]));
  assert.ok(
    reasons.some((reason) => /shutting down: pool "migrate" failed: migrate-0 exited with code 3/u.test(reason)),
    reasons.join("\n"),
  );
  assert.ok(reasons.includes('pool "web" cannot start: it is waiting for pool "migrate" to complete, but it failed'));
});

test("the proxy of a pool waits with the pool", async () => {
  const { workers } = await proxyPool({ replicas: 1, more: { depends_on: { migrate: "completed" } } });
  await using controller = await ControllerUnderTest.start({
    workers: [workers, shellPool("migrate", JOB, { type: "oneshot" })].join("\n"),
  });
  await said(controller, "migrate-0", "armed");
  process.kill(await controller.pidOf("migrate-0"), "SIGUSR1");
  await happened(controller, "controller_ready");
  const [first, ...others] = eventsOf(controller, "spawned").map(({ pool }) => pool);
  assert.deepEqual([first, others.toSorted()], ["migrate", ["web", "web-proxy"]]);
  controller.child.kill("SIGTERM");
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
});

test("pools stop in the reverse order of their start", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [
      shellPool("web", STAY, { replicas: 2, depends_on: { api: "ready" } }),
      shellPool("api", STAY, { depends_on: { db: "started" } }),
      shellPool("db", STAY),
    ].join("\n"),
  });
  await happened(controller, "controller_ready");
  controller.child.kill("SIGTERM");
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
  const order = controller.events.flatMap((event) =>
    event.kind === "spawned" || event.kind === "stopping" || event.kind === "stopped"
      ? [`${event.pool} ${event.kind}`]
      : [],
  );
  assert.deepEqual(
    order.filter((each, index) => each !== order[index - 1]),
    ["db", "api", "web"]
      .map((pool) => `${pool} spawned`)
      .concat(["web", "api", "db"].flatMap((pool) => [`${pool} stopping`, `${pool} stopped`])),
  );
});

test("with start_parallelism 1 each worker starts when the previous one is ready", async () => {
  await using controller = await ControllerUnderTest.start({
    supervisor: "  start_parallelism: 1",
    workers: [
      shellPool("a", STAY, { replicas: 2, rolling: { min_ready: "30ms" } }),
      shellPool("b", STAY, { replicas: 2, rolling: { min_ready: "30ms" } }),
    ].join("\n"),
  });
  await happened(controller, "controller_ready");
  const order = controller.events.flatMap(({ kind }) => (kind === "spawned" || kind === "ready" ? [kind] : []));
  assert.deepEqual(order, ["spawned", "ready", "spawned", "ready", "spawned", "ready", "spawned", "ready"]);
});

test("a controller of oneshot pools runs their commands and exits with 0 once all have completed", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [
      poolOf({ name: "one", type: "oneshot", command: `sh -c 'echo "first  $MONOCEROS_SLOT"'`, replicas: 2 }),
      poolOf({ name: "two", type: "oneshot", command: "echo second {{.Slot}}", depends_on: { one: "completed" } }),
    ].join("\n"),
  });
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
  const count = (worker: string, text: string) => saidBy(controller, worker, text).length;
  assert.deepEqual([count("one-0", "first  0"), count("one-1", "first  1"), count("two-0", "second 0")], [1, 1, 1]);
});
