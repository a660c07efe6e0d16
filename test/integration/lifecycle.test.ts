/** Start and restart of workers: their identity, the effects of a crash, and health. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerUnderTest, eventually, PROCESSBIN, poolOf } from "../support/controller.ts";
import { adminPort, eventsOf, happened, said, saidBy, shellPool, statusCode } from "../support/watch.ts";

const STAY = "echo up; exec sleep 1000";

test("all replicas of all pools run, and each one's environment contains its id, pool, slot and incarnation [L1]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [
      poolOf({ name: "web", replicas: 4, exec: PROCESSBIN, args: ["--print-env"] }),
      shellPool("job", STAY, { replicas: 2 }),
    ].join("\n"),
  });
  await controller.ready();
  const workers = (await controller.status()).pools.flatMap((pool) => pool.workers);
  assert.deepEqual(
    workers.map(({ id, phase, incarnation }) => `${id} ${phase} ${incarnation}`),
    ["web-0", "web-1", "web-2", "web-3", "job-0", "job-1"].map((id) => `${id} ready 1`),
  );
  assert.equal(new Set(workers.map(({ pid }) => pid)).size, 6);
  for (const worker of workers.slice(0, 4)) {
    const { surroundings } = (await said(controller, worker.id, "surroundings")) as {
      surroundings: { env: Record<string, string>; pid: number; session: number; processGroup: number };
    };
    const { env, pid, session, processGroup } = surroundings;
    assert.equal(env["MULTIPROCESS_WORKER_ID"], worker.id);
    assert.equal(env["MONOCEROS_POOL"], "web");
    assert.equal(env["MONOCEROS_SLOT"], String(worker.slot));
    assert.equal(env["MONOCEROS_INCARNATION"], "1");
    assert.deepEqual([pid, session, processGroup], [worker.pid, worker.pid, worker.pid]);
  }
});

test("a killed worker is restarted under the same id, and other workers are not affected [L1 L4]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", `echo "$MONOCEROS_SLOT:$MONOCEROS_INCARNATION"; exec sleep 1000`, { replicas: 3 }),
  });
  await controller.ready();
  const before = (await controller.status()).pools[0]?.workers ?? [];
  process.kill(await controller.pidOf("web-1"), "SIGKILL");
  const exited = await happened(controller, "exited");
  assert.deepEqual([exited.slot, exited.planned], [1, false]);
  await happened(controller, "ready", (event) => event.slot === 1 && event.incarnation === 2);
  await said(controller, "web-1", "1:2");

  const after = (await controller.status()).pools[0]?.workers ?? [];
  assert.deepEqual(
    after.map(({ id, incarnation, restarts, last_exit }) => [id, incarnation, restarts, last_exit]),
    [
      ["web-0", 1, 0, null],
      ["web-1", 2, 1, "SIGKILL"],
      ["web-2", 1, 0, null],
    ],
  );
  for (const slot of [0, 2]) assert.equal(after[slot]?.pid, before[slot]?.pid);
  assert.equal(await controller.metric('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}'), 1);
});

test("workers of a pool start startup_wait_time apart, and pools do not wait for each other", async () => {
  const before = Date.now();
  await using controller = await ControllerUnderTest.start({
    workers: [
      shellPool("web", STAY, { replicas: 3, startup_wait_time: "300ms" }),
      shellPool("job", STAY, { replicas: 2 }),
    ].join("\n"),
  });
  await controller.ready();
  assert.deepEqual(
    eventsOf(controller, "starting").map(({ pool, slot, delayMs }) => [pool, slot, Math.round(delayMs)]),
    [
      ["web", 0, 0],
      ["web", 1, 300],
      ["web", 2, 600],
      ["job", 0, 0],
      ["job", 1, 0],
    ],
  );
  const spawned = eventsOf(controller, "spawned");
  const [first, second, third] = spawned.filter(({ pool }) => pool === "web");
  assert.ok(first !== undefined && second !== undefined && third !== undefined);
  // Measured from the start of the test. A start may be late on a busy machine, but not early.
  assert.ok(Date.parse(second.time) - before >= 300 && second.seq > first.seq);
  assert.ok(Date.parse(third.time) - before >= 600 && third.seq > second.seq);
  for (const job of spawned.filter(({ pool }) => pool === "job")) assert.ok(job.seq < second.seq);
});

test("/health is 503 while less than desired_healthy_percentage of a pool is ready, and /health/live is always 200", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STAY, { replicas: 4, startup_wait_time: "500ms", desired_healthy_percentage: 75 }),
    args: ["-d"],
  });
  const port = await adminPort(controller);
  await happened(controller, "ready");
  assert.equal(await statusCode(port, "/health"), 503, "during the boot");
  assert.equal(await statusCode(port, "/health/ready"), 503, "during the boot");
  assert.equal(await statusCode(port, "/health/live"), 200);
  await controller.ready();
  assert.equal(await statusCode(port, "/health"), 200, "4 of 4");
  assert.equal(await statusCode(port, "/health/ready"), 200);

  const stop = async (id: string, slot: number) => {
    assert.equal((await controller.call("POST", `/v1/workers/${id}/stop`)).status, 202);
    await happened(controller, "stopped", (event) => event.slot === slot);
  };
  await stop("web-3", 3);
  assert.equal(await statusCode(port, "/health"), 200, "3 of 4 are 75 %");
  await stop("web-1", 1);
  await happened(controller, "pool_degraded");
  assert.equal(await statusCode(port, "/health"), 503, "2 of 4");
  assert.equal(await statusCode(port, "/health/ready"), 503);
  assert.equal(await statusCode(port, "/health/live"), 200);

  assert.equal((await controller.call("POST", "/v1/workers/web-1/start")).status, 202);
  await happened(controller, "pool_recovered");
  assert.equal(await statusCode(port, "/health"), 200, "3 of 4 again");
});

test("one unhealthy pool makes the controller unhealthy", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [
      shellPool("good", STAY, { replicas: 3 }),
      shellPool("bad", "exit 1", { restart: { backoff: { initial: "1h", max: "1h" } } }),
    ].join("\n"),
    args: ["-d"],
  });
  await happened(controller, "backing_off", (event) => event.delayMs > 0);
  assert.equal(await statusCode(await adminPort(controller), "/health"), 503);
  const status = await controller.status();
  assert.deepEqual(
    status.pools.map(({ name, healthy }) => [name, healthy]),
    [
      ["good", true],
      ["bad", false],
    ],
  );
});

test("a worker that an operator stopped stays down until it is started, and keeps its id", async () => {
  await using controller = await ControllerUnderTest.start({ workers: shellPool("web", STAY, { replicas: 2 }) });
  await controller.ready();
  await controller.call("POST", "/v1/workers/web-0/stop");
  await happened(controller, "stopped");
  assert.deepEqual([(await controller.worker("web-0")).phase, (await controller.worker("web-0")).pid], ["down", null]);
  await controller.call("POST", "/v1/workers/web-0/start");
  await happened(controller, "ready", (event) => event.slot === 0 && event.incarnation === 2);
  await eventually(() => (saidBy(controller, "web-0", "up").length === 2 ? true : undefined), "web-0 logs again");
  assert.equal((await controller.worker("web-0")).restarts, 0, "an operator's start does not count as a restart");
});
