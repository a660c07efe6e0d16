/** Unplanned exits: backoff, restart limit and exit code of the controller. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatExit } from "../../src/core/exit.ts";
import { ControllerUnderTest } from "../support/controller.ts";
import { eventsOf, happened, recordsOf, shellPool } from "../support/watch.ts";

const STAY = "exec sleep 1000";
/** The first process runs until the test kills it, so that the test sees all events. Later ones fail. */
const failing = (command: string) => `[ "$MONOCEROS_INCARNATION" = 1 ] && ${STAY}; ${command}`;
const FAST = { backoff: { initial: "10ms", max: "20ms", jitter: 0 } };

test("a crashing worker is restarted at once, then with growing backoff, and at its restart limit the controller exits with 1 [L3]", async () => {
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
    /worker "bad-0" reached its restart limit and stays down: .*exited with code 7; 6 crashes or failed starts within 10m; the limit is 5/u,
  );
  assert.equal(gaveUp?.["worker_id"], "bad-0");
  const order = controller.events.map(({ kind }) => kind);
  assert.ok(order.indexOf("gave_up") < order.indexOf("controller_stopping"));
  assert.equal(
    eventsOf(controller, "stopped").filter(({ pool }) => pool === "good").length,
    2,
    "the other workers are stopped gracefully",
  );
});

test("jitter spreads the backoff of workers that crash together [L3]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "exit 1", {
      replicas: 8,
      restart: { backoff: { initial: "10m", max: "10m", jitter: 0.5 } },
    }),
  });
  const waits = (): number[] =>
    eventsOf(controller, "backing_off").flatMap(({ delayMs }) => (delayMs > 0 ? [delayMs] : []));
  await controller.until(() => waits().length === 8, "all eight workers back off");
  for (const wait of waits()) assert.ok(wait >= 300_000 && wait <= 900_000, String(wait));
  assert.equal(new Set(waits().map(Math.round)).size, 8);
});

test("without max_restarts a worker is restarted indefinitely, and other workers are not affected [L3]", async () => {
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

test("workers that exit with 0 are restarted too, and at the restart limit the controller exits with 1 [L5]", async () => {
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

test("with give-up-worker other slots and pools keep running [L5]", async () => {
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
  assert.equal(status.healthy, false, "2 of 3 is less than 75 %");
  assert.equal((await controller.call("POST", "/v1/workers/web-1/start")).status, 202);
  await happened(controller, "gave_up", ({ pool }) => pool === "web", 2);
  assert.equal((await controller.stop()).code, 0);
});

test("with give-up-worker the controller exits with 1 when all workers have reached their restart limit [L5]", async () => {
  const policy = { max_restarts: 0, restart: { on_exhausted: "give-up-worker" } };
  const { ending, stderr } = await ControllerUnderTest.run({
    workers: [shellPool("web", "exit 3", { replicas: 2, ...policy }), shellPool("job", "exit 0", policy)].join("\n"),
  });
  assert.deepEqual(ending, { code: 1, signal: null });
  assert.equal(recordsOf(stderr).filter((record) => record["code"] === "RESTARTS_EXHAUSTED").length, 3);
});

const EXITS: readonly (readonly [command: string, label: string])[] = [
  ...[0, 1, 2, 3, 4, 64, 127, 255].map((code) => [`exit ${code}`, `exited with code ${code}`] as const),
  ["kill -SEGV $$", "killed by SIGSEGV"],
  ["kill -KILL $$", "killed by SIGKILL"],
  ["kill -TERM $$", "killed by SIGTERM"],
];

test("at the restart limit the controller exits with 1 for any exit status of the worker, and logs that status [L6]", async () => {
  // Two at a time, because the machine may have only two processors.
  const waiting = [...EXITS];
  const runOne = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [command, label] = next;
      const { ending, stderr } = await ControllerUnderTest.run({
        workers: shellPool("web", command, { max_restarts: 0, rlimits: { core: 0 } }),
      });
      assert.deepEqual(ending, { code: 1, signal: null }, command);
      assert.ok(
        stderr.some((line) => line.includes(label)),
        `${command}: ${stderr.join("\n")}`,
      );
    }
  };
  await Promise.all([runOne(), runOne()]);
});

test("after SIGTERM the controller exits with 0 for any exit status of its workers [L6]", async () => {
  const script = (command: string) => `trap '${command}' TERM; echo up; while :; do sleep 0.02; done`;
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

test("a worker that exits with an expected code is always restarted at once, regardless of max_restarts", async () => {
  // The uptime is long enough, as for a server that exits after a number of requests.
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

test("a worker that exits with an expected code right after its start backs off and never reaches the restart limit", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "exit 0", { max_restarts: 0, restart: { ...FAST, expected_exit_codes: [0] } }),
  });
  await happened(controller, "backing_off", ({ delayMs }) => delayMs > 0, 10);
  assert.deepEqual(eventsOf(controller, "gave_up"), []);
});

test("with restart policy on-failure a failed worker is restarted, exit code 0 completes it, and start runs it again", async () => {
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
  assert.deepEqual([healthy, pools[0]?.workers[0]?.phase], [true, "completed"]);
  assert.match(pools[0]?.workers[0]?.reason ?? "", /completed/u);
  assert.match((await controller.call("GET", "/health")).body, /job: 0 of 1 ready, 1 completed/u);
  assert.equal((await controller.call("POST", "/v1/workers/job-0/start")).status, 202);
  await happened(controller, "ended", () => true, 2);
  await happened(controller, "operation_finished", ({ what }) => what === "start");
  assert.equal((await controller.stop()).code, 0);
});

test("the controller exits with 0 when all workers have completed, and with 1 if one has failed", async () => {
  const pool = (name: string, code: number) => shellPool(name, `exit ${code}`, { restart: { policy: "never" } });
  const good = await ControllerUnderTest.run({ workers: [pool("a", 0), pool("b", 0)].join("\n") });
  assert.deepEqual(good.ending, { code: 0, signal: null }, good.stderr.join("\n"));
  const bad = await ControllerUnderTest.run({ workers: [pool("a", 0), pool("b", 4)].join("\n") });
  assert.deepEqual(bad.ending, { code: 1, signal: null }, bad.stderr.join("\n"));
  assert.ok(bad.stderr.some((line) => line.includes("failed and stays down: exited with code 4")));
});

test("a restart policy changed by a reload applies to running workers", async () => {
  const web = (policy: string) => shellPool("web", "exec sleep 1000", { restart: { policy } });
  const stay = shellPool("stay", STAY);
  await using controller = await ControllerUnderTest.start({ workers: [web("always"), stay].join("\n") });
  await controller.ready();
  const pid = await controller.pidOf("web-0");
  controller.configure({ workers: [web("never"), stay].join("\n") });
  controller.child.kill("SIGHUP");
  await happened(controller, "operation_finished", ({ what }) => what === "reload");
  assert.equal(await controller.pidOf("web-0"), pid, "the worker is not replaced");
  process.kill(pid, "SIGKILL");
  await happened(controller, "ended", ({ isFailure }) => isFailure);
});
