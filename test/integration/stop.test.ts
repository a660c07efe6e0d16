/** How a worker is stopped: its signal, its process group, the grace period, and processes that left the group. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerUnderTest, isAlive, listDescendants, PROCESSBIN, poolOf, untilGone } from "../support/controller.ts";
import {
  eventsOf,
  grandchildrenOf,
  guardianOf,
  happened,
  msBetween,
  readProc,
  said,
  saidBy,
  shellPool,
} from "../support/watch.ts";

/** All processes of the workers. */
function workerProcesses(controller: ControllerUnderTest): number[] {
  const guardian = guardianOf(controller.pid);
  return listDescendants(controller.pid).filter((pid) => pid !== guardian && isAlive(pid));
}

test("a worker that ignores the stop signal is killed with its group after signal_timeout, and the kill is counted [S2]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", `trap "" TERM; sleep 1000 & sleep 1000 & echo up; wait; exec sleep 1000`, {
      signal_timeout: "1s",
    }),
  });
  await said(controller, "web-0", "up");
  const family = workerProcesses(controller);
  assert.equal(family.length, 3);
  await controller.call("POST", "/v1/workers/web-0/stop");
  const stopping = await happened(controller, "stopping");
  assert.deepEqual([stopping.signal, stopping.graceMs], ["SIGTERM", 1000]);
  const killed = await happened(controller, "killed");
  await happened(controller, "stopped");
  const graceMs = msBetween(stopping, killed);
  assert.ok(graceMs >= 995, `${graceMs} ms`);
  assert.deepEqual(family.filter(isAlive), []);
  assert.equal(await controller.metric('monoceros_workerpool_sigkill_total{pool="web"}'), 1);
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
});

test("a worker that is suspended by SIGSTOP is stopped without being killed [S8]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "echo up; exec sleep 1000", { signal_timeout: "50s" }),
  });
  await said(controller, "web-0", "up");
  const pid = await controller.pidOf("web-0");
  process.kill(pid, "SIGSTOP");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  assert.deepEqual(eventsOf(controller, "killed"), []);
  assert.equal(isAlive(pid), false);
});

test("stop_signal is sent to all processes of the group [S2]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool(
      "web",
      `trap 'echo leader stops; wait; exit 0' USR2
       sh -c 'trap "echo child stops; exit 0" USR2; echo up; while :; do sleep 0.02; done' &
       while :; do sleep 0.02; done`,
      { stop_signal: "SIGUSR2" },
    ),
  });
  await said(controller, "web-0", "up");
  assert.equal((await controller.stop()).code, 0);
  await said(controller, "web-0", "leader stops");
  await said(controller, "web-0", "child stops");
  assert.equal((await happened(controller, "stopping")).signal, "SIGUSR2");
  assert.deepEqual(eventsOf(controller, "killed"), []);
});

for (const { where, flags } of [
  { where: "that is in the group", flags: [] },
  { where: "that left group and session", flags: ["--grandchild-setsid"] },
]) {
  test(`after its leader exited, a grandchild ${where} and ignores SIGTERM is killed after signal_timeout [S3]`, async () => {
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({
        name: "web",
        exec: PROCESSBIN,
        args: ["--grandchildren", 2, "--grandchild-ignores-term", ...flags],
        signal_timeout: "1s",
      }),
    });
    const grandchildren = await grandchildrenOf(controller, "web-0");
    // A shell ignores the signal and then executes sleep.
    for (const pid of grandchildren)
      while (!readProc(pid, "cmdline").startsWith("sleep")) await new Promise(setImmediate);
    const leader = await controller.pidOf("web-0");
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
    const exited = await happened(controller, "exited");
    const killed = await happened(controller, "killed");
    const stopped = await happened(controller, "stopped");
    assert.deepEqual(exited.status, { kind: "code", code: 143 });
    assert.ok(
      exited.seq < killed.seq && killed.seq < stopped.seq,
      "the leader exits, then the grandchildren are killed, then the stop is complete",
    );
    const graceMs = msBetween(await happened(controller, "stopping"), killed);
    // The time of the first event is a moment after the start of the grace period.
    assert.ok(graceMs >= 950, `${graceMs} ms`);
    assert.deepEqual([leader, ...grandchildren].filter(isAlive), []);
  });
}

test("a grandchild that left the session is sent SIGTERM when its leader has exited, and is not killed if it obeys [S3]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      exec: PROCESSBIN,
      args: ["--grandchildren", 2, "--grandchild-setsid"],
      signal_timeout: "50s",
    }),
  });
  const grandchildren = await grandchildrenOf(controller, "web-0");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  assert.deepEqual(eventsOf(controller, "killed"), []);
  assert.deepEqual(grandchildren.filter(isAlive), []);
});

