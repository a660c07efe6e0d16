/** Signals of operation on the real executable: HUP reloads, USR1 restarts, TTIN and TTOU scale the only pool. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { ControllerUnderTest } from "../support/controller.ts";
import { eventsOf, happened, logged, readProc, shellPool } from "../support/watch.ts";

const STAY = "exec sleep 1000";

function pool(name: string, more: Readonly<Record<string, unknown>> = {}): string {
  return shellPool(name, STAY, { startup_wait_time: "0s", rolling: { min_ready: "0s" }, ...more });
}

/** A variable of a process as it was started. */
function variable(pid: number, name: string): string | undefined {
  const entry = readProc(pid, "environ")
    .split("\0")
    .find((each) => each.startsWith(`${name}=`));
  return entry?.slice(name.length + 1);
}

test("SIGHUP with an unchanged file touches no process [S7]", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web", { replicas: 3 }) });
  await controller.ready();
  const before = await controller.pids();
  const last = controller.events.length;
  controller.child.kill("SIGHUP");
  await logged(controller, "reload: nothing has changed");
  assert.deepEqual(await controller.pids(), before);
  assert.deepEqual(controller.events.slice(last), []);
});

test("SIGHUP with an invalid file keeps everything and says what is wrong with line and column [S7]", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web", { replicas: 2 }) });
  await controller.ready();
  const before = await controller.pids();
  writeFileSync(
    controller.configFile,
    "supervisor:\n  workers:\n    - name: web\n      exec: sleep\n      replicas: -1\n",
  );
  controller.child.kill("SIGHUP");
  const line = await logged(controller, "SIGHUP changed nothing");
  assert.match(line, /config\.yaml:5:7: supervisor\.workers\[0\]\.replicas: /u);
  assert.deepEqual(await controller.pids(), before);
  assert.deepEqual(eventsOf(controller, "operation_started"), []);
  // What was wrong is mended, and the signal works again.
  controller.configure({ workers: pool("web", { replicas: 3 }) });
  controller.child.kill("SIGHUP");
  await happened(controller, "operation_finished");
  const { "web-2": third, ...others } = await controller.pids();
  assert.deepEqual([others, third !== undefined], [before, true]);
});

test("SIGHUP with a file that is gone, or that names a program which is not there, keeps everything [S7]", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  const before = await controller.pids();
  controller.configure({ workers: "    - {name: web, exec: ./no-such-program}" });
  controller.child.kill("SIGHUP");
  await logged(controller, "SIGHUP changed nothing", "no-such-program");
  writeFileSync(controller.configFile, "");
  controller.child.kill("SIGHUP");
  await controller.until(
    () => controller.stderr.filter((line) => line.includes("SIGHUP changed nothing")).length === 2,
    "the second reload is refused",
  );
  assert.deepEqual(await controller.pids(), before);
});

test("SIGHUP with a valid file rolls only the pool that has changed [S7]", async () => {
  const kept = pool("kept", { replicas: 2 });
  const web = (colour: string) =>
    pool("web", { replicas: 2, env: { COLOUR: colour }, rolling: { min_ready: "200ms" } });
  await using controller = await ControllerUnderTest.start({ workers: [web("red"), kept].join("\n") });
  await controller.ready();
  const before = await controller.pids();
  controller.configure({ workers: [web("blue"), kept].join("\n") });
  controller.child.kill("SIGHUP");
  await happened(controller, "operation_finished", ({ pool }) => pool === "web");
  await logged(controller, 'reload: pool \\"web\\"', "env");
  const after = await controller.pids();
  assert.deepEqual([after["kept-0"], after["kept-1"]], [before["kept-0"], before["kept-1"]]);
  const replaced = Object.entries(after).flatMap(([id, pid]) => (id.startsWith("web-") ? [pid] : []));
  assert.equal(replaced.length, 2);
  for (const pid of replaced) {
    assert.ok(!Object.values(before).includes(pid));
    assert.equal(variable(pid, "COLOUR"), "blue");
  }
});

test("SIGUSR1 replaces every worker of every pool, one after the other, successor first", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [pool("web", { replicas: 2 }), pool("jobs")].join("\n"),
  });
  await controller.ready();
  const before = Object.values(await controller.pids());
  controller.child.kill("SIGUSR1");
  await happened(controller, "operation_finished", ({ what }) => what === "restart", 2);
  const after = Object.values(await controller.pids());
  assert.equal(after.length, 3);
  assert.ok(!after.some((pid) => before.includes(pid)));
  assert.deepEqual(eventsOf(controller, "pool_degraded"), []);
  assert.ok(eventsOf(controller, "stopping").every(({ reason }) => reason.includes("received SIGUSR1")));
});

test("SIGTTIN adds a replica to the only pool and SIGTTOU takes one away, but never the last", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  const before = await controller.pids();
  controller.child.kill("SIGTTIN");
  await happened(controller, "operation_finished", ({ what }) => what === "scale", 1);
  const grown = await controller.pids();
  assert.deepEqual([Object.keys(grown).sort(), grown["web-0"]], [["web-0", "web-1"], before["web-0"]]);
  controller.child.kill("SIGTTOU");
  await happened(controller, "operation_finished", ({ what }) => what === "scale", 2);
  assert.deepEqual(await controller.pids(), before);
  controller.child.kill("SIGTTOU");
  await logged(controller, "SIGTTOU is ignored: the last worker stays");
  assert.deepEqual(await controller.pids(), before);
});

test("several SIGTTIN in quick succession each count", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  for (let count = 1; count <= 3; count++) {
    controller.child.kill("SIGTTIN");
    // Equal signals that are pending at once are one to the kernel; operations need not be over in between.
    await controller.until(() => seen(controller) >= count, "it is seen");
  }
  await happened(controller, "operation_finished", ({ what }) => what === "scale", 3);
  assert.equal(Object.keys(await controller.pids()).length, 4);
});

/** Scale operations that were asked for so far. */
function seen(controller: ControllerUnderTest): number {
  const ids = controller.events.flatMap((event) =>
    "operation" in event && event.what === "scale" ? [event.operation] : [],
  );
  return new Set(ids).size;
}

test("with two pools SIGTTIN and SIGTTOU change nothing and say how to scale", async () => {
  await using controller = await ControllerUnderTest.start({ workers: [pool("web"), pool("jobs")].join("\n") });
  await controller.ready();
  const before = await controller.pids();
  for (const signal of ["SIGTTIN", "SIGTTOU"] as const) {
    controller.child.kill(signal);
    await logged(controller, `${signal} is for the only pool`, "monoceros scale");
  }
  assert.deepEqual(await controller.pids(), before);
  assert.deepEqual(eventsOf(controller, "operation_started"), []);
});
