/** Unplanned exits: how long a restart waits, when a worker is given up, and what the controller then exits with. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatExit } from "../../src/core/exit.ts";
import { ControllerUnderTest } from "../support/controller.ts";
import { eventsOf, happened, recordsOf, shellPool } from "../support/watch.ts";

const STAY = "exec sleep 1000";
/** The first process stays until the test kills it, so that nothing is over before it is watched; the others fail. */
const failing = (how: string) => `[ "$MONOCEROS_INCARNATION" = 1 ] && ${STAY}; ${how}`;
const FAST = { backoff: { initial: "10ms", max: "20ms", jitter: 0 } };

test("a worker that never boots is restarted at once, then after growing waits, then all ends with exit 1 [L3]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [
      shellPool("bad", failing("exit 7"), {
        max_restarts: 5,
        restart: { backoff: { initial: "20ms", factor: 2, jitter: 0, max: "100ms" } },
      }),
      shellPool("good", STAY, { replicas: 2 }),
    ].join("\n"),
  });
  process.kill(await controller.pidOf("bad-0"), "SIGKILL");
  assert.deepEqual(await controller.ended, { code: 1, signal: null });
  await happened(controller, "controller_stopped");
  assert.deepEqual(
    eventsOf(controller, "backing_off").map(({ delayMs }) => delayMs),
    [0, 20, 40, 80, 100],
  );
  assert.equal(eventsOf(controller, "spawned").filter(({ pool }) => pool === "bad").length, 6);
  const gaveUp = recordsOf(controller.stderr).find((record) => record["code"] === "RESTARTS_EXHAUSTED");
  assert.match(
    String(gaveUp?.["msg"]),
    /worker "bad-0" reached its restart limit and stays down: .*exited with code 7; 6 unplanned exits within 10m, allowed are 5/u,
  );
  assert.equal(gaveUp?.["worker_id"], "bad-0");
  const order = controller.events.map(({ kind }) => kind);
  assert.ok(order.indexOf("gave_up") < order.indexOf("controller_stopping"));
  assert.equal(
    eventsOf(controller, "stopped").filter(({ pool }) => pool === "good").length,
    2,
    "the rest stops in order",
  );
});

test("jitter spreads the waits of slots that crash together [L3]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "exit 1", {
      replicas: 8,
      restart: { backoff: { initial: "10m", max: "10m", jitter: 0.5 } },
    }),
  });
  const waits = (): number[] =>
    eventsOf(controller, "backing_off").flatMap(({ delayMs }) => (delayMs > 0 ? [delayMs] : []));
  await controller.until(() => waits().length === 8, "all eight wait");
  for (const wait of waits()) assert.ok(wait >= 300_000 && wait <= 900_000, String(wait));
  assert.equal(new Set(waits().map(Math.round)).size, 8);
});

test("without max_restarts a worker is restarted for ever, and the others never notice [L3]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [shellPool("bad", "exit 1", { restart: FAST }), shellPool("good", STAY)].join("\n"),
  });
  await happened(controller, "exited", () => true, 15);
  const status = await controller.status();
  assert.equal(status.phase === "booting" || status.phase === "running", true);
  assert.equal((await controller.worker("good-0")).incarnation, 1);
  assert.deepEqual(eventsOf(controller, "gave_up"), []);
  assert.equal((await controller.stop()).code, 0);
});

test("workers that end with 0 are restarted like any other and exit 1 when the budget is spent [L5]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("job", failing("exit 0"), { replicas: 2, max_restarts: 2, restart: FAST }),
  });
  process.kill(await controller.pidOf("job-1"), "SIGKILL");
  assert.deepEqual(await controller.ended, { code: 1, signal: null });
  await happened(controller, "controller_stopped");
  assert.deepEqual(
    eventsOf(controller, "exited").map(({ slot, status, planned }) => [slot, formatExit(status), planned]),
    [
      [1, "killed by SIGKILL", false],
      [1, "exited with code 0", false],
      [1, "exited with code 0", false],
      [0, "killed by SIGTERM", true],
    ],
  );
});

