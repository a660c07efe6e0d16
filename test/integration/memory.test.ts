/** Limits of memory on real processes: graceful above the soft one, at once above the hard one, the whole tree counted. */
import assert from "node:assert/strict";
import { mkdirSync, rmdirSync, writeFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import {
  ControllerUnderTest,
  eventually,
  isAlive,
  listDescendants,
  PROCESSBIN,
  poolOf,
} from "../support/controller.ts";
import { eventsOf, happened, logged, said, shellPool } from "../support/watch.ts";

const MIB = 2 ** 20;

/** MiB that the reason of a limit says, and of how many processes. */
function readReason(reason: string): { readonly mib: number; readonly kind: string; readonly processes: number } {
  const [, mib, kind, processes] = /^([\d.]+) MiB (rss|pss)(?: in (\d+) processes)?; the limit is /u.exec(reason) ?? [];
  assert.ok(mib !== undefined && kind !== undefined, reason);
  return { mib: Number(mib), kind, processes: Number(processes ?? 1) };
}

/** A command that holds so many bytes until its input ends. */
function holding(bytes: number): string {
  // Without a line's end tail keeps all it has read.
  return `(head -c ${bytes} /dev/zero; sleep 1000) | tail > /dev/null`;
}

test("a worker above its soft limit is replaced gracefully, successor first, and nothing is killed or counted as a restart [R4]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      replicas: 2,
      exec: PROCESSBIN,
      args: ["--leak", "30", "--log-interval", "1h"],
      startup_wait_time: "0s",
      max_restarts: 0,
      limits: { memory: "160MiB" },
      rolling: { min_ready: "100ms" },
    }),
  });
  const reached = await happened(controller, "limit_reached");
  assert.equal(reached.limit, "memory");
  const { mib, kind, processes } = readReason(reached.reason);
  assert.deepEqual([kind, processes, mib > 160], ["rss", 1, true]);
  await happened(controller, "rollout_finished", () => true, 2);
  const taken = eventsOf(controller, "rollout_started")[0];
  const stopped = await happened(controller, "stopping");
  assert.ok(taken !== undefined && taken.seq < stopped.seq, "the successor comes first");
  assert.equal(stopped.signal, "SIGTERM");
  assert.match(stopped.reason, /memory limit: /u);
  assert.deepEqual(eventsOf(controller, "pool_degraded"), []);
  assert.ok(
    (await controller.metric('monoceros_workerpool_limits_events_total{pool="web",limit_event="memory"}')) >= 2,
  );
  assert.equal(await controller.metric('monoceros_workerpool_sigkill_total{pool="web"}'), 0);
  assert.equal(await controller.metric('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}'), 0);
});

test("memory that is freed within a second does not cause a replacement [R4]", async () => {
  const spike = "(head -c 150000000 /dev/zero; sleep 0.6) | tail > /dev/null; echo freed; sleep 2";
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", `while :; do ${spike}; done`, { limits: { memory: "60MiB" } }),
  });
  await controller.ready();
  await said(controller, "web-0", "freed", 5);
  assert.deepEqual(eventsOf(controller, "limit_reached"), []);
  assert.equal(eventsOf(controller, "spawned").length, 1);
});

test("a worker above its hard limit is killed at once, before it has grown much further, and its successor starts [R4]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      replicas: 1,
      exec: PROCESSBIN,
      // It would ignore a stop signal.
      args: ["--leak", "60", "--ignore-signals", "--log-interval", "1h"],
      startup_wait_time: "0s",
      max_restarts: 0,
      limits: { memory_hard: "300MiB" },
    }),
  });
  const reached = await happened(controller, "limit_reached");
  assert.equal(reached.limit, "memory_hard");
  // Two of its steps of 6 MB, and a pause of the machine of half a second.
  assert.ok(readReason(reached.reason).mib < 300 + 45, reached.reason);
  const exited = await happened(controller, "exited");
  assert.deepEqual([exited.status, exited.planned], [{ kind: "signal", signal: "SIGKILL" }, true]);
  await happened(controller, "spawned", ({ incarnation }) => incarnation === 2);
  assert.equal(await controller.metric('monoceros_workerpool_sigkill_total{pool="web"}'), 1);
  assert.equal(await controller.metric('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}'), 0);
  assert.equal(
    await controller.metric('monoceros_workerpool_limits_events_total{pool="web",limit_event="memory_hard"}'),
    1,
  );
});

