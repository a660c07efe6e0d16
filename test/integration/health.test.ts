/** `monoceros health` against the real executable: its exit codes, its one line, and a read-only client. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerUnderTest, MONOCEROS } from "../support/controller.ts";
import { command, runToEnd } from "../support/traffic.ts";
import { happened, shellPool } from "../support/watch.ts";

const GOOD = { code: 0, stdout: "", stderr: "" };

test("health exits with 0 or 1 according to the pools, and with 69 without a controller", async () => {
  const failing = shellPool("broken", "exit 3", {
    max_restarts: -1,
    restart: { backoff: { initial: "1h", max: "1h" } },
  });
  await using controller = await ControllerUnderTest.start({
    workers: [shellPool("web", "exec sleep 1000", { replicas: 2 }), failing].join("\n"),
  });
  await happened(controller, "ready", ({ pool, slot }) => pool === "web" && slot === 1);
  await happened(controller, "backing_off");
  const line = 'pool "broken" has 0 of 1 replicas ready, 75 % required\n';
  assert.deepEqual(await command(controller, "health"), {
    ...GOOD,
    code: 1,
    stderr: `monoceros: not healthy: ${line}`,
  });
  assert.deepEqual(await command(controller, "health", "--live"), GOOD);
  const { code, stdout } = await command(controller, "health", "--json");
  const { healthy, pools } = JSON.parse(stdout);
  assert.deepEqual([code, healthy, pools.map((pool: { ready: number }) => pool.ready)], [1, false, [2, 0]]);
  controller.configure({ workers: shellPool("web", "exec sleep 1000", { replicas: 2 }) });
  assert.equal((await command(controller, "reload")).code, 0);
  assert.deepEqual(await command(controller, "health"), GOOD);
  assert.deepEqual(await command(controller, "health", "--ready"), GOOD);
  await controller.stop();
  const gone = await command(controller, "health");
  assert.deepEqual([gone.code, gone.stdout], [69, ""]);
  assert.match(gone.stderr, /^monoceros: Cannot find a controller at /u);
});

test("health finds the controller by its configuration file, and is not ready during pre_stop_delay", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "exec sleep 1000"),
    supervisor: "  pre_stop_delay: 1h\n  shutdown_timeout: 2h",
  });
  await controller.ready();
  const health = (...flags: readonly string[]) =>
    runToEnd(MONOCEROS, ["health", "-c", controller.configFile, ...flags]);
  assert.deepEqual(await health("--ready"), GOOD);
  controller.child.kill("SIGTERM");
  await happened(controller, "controller_stopping");
  assert.deepEqual(await health(), GOOD);
  const stderr = "monoceros: not ready: the controller is leaving\n";
  assert.deepEqual(await health("--ready"), { ...GOOD, code: 1, stderr });
});