test("give-up-worker keeps the other slots and pools running [L5]", async () => {
  const policy = { max_restarts: 1, restart: { ...FAST, on_exhausted: "give-up-worker" } };
  await using controller = await ControllerUnderTest.start({
    workers: [
      shellPool("web", `[ "$MONOCEROS_SLOT" = 1 ] && exit 3; ${STAY}`, { replicas: 3, ...policy }),
      shellPool("job", "exit 0", policy),
      shellPool("good", STAY),
    ].join("\n"),
  });
  await happened(controller, "gave_up", ({ pool }) => pool === "web");
  await happened(controller, "gave_up", ({ pool }) => pool === "job");
  await controller.ready();
  const status = await controller.status();
  assert.deepEqual(
    status.pools.flatMap(({ workers }) => workers.map(({ id, phase }) => `${id} ${phase}`)),
    ["web-0 ready", "web-1 down", "web-2 ready", "job-0 down", "good-0 ready"],
  );
  assert.equal(status.healthy, false, "2 of 3 are less than 75 %");
  assert.equal((await controller.call("POST", "/v1/workers/web-1/start")).status, 202);
  await happened(controller, "gave_up", ({ pool }) => pool === "web", 2);
  assert.equal((await controller.stop()).code, 0);
});

test("when every worker of every pool is given up the controller exits 1 although the policy spares it [L5]", async () => {
  const policy = { max_restarts: 0, restart: { on_exhausted: "give-up-worker" } };
  const { ending, stderr } = await ControllerUnderTest.run({
    workers: [shellPool("web", "exit 3", { replicas: 2, ...policy }), shellPool("job", "exit 0", policy)].join("\n"),
  });
  assert.deepEqual(ending, { code: 1, signal: null });
  assert.equal(recordsOf(stderr).filter((record) => record["code"] === "RESTARTS_EXHAUSTED").length, 3);
});

const ENDS: readonly (readonly [how: string, label: string])[] = [
  ...[0, 1, 2, 3, 4, 64, 127, 255].map((code) => [`exit ${code}`, `exited with code ${code}`] as const),
  ["kill -SEGV $$", "killed by SIGSEGV"],
  ["kill -KILL $$", "killed by SIGKILL"],
  ["kill -TERM $$", "killed by SIGTERM"],
];

test("the controller gives up with 1 however the worker ended, and names how it ended [L6]", async () => {
  // Two at a time: there may be no more processors than that.
  const waiting = [...ENDS];
  const runOne = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [how, label] = next;
      const { ending, stderr } = await ControllerUnderTest.run({
        workers: shellPool("web", how, { max_restarts: 0, rlimits: { core: 0 } }),
      });
      assert.deepEqual(ending, { code: 1, signal: null }, how);
      assert.ok(
        stderr.some((line) => line.includes(label)),
        `${how}: ${stderr.join("\n")}`,
      );
    }
  };
  await Promise.all([runOne(), runOne()]);
});

test("the controller exits with 0 after SIGTERM however its workers end then [L6]", async () => {
  const script = (how: string) => `trap '${how}' TERM; echo up; while :; do sleep 0.02; done`;
  await using controller = await ControllerUnderTest.start({
    workers: [
      ...[0, 1, 4, 255].map((code) => shellPool(`exit${code}`, script(`exit ${code}`))),
      shellPool("segv", script("kill -SEGV $$"), { rlimits: { core: 0 } }),
      shellPool("plain", STAY),
    ].join("\n"),
  });
  const talkers = ["exit0", "exit1", "exit4", "exit255", "segv"];
  await controller.until(
    () => talkers.every((pool) => controller.stdout.some((line) => line.includes(`"${pool}-0"`))),
    "all traps are set",
  );
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await happened(controller, "controller_stopped");
  assert.ok(eventsOf(controller, "exited").every(({ planned }) => planned));
});

