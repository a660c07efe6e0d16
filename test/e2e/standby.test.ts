/** A standby worker behind Envoy: it is promoted after a crash and in a rollout, and is idle otherwise. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually } from "../support/controller.ts";
import { readEndpoints, untilEndpoints } from "../support/envoyEndpoints.ts";
import { freePorts } from "../support/ports.ts";
import { assertNoneFailed, commandOk, proxyPool, readyRange, underTraffic } from "../support/traffic.ts";
import { eventsOf, happened, msBetween } from "../support/watch.ts";

const REQUESTS = [{ path: "/sleep?ms=10" }];

interface Scene extends AsyncDisposable {
  readonly controller: ControllerUnderTest;
  readonly target: { readonly port: number };
  readonly adminPort: number;
  /** The pool as it is configured. */
  readonly workers: string;
  /** Port of the worker of a slot. */
  portOf(slot: number): number;
}

/** Two serving workers and one standby worker, all ready; each takes `boot` to listen. */
async function start(boot: string, more: Readonly<Record<string, unknown>> = {}): Promise<Scene> {
  const adminPort = await freePorts(1);
  const { workers, target } = await proxyPool({
    replicas: 2,
    args: ["--slow-boot", boot],
    more: { standby: 1, desired_healthy_percentage: 100, ...more },
    server: { admin_port: adminPort },
  });
  assert.ok("port" in target);
  const controller = await ControllerUnderTest.start({ workers });
  const scene = {
    controller,
    target,
    adminPort,
    workers,
    portOf: (slot: number) => target.port + 1 + slot,
    [Symbol.asyncDispose]: () => controller[Symbol.asyncDispose](),
  };
  try {
    await controller.ready();
    await spareOf(controller);
  } catch (error) {
    await controller[Symbol.asyncDispose]();
    throw error;
  }
  return scene;
}

/** The slot of the standby worker, once there is one. */
function spareOf(controller: ControllerUnderTest): Promise<number> {
  return eventually(async () => {
    const workers = (await controller.status()).pools.find(({ name }) => name === "web")?.workers ?? [];
    const spares = workers.filter(({ standby }) => standby);
    assert.ok(spares.length <= 1, "at most one worker is on standby");
    return spares[0]?.slot;
  }, "a worker is on standby");
}

function slots(ready: number): number[] {
  return [0, 1, 2].filter((slot) => slot !== ready);
}

test("after kill -9 of a slow-booting worker, a standby worker serves before its successor has booted", async (context: TestContext) => {
  await using scene = await start("5s");
  const { controller, adminPort, portOf } = scene;
  const spare = await spareOf(controller);
  const [victim = 0, other = 0] = slots(spare);
  assert.deepEqual(
    (await readEndpoints(adminPort)).serving,
    [portOf(victim), portOf(other)].sort((a, b) => a - b),
  );
  const pid = await controller.pidOf(`web-${victim}`);
  const before = controller.events.length;
  const wanted = [portOf(spare), portOf(other)].sort((a, b) => a - b).join();
  const isFull = untilEndpoints(adminPort, ({ serving }) => serving.join() === wanted);
  process.kill(pid, "SIGKILL");
  const fullAt = await isFull;
  const exited = await happened(controller, "exited");
  const promoted = await happened(controller, "promoted");
  assert.deepEqual([exited.slot, promoted.slot], [victim, spare]);
  assert.ok(exited.seq < promoted.seq);
  const since = controller.events.slice(before);
  assert.deepEqual(
    since.filter(({ kind }) => kind === "ready"),
    [],
    "nothing has booted meanwhile",
  );
  assert.deepEqual(
    since.filter(({ kind }) => kind === "pool_degraded"),
    [],
    "the pool was never short of a worker",
  );
  assert.equal((await controller.worker(`web-${spare}`)).standby, false);
  context.diagnostic(
    `from the exit to the promoted worker in Envoy: ${Math.round(fullAt - Date.parse(exited.time))} ms`,
  );
  // The killed worker restarts as the standby worker.
  const ready = await happened(controller, "ready", ({ incarnation }) => incarnation === 2);
  assert.ok(ready.slot === victim && msBetween(exited, ready) >= 5000);
  assert.equal(await spareOf(controller), victim);
  assert.equal((await readEndpoints(adminPort)).serving.join(), wanted);
});

