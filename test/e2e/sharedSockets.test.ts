/** On a shared socket no connection is refused or reset while workers are replaced one by one. */
import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest } from "../support/controller.ts";
import { assertNoneFailed, commandOk, readyRange, replaced, sharedPool, underTraffic } from "../support/traffic.ts";
import { eventsOf } from "../support/watch.ts";

for (const kind of ["TCP port", "Unix socket"] as const) {
  test(`rolling restarts on a shared ${kind} refuse and reset no connection`, async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "m-"));
    const { workers, target } = await sharedPool({
      replicas: 3,
      // A client with a kept-alive connection is asked to close it, and needs time for one more request.
      args: ["--drain", "500ms"],
      ...(kind === "Unix socket" ? { path: join(directory.path, "http.sock") } : {}),
    });
    await using controller = await ControllerUnderTest.start({ workers });
    await controller.ready();
    const reports = await underTraffic(
      target,
      async () => {
        for (let turn = 0; turn < 2; turn++) await commandOk(controller, "restart", "web");
      },
      { requests: [{ path: "/sleep?ms=5" }], keptAlive: 6, fresh: 12 },
    );
    assertNoneFailed(reports);
    assert.equal(eventsOf(controller, "operation_finished").length, 2);
  });
}

test("replacement by lifespan on a shared port fails no request on new or kept-alive connections", async () => {
  const { workers, target } = await sharedPool({
    replicas: 3,
    args: ["--drain", "500ms"],
    more: { limits: { lifespan: "1500ms", jitter_ratio: 0.5 } },
  });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const reports = await underTraffic(target, () => replaced(controller, 6), {
    requests: [{ path: "/sleep?ms=5" }],
    keptAlive: 6,
    fresh: 12,
  });
  assertNoneFailed(reports);
  assert.ok(readyRange(controller).least >= 3);
});

test("scaling and stopping workers of a shared socket refuse and reset no connection", async () => {
  const { workers, target } = await sharedPool({
    replicas: 3,
    args: ["--drain", "500ms"],
    more: { desired_healthy_percentage: 25 },
  });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const reports = await underTraffic(
    target,
    async () => {
      await commandOk(controller, "scale", "web", "5");
      await commandOk(controller, "stop", "web-1");
      await commandOk(controller, "start", "web-1");
      await commandOk(controller, "scale", "web", "2");
    },
    { requests: [{ path: "/sleep?ms=5" }], keptAlive: 6, fresh: 12 },
  );
  assertNoneFailed(reports);
});