test("the memory of all processes of a worker counts, also outside its session, and all are killed [R4]", async () => {
  // No process is above the limit alone.
  const script = `${holding(45e6)} & setsid sh -c '${holding(45e6)}' & (setsid sh -c '${holding(45e6)}' &) ; exec sleep 1000`;
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", script, { limits: { memory_hard: "110MiB" } }),
  });
  const pid = await eventually(async () => (await controller.worker("web-0")).pid ?? undefined, "it runs");
  const reached = await happened(controller, "limit_reached");
  const { mib, processes } = readReason(reached.reason);
  assert.ok(mib > 110 && mib < 200, reached.reason);
  // The leader, three tails, and the shells and sleeps around them.
  assert.ok(processes >= 8, reached.reason);
  const exited = await happened(controller, "exited", (event) => event.pid === pid);
  assert.equal(exited.planned, true);
  await happened(controller, "spawned", ({ incarnation }) => incarnation === 2);
  const { pid: second } = await controller.worker("web-0");
  const ours = listDescendants(controller.pid).filter(isAlive);
  assert.ok(second !== null && ours.includes(second));
  // One more worker would be eight or more.
  assert.ok(ours.length <= 16, `${ours.length} processes are left of one worker and the guardian`);
});

test("memory_kind pss counts shared memory once, rss counts it per process", async () => {
  const script = [
    "import os, time",
    `block = b'x' * ${80 * MIB}`,
    "for child in range(3):",
    "    if os.fork() == 0: break",
    "time.sleep(1000)",
  ].join("\n");
  const pool = (kind: string) =>
    poolOf({
      name: kind,
      exec: "python3",
      args: ["-c", script],
      startup_wait_time: "0s",
      limits: { memory_hard: "200MiB", memory_kind: kind },
    });
  await using controller = await ControllerUnderTest.start({ workers: `${pool("rss")}\n${pool("pss")}` });
  for (const nth of [1, 2]) {
    const reached = await happened(controller, "limit_reached", () => true, nth);
    assert.equal(reached.pool, "rss");
    const { mib, processes } = readReason(reached.reason);
    assert.ok(processes === 4 && mib > 320, reached.reason);
  }
  assert.equal(eventsOf(controller, "spawned").filter((event) => event.pool === "pss").length, 1);
});

/** A control group with a limit of memory, removed after the test; undefined where none can be made. */
function limitedGroup(context: TestContext, bytes: number): string | undefined {
  for (const [root, file] of [
    ["/sys/fs/cgroup/memory", "memory.limit_in_bytes"],
    ["/sys/fs/cgroup", "memory.max"],
  ] as const) {
    const group = `${root}/monoceros-test-${process.pid}`;
    try {
      mkdirSync(group);
    } catch {
      continue;
    }
    context.after(() => rmdirSync(group));
    try {
      writeFileSync(`${group}/${file}`, String(bytes));
      return group;
    } catch {
      // The controller of memory is not there.
    }
  }
  return undefined;
}

test("a control group that is too small for the limits is reported at the start [R5]", async (context) => {
  const group = limitedGroup(context, 600 * MIB);
  if (group === undefined) {
    context.skip("no control group can be made here");
    return;
  }
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "exec sleep 1000", { replicas: 2, limits: { memory: "200MiB", memory_hard: "300MiB" } }),
    wrapper: ["/bin/sh", "-c", `echo $$ > ${group}/cgroup.procs; exec "$@"`, "sh"],
  });
  await controller.ready();
  assert.ok(!controller.stderr.some((line) => line.includes("control group")), "two workers and a successor just fit");
  await controller.stop();
  await using larger = await ControllerUnderTest.start({
    workers: shellPool("web", "exec sleep 1000", { replicas: 3, limits: { memory: "200MiB", memory_hard: "300MiB" } }),
    wrapper: ["/bin/sh", "-c", `echo $$ > ${group}/cgroup.procs; exec "$@"`, "sh"],
  });
  await logged(larger, "limits.memory", "need 800 MiB", "more than the 600 MiB");
  await larger.ready();
  await larger.stop();
});
