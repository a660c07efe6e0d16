/** Start order: depends_on, oneshot pools and start_parallelism with real processes. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest } from "../support/controller.ts";
import { eventsOf, happened, shellPool } from "../support/watch.ts";

const STAY = "exec sleep 1000";
const QUICK = { rolling: { min_ready: "0s" } };

test("a pool starts once the oneshot pool that it depends on has completed", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [
      shellPool("web", STAY, { ...QUICK, replicas: 2, depends_on: { migrate: "completed" } }),
      shellPool("migrate", "while [ ! -e go ]; do sleep 0.02; done", { type: "oneshot", cwd: "." }),
    ].join("\n"),
  });
  const blocked = await happened(controller, "pool_blocked");
  assert.deepEqual([blocked.pool, blocked.reason], ["web", 'waiting for pool "migrate" to complete']);
  await happened(controller, "spawned", ({ pool }) => pool === "migrate");
  const waiting = await controller.status();
  assert.deepEqual(
    waiting.pools.map(({ name, healthy, waits_for, workers }) => [name, healthy, waits_for, workers[0]?.phase]),
    [
      ["web", false, 'waiting for pool "migrate" to complete', "starting"],
      ["migrate", true, null, "starting"],
    ],
  );
  assert.equal(eventsOf(controller, "spawned").length, 1);
  process.kill(await controller.pidOf("migrate-0"), "SIGKILL");
  assert.deepEqual(await controller.ended, { code: 1, signal: null });
  assert.ok(!eventsOf(controller, "spawned").some(({ pool }) => pool === "web"), "no worker of web started");
  const stopped = await happened(controller, "controller_stopped");
  assert.match(stopped.reason, /^pool "migrate" failed: migrate-0 killed by SIGKILL/u);
});