test("a standby worker receives no requests, and status shows it as standby", async () => {
  await using scene = await start("100ms");
  const { controller, target } = scene;
  const spare = await spareOf(controller);
  const reports = await underTraffic(target, async () => {}, { requests: REQUESTS });
  assertNoneFailed(reports);
  const served = [...Object.keys(reports.keptAlive.workers), ...Object.keys(reports.fresh.workers)];
  assert.ok(!served.includes(`web-${spare}`), served.join());
  const { stdout } = await commandOk(controller, "status");
  assert.match(stdout, new RegExp(`web-${spare} +standby `, "u"));
  assert.equal(stdout.match(/standby/gu)?.length, 1);
  assert.match(stdout, /web 2\/2 ready/u);
});

test("a rollout replaces serving and standby workers without a failed request", async () => {
  await using scene = await start("300ms");
  const { controller, target } = scene;
  const before = Object.values(await controller.pids());
  const reports = await underTraffic(target, async () => void (await commandOk(controller, "restart", "web")), {
    requests: REQUESTS,
  });
  assertNoneFailed(reports);
  const promoted = eventsOf(controller, "promoted");
  assert.deepEqual(
    promoted.map(({ reason }) => reason.replace(/\d+$/u, "")),
    ["successor of web-", "successor of web-"],
    "the replaced standby worker succeeds each of the two",
  );
  assert.deepEqual(eventsOf(controller, "pool_degraded"), []);
  assert.ok(readyRange(controller).least >= 2);
  const workers = (await controller.status()).pools.find(({ name }) => name === "web")?.workers ?? [];
  const after = workers.flatMap(({ pid }) => pid ?? []);
  assert.equal(after.length, 3);
  assert.ok(!after.some((pid) => before.includes(pid)), "all three are new");
  await spareOf(controller);
});

/** Pids of the ready workers by id: either the standby workers or the serving ones. */
async function readyPids(
  controller: ControllerUnderTest,
  isStandby: boolean,
): Promise<Readonly<Record<string, number>>> {
  const workers = (await controller.status()).pools.find(({ name }) => name === "web")?.workers ?? [];
  const wanted = workers.filter(({ phase, standby }) => phase === "ready" && standby === isStandby);
  return Object.fromEntries(wanted.flatMap(({ id, pid }) => (pid === null ? [] : [[id, pid]])));
}

async function untilSpares(controller: ControllerUnderTest, count: number): Promise<void> {
  await eventually(
    async () => (Object.keys(await readyPids(controller, true)).length === count ? true : undefined),
    `${count} on standby`,
  );
}

test("scaling keeps the standby workers and fails no request", async () => {
  await using scene = await start("100ms");
  const { controller, target } = scene;
  const reports = await underTraffic(
    target,
    async () => {
      for (const replicas of [3, 2]) {
        await commandOk(controller, "scale", "web", `${replicas}`);
        await untilSpares(controller, 1);
        assert.equal(Object.keys(await readyPids(controller, false)).length, replicas);
      }
    },
    { requests: REQUESTS },
  );
  assertNoneFailed(reports);
});

test("a reload changes the number of standby workers without affecting serving workers", async () => {
  await using scene = await start("100ms");
  const { controller, workers } = scene;
  const serving = await readyPids(controller, false);
  assert.equal(Object.keys(serving).length, 2);
  for (const standby of [2, 1, 0, 1]) {
    controller.configure({ workers: workers.replace('"standby":1', `"standby":${standby}`) });
    const { stdout } = await commandOk(controller, "reload");
    assert.match(stdout, /standby applies at once; no worker is replaced/u);
    await untilSpares(controller, standby);
    assert.deepEqual(await readyPids(controller, false), serving);
  }
  controller.configure({ workers: workers.replace('"100ms"', '"50ms"') });
  await commandOk(controller, "reload");
  await untilSpares(controller, 1);
  const all = Object.values({ ...(await readyPids(controller, false)), ...(await readyPids(controller, true)) });
  assert.equal(all.length, 3);
  assert.ok(!all.some((pid) => Object.values(serving).includes(pid)), "all run with the new arguments");
});