test("a worker that exits with an expected code is replaced at once every time, regardless of max_restarts", async () => {
  // Long enough a life, as of a server that ends after so many requests.
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "sleep 1.1; exit 7", {
      max_restarts: 0,
      restart: { ...FAST, expected_exit_codes: [0, 7] },
    }),
  });
  await happened(controller, "exited", ({ cause }) => cause === "expected", 3);
  assert.deepEqual(eventsOf(controller, "backing_off"), []);
  assert.deepEqual(eventsOf(controller, "gave_up"), []);
  assert.equal(await controller.metric('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}'), 0);
  assert.ok((await controller.metric('monoceros_pool_exits_total{pool="web",reason="expected",status="7"}')) >= 3);
});

test("a worker that exits with an expected code right after its start backs off and never counts as failed", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "exit 0", { max_restarts: 0, restart: { ...FAST, expected_exit_codes: [0] } }),
  });
  await happened(controller, "backing_off", ({ delayMs }) => delayMs > 0, 10);
  assert.deepEqual(eventsOf(controller, "gave_up"), []);
});

test("on-failure: a worker that ends with 0 is completed, one that fails starts again; start runs it once more", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [
      shellPool("job", '[ "$MONOCEROS_INCARNATION" = 1 ] && exit 3; exit 0', { restart: { policy: "on-failure" } }),
      shellPool("web", STAY),
    ].join("\n"),
  });
  await happened(controller, "ended", ({ isFailure }) => !isFailure);
  assert.deepEqual(
    eventsOf(controller, "exited").map(({ status, cause }) => [formatExit(status), cause]),
    [
      ["exited with code 3", undefined],
      ["exited with code 0", "completed"],
    ],
  );
  await controller.ready();
  const { healthy, pools } = await controller.status();
  assert.deepEqual([healthy, pools[0]?.workers[0]?.phase], [true, "down"]);
  assert.match(pools[0]?.workers[0]?.reason ?? "", /completed/u);
  assert.match((await controller.call("GET", "/health")).body, /job: 0 of 1 ready, 1 completed/u);
  assert.equal((await controller.call("POST", "/v1/workers/job-0/start")).status, 202);
  await happened(controller, "ended", () => true, 2);
  await happened(controller, "operation_finished", ({ what }) => what === "start");
  assert.equal((await controller.stop()).code, 0);
});

test("a controller whose workers have all completed ends with 0, and with 1 where one has failed", async () => {
  const pool = (name: string, code: number) => shellPool(name, `exit ${code}`, { restart: { policy: "never" } });
  const good = await ControllerUnderTest.run({ workers: [pool("a", 0), pool("b", 0)].join("\n") });
  assert.deepEqual(good.ending, { code: 0, signal: null }, good.stderr.join("\n"));
  const bad = await ControllerUnderTest.run({ workers: [pool("a", 0), pool("b", 4)].join("\n") });
  assert.deepEqual(bad.ending, { code: 1, signal: null }, bad.stderr.join("\n"));
  assert.ok(bad.stderr.some((line) => line.includes("failed and stays down: exited with code 4")));
});

test("another restart policy holds after a reload for workers that run", async () => {
  const web = (policy: string) => shellPool("web", "exec sleep 1000", { restart: { policy } });
  const stay = shellPool("stay", STAY);
  await using controller = await ControllerUnderTest.start({ workers: [web("always"), stay].join("\n") });
  await controller.ready();
  const pid = await controller.pidOf("web-0");
  controller.configure({ workers: [web("never"), stay].join("\n") });
  controller.child.kill("SIGHUP");
  await happened(controller, "operation_finished", ({ what }) => what === "reload");
  assert.equal(await controller.pidOf("web-0"), pid, "the process is the same");
  process.kill(pid, "SIGKILL");
  await happened(controller, "ended", ({ isFailure }) => isFailure);
});