for (const { where, flags } of [
  { where: "in its group", flags: [] },
  { where: "outside its group", flags: ["--grandchild-setsid"] },
]) {
  test(`processes that a crashed worker left behind ${where} have exited before its restart [S3]`, async () => {
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({
        name: "web",
        exec: PROCESSBIN,
        args: ["--grandchildren", 1, "--grandchild-ignores-term", ...flags],
        signal_timeout: "300ms",
      }),
    });
    const grandchildren = await grandchildrenOf(controller, "web-0");
    process.kill(await controller.pidOf("web-0"), "SIGKILL");
    const restarted = await happened(controller, "spawned", ({ incarnation }) => incarnation === 2);
    assert.deepEqual(grandchildren.filter(isAlive), []);
    assert.ok((await happened(controller, "stopped")).seq < restarted.seq);
    assert.equal((await controller.worker("web-0")).restarts, 1);
  });
}

const WAIT = "while :; do sleep 0.02; done";

test("a grandchild that outlives its leader receives the stop signal once [S3 S9]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", `trap 'exit 0' TERM; sh -c "$GRANDCHILD" & ${WAIT}`, {
      // After the first signal it waits for further ones for a while.
      env: {
        GRANDCHILD: `trap 'echo term; left=10' TERM; echo up
          while [ "$left" != 0 ]; do sleep 0.05; [ -n "$left" ] && left=$((left - 1)); done`,
      },
    }),
  });
  await said(controller, "web-0", "up");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  assert.equal(saidBy(controller, "web-0", "term").length, 1);
  assert.deepEqual(eventsOf(controller, "killed"), []);
});

test("a process that left the session is sent the stop signal even if its parent exits after the leader [S3]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", `trap 'exit 0' TERM; sh -c "$CHILD" & ${WAIT}`, {
      env: {
        CHILD: `trap 'sleep 0.3; exit 0' TERM; setsid sh -c "$ESCAPED" & ${WAIT}`,
        ESCAPED: `trap 'echo done; exit 0' TERM; echo up; ${WAIT}`,
      },
      signal_timeout: "50s",
    }),
  });
  await said(controller, "web-0", "up");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await said(controller, "web-0", "done");
  assert.deepEqual(eventsOf(controller, "killed"), []);
});

/** Reports each SIGTERM, as does its child; exits after its child, like celery. */
const PARENT = `
sh -c 'trap "echo child got" TERM; trap "end=1" USR1; echo child up; while [ -z "$end" ]; do sleep 0.02; done' & child=$!
trap 'echo leader got; kill -USR1 $child; wait $child; exit 0' TERM
echo leader up
while :; do sleep 0.02; done`;

for (const [target, expected] of [
  ["group", 1],
  ["leader", 0],
] as const) {
  test(`with stop_signal_target ${target}, the stop signal is sent to ${expected === 1 ? "all processes" : "the leader only"}`, async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shellPool("web", PARENT, { stop_signal_target: target, signal_timeout: "60s" }),
    });
    for (const text of ["leader up", "child up"]) await said(controller, "web-0", text);
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
    assert.equal(saidBy(controller, "web-0", "leader got").length, 1);
    assert.equal(saidBy(controller, "web-0", "child got").length, expected);
  });
}

test("with stop_signal_target leader, the group is killed after signal_timeout, and processes left behind are signaled", async () => {
  const stubborn = `trap "" TERM; sh -c 'echo child up; exec sleep 1000' & echo leader up; wait; sleep 1000`;
  const careless = `sh -c 'trap "echo child got; exit 0" TERM; echo child up; while :; do sleep 0.02; done' & echo leader up; trap 'exit 0' TERM; while :; do sleep 0.02; done`;
  const keys = { stop_signal_target: "leader" };
  await using controller = await ControllerUnderTest.start({
    workers: [
      shellPool("stubborn", stubborn, { ...keys, signal_timeout: "300ms" }),
      shellPool("careless", careless, { ...keys, signal_timeout: "60s" }),
    ].join("\n"),
  });
  for (const worker of ["stubborn-0", "careless-0"])
    for (const text of ["leader up", "child up"]) await said(controller, worker, text);
  const family = listDescendants(controller.pid);
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  assert.equal(saidBy(controller, "careless-0", "child got").length, 1);
  assert.deepEqual(
    eventsOf(controller, "killed").map(({ pool }) => pool),
    ["stubborn"],
  );
  for (const pid of family) await untilGone(pid);
});
