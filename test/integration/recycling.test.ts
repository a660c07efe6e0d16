/** Planned replacement of workers that reached their lifespan. */
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest, poolOf } from "../support/controller.ts";
import { commandOk } from "../support/traffic.ts";
import { eventsOf, happened, msBetween, shellPool } from "../support/watch.ts";

const STAY = "exec sleep 1000";

/** Number of ready workers after each event, from the moment the controller was ready. */
function readyCounts(controller: ControllerUnderTest): number[] {
  const ready = new Set<string>();
  const counts: number[] = [];
  let isBooted = false;
  for (const event of controller.events) {
    if (event.kind === "controller_ready") isBooted = true;
    if (event.kind === "controller_stopping") break;
    if (event.kind === "ready") ready.add(`${event.slot}`);
    if (event.kind === "stopping" || event.kind === "exited") ready.delete(`${event.slot}`);
    if (isBooted) counts.push(ready.size);
  }
  return counts;
}

test("workers that reach their lifespan are replaced successor first, and all replicas stay ready [R3]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STAY, {
      replicas: 3,
      max_restarts: 0,
      limits: { lifespan: "500ms", jitter_ratio: 0.5 },
    }),
  });
  await controller.ready();
  // More replacements than the restart limit would allow.
  await happened(controller, "rollout_finished", () => true, 8);
  const counts = readyCounts(controller);
  assert.ok(Math.min(...counts) >= 3, `ready: ${counts}`);
  assert.ok(Math.max(...counts) <= 4, `ready: ${counts}`);
  for (const event of eventsOf(controller, "spawned"))
    assert.ok(event.slot <= 3, "replicas and surge share four slots");
  assert.deepEqual(eventsOf(controller, "pool_degraded"), []);
  assert.equal((await controller.status()).phase, "running");

  const limits = await controller.metric('monoceros_workerpool_limits_events_total{pool="web",limit_event="time"}');
  assert.ok(limits >= 8, String(limits));
  assert.equal(await controller.metric('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}'), 0);
  assert.ok((await controller.metric('monoceros_pool_rollouts_total{pool="web",result="finished"}')) >= 8);
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
});

test("jitter_ratio spreads the lifespans over their whole range [R3]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STAY, {
      replicas: 12,
      limits: { lifespan: "1s", jitter_ratio: 0.5 },
      rolling: { max_surge: 12 },
    }),
  });
  const limits = () =>
    eventsOf(controller, "limit_reached").filter(({ incarnation, slot }) => incarnation === 1 && slot < 12);
  await controller.until(() => limits().length === 12, "all first incarnations are due");
  const spans = limits().map((event) => {
    const starting = eventsOf(controller, "starting").find(
      ({ slot, incarnation }) => slot === event.slot && incarnation === 1,
    );
    assert.ok(starting !== undefined);
    return msBetween(starting, event);
  });
  // At least half of the lifespan, minus the delay of the start event on a busy machine.
  assert.ok(Math.min(...spans) >= 250, `${spans}`);
  // Twelve uniform values from a range of a second lie within a tenth of it only once in 10^10 runs.
  assert.ok(Math.max(...spans) - Math.min(...spans) > 100, `${spans}`);
});

test("with max_surge 0 workers are replaced in their slots, with at most max_unavailable missing [R3]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STAY, {
      replicas: 3,
      max_restarts: 0,
      limits: { lifespan: "300ms" },
      rolling: { max_surge: 0, max_unavailable: 1, min_ready: "50ms" },
    }),
  });
  await controller.ready();
  await happened(controller, "ready", ({ incarnation }) => incarnation === 3);
  const counts = readyCounts(controller);
  assert.ok(Math.min(...counts) >= 2, `ready: ${counts}`);
  assert.ok(Math.max(...counts) <= 3, `ready: ${counts}`);
  assert.deepEqual([...new Set(eventsOf(controller, "spawned").map(({ slot }) => slot))].sort(), [0, 1, 2]);
  assert.deepEqual(eventsOf(controller, "rollout_started"), []);
  assert.equal(await controller.metric('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}'), 0);
});

test("with max_surge 0 the next worker is stopped when the new one has run for min_ready [R3]", async () => {
  const rolling = { max_surge: 0, max_unavailable: 1, min_ready: "400ms" };
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STAY, { replicas: 3, rolling }),
  });
  await controller.ready();
  await commandOk(controller, "restart", "web");
  const again = eventsOf(controller, "ready").filter(({ incarnation }) => incarnation === 2);
  assert.equal(again.length, 3);
  for (const { afterMs } of again) assert.ok(afterMs >= 395, `${afterMs} ms`);
  assert.ok(Math.min(...readyCounts(controller)) >= 2);
});

test("a crash during replacements is restarted and counted [R3 R7]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STAY, { replicas: 2, max_restarts: 3, limits: { lifespan: "400ms", jitter_ratio: 0.3 } }),
  });
  await happened(controller, "rollout_finished", () => true, 2);
  const worker = (await controller.status()).pools[0]?.workers.find(({ phase }) => phase === "ready");
  assert.ok(worker?.pid != null);
  process.kill(worker.pid, "SIGKILL");
  const exited = await happened(controller, "exited", ({ pid }) => pid === worker.pid);
  if (!exited.planned) {
    // A successor that is not established yet is abandoned; any other worker restarts.
    const { kind } = await controller.event(
      (event) => event.seq > exited.seq && (event.kind === "backing_off" || event.kind === "rollout_aborted"),
    );
    const restarts = await controller.metric('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}');
    assert.equal(restarts, kind === "backing_off" ? 1 : 0);
  }
  await happened(controller, "rollout_finished", () => true, eventsOf(controller, "rollout_finished").length + 3);
  assert.equal((await controller.status()).pools[0]?.ready, 2);
});

for (const maxRestarts of [0, 3]) {
  test(`a successor that cannot be spawned aborts the replacement and the old worker stays, with max_restarts ${maxRestarts} [R2 R7]`, async (context) => {
    const directory = mkdtempSync(join(tmpdir(), "monoceros-roll-"));
    context.after(() => rmSync(directory, { recursive: true }));
    const program = join(directory, "program");
    copyFileSync("/bin/sleep", program);
    chmodSync(program, 0o755);
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({
        name: "web",
        replicas: 2,
        exec: program,
        args: [1000],
        max_restarts: maxRestarts,
        limits: { lifespan: "700ms" },
      }),
    });
    await controller.ready();
    // Removed first, because a running executable cannot be written to.
    rmSync(program);
    writeFileSync(program, "this is no program", { mode: 0o755 });
    const before = [await controller.pidOf("web-0"), await controller.pidOf("web-1")];
    const aborted = await happened(controller, "rollout_aborted", () => true, 2);
    assert.match(aborted.reason, /web-[01] stays: successor /u);
    await happened(controller, "spawn_failed");
    assert.deepEqual([await controller.pidOf("web-0"), await controller.pidOf("web-1")], before);
    assert.deepEqual(eventsOf(controller, "exited"), []);
    assert.ok((await controller.metric('monoceros_pool_rollouts_total{pool="web",result="aborted"}')) >= 2);
    assert.equal((await controller.status()).healthy, true);

    rmSync(program);
    copyFileSync("/bin/sleep", program);
    chmodSync(program, 0o755);
    await happened(controller, "rollout_finished", () => true, 2);
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  });
}
