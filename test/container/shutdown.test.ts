/** The controller as PID 1 of a container: graceful shutdown and reaping of orphans. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { eventually, listDescendants } from "../support/controller.ts";
import { describeLoad } from "../support/loadReport.ts";
import { Container, containerTest, podman } from "./podman.ts";
import { ADMIN, configOf, LISTENER, proxiedPool } from "./pools.ts";

containerTest(
  "podman stop loses no request: readiness is 503 at once, and workers serve until the end of pre_stop_delay",
  async () => {
    await using container = await Container.ready({ config: configOf([proxiedPool(2)], "  pre_stop_delay: 2s") });
    const options = { target: { port: LISTENER }, connections: 4, durationMs: 60_000, pauseMs: [1, 5] as const };
    const stopped = Promise.withResolvers<void>();
    const load = await container.underLoad(options, async () => {
      await container.ask(LISTENER, "/");
      void podman("stop", "--time", "30", container.name).then(() => stopped.resolve());
      await container.logged("controller is shutting down");
      assert.equal((await container.ask(ADMIN, "/health/ready")).status, 503);
      assert.equal((await container.ask(ADMIN, "/health/live")).status, 200);
      assert.equal((await container.ask(LISTENER, "/")).status, 200);
    });
    assert.equal(load.failed, 0, describeLoad(load));
    assert.ok(load.counts.ok > 0, describeLoad(load));
    await stopped.promise;
    assert.equal(await container.ended(), 0, container.text);
  },
);

containerTest("orphans are reaped regardless of their exit code, and workers keep running", async () => {
  await using container = await Container.ready({ config: configOf([proxiedPool(1)]) });
  const before = (await container.worker("web-0")).pid;
  for (let turn = 0; turn < 3; turn++) assert.equal((await container.ask(9090, "/orphans?n=20")).body, "left\n");
  const root = await container.pid();
  await eventually(() => {
    const zombies = listDescendants(root).filter((pid) => readStat(pid).includes(") Z "));
    return zombies.length === 0 || undefined;
  }, "no zombie is left");
  const reaped = /^monoceros_controller_orphans_reaped_total (\d+)$/mu.exec(
    (await container.ask(ADMIN, "/metrics")).body,
  );
  assert.ok(Number(reaped?.[1]) >= 60, `${reaped?.[0]}`);
  assert.equal((await container.worker("web-0")).pid, before);
});

function readStat(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return "";
  }
}
