import assert from "node:assert/strict";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { lives, ProcessScene, until } from "../../../test/support/processScene.ts";
import type { ExitStatus } from "../../core/exit.ts";
import { becomeSubreaper, raiseDescriptor } from "../os/linux.ts";
import { countOpenFds, readEnvironmentVariable } from "../os/procfs.ts";
import type { Helper } from "./helpers.ts";

function help(scene: ProcessScene, script: string, exited: (status: ExitStatus) => void = () => {}): Helper {
  const argv = ["sh", "-c", script];
  const worker = { pool: 0, slot: 0, incarnation: 1, revision: 1, workerPid: 1 };
  return scene.processes.helpers.spawnHelper({ ...worker, file: "/bin/sh", argv }, exited);
}

function writtenPid(path: string): number {
  return existsSync(path) ? Number(readFileSync(path, "utf8")) : 0;
}

test("the exit of a helper is reported to its caller and does not count as an orphan", async (context) => {
  const scene = new ProcessScene(context, "exec sleep 1000");
  const exits: ExitStatus[] = [];
  help(scene, "exit 5", (status) => exits.push(status));
  await until(() => exits.length === 1, "the helper has ended");
  assert.deepEqual(exits, [{ kind: "code", code: 5 }]);
  assert.equal(scene.processes.orphansReaped, 0);
  assert.deepEqual(scene.exits, []);
});

test("a running helper is not a survivor of its worker", async (context) => {
  const scene = new ProcessScene(context, "exit 0");
  const helper = help(scene, "sleep 1000");
  scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  await until(() => scene.exits.length === 1, "the worker has ended");
  assert.equal(scene.exits[0]?.survivors, false);
  assert.equal(lives(helper.pid), true);
});

test("a process that a helper started in another session is not the worker's", async (context) => {
  const scene = new ProcessScene(context, "while [ ! -e go ]; do sleep 0.01; done");
  scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  let hasEnded = false;
  help(scene, "setsid sh -c 'echo $$ > stray.tmp; mv stray.tmp stray; exec sleep 1000' & wait", () => {
    hasEnded = true;
  });
  await until(() => lives(writtenPid(scene.path("stray"))), "the stray runs");
  const stray = writtenPid(scene.path("stray"));
  assert.equal(hasEnded, false);
  closeSync(openSync(scene.path("go"), "w"));
  await until(() => scene.exits.length === 1, "the worker has ended");
  assert.equal(scene.exits[0]?.survivors, false);
  process.kill(stray, "SIGKILL");
});

test("killing a worker does not kill its helper", async (context) => {
  const scene = new ProcessScene(context, "exec sleep 1000");
  const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  const helper = help(scene, "exec sleep 1000");
  await until(() => readEnvironmentVariable(helper.pid, "MONOCEROS_WORKER_PID") === "1", "the helper runs");
  scene.processes.kill(leader);
  await until(() => scene.exits.length === 1, "the worker has ended");
  assert.equal(lives(helper.pid), true);
  helper.kill();
  await until(() => !lives(helper.pid), "the helper has ended");
  helper.kill();
});

test("killing several workers in one turn also kills processes that left their groups, and no others", async (context) => {
  const script =
    "(setsid sh -c 'echo $$ > escaped$OWN.tmp; mv escaped$OWN.tmp escaped$OWN; exec sleep 1000' &); exec sleep 1000";
  // So that the scene finds at its end what has left its worker.
  becomeSubreaper();
  const scene = new ProcessScene(context, script, { envOf: (slot) => ({ OWN: String(slot) }) });
  const leaders = [0, 1, 2].map((slot) => scene.processes.begin({ pool: 0, slot, incarnation: 1 }, 1)());
  const escaped = (slot: number) => writtenPid(scene.path(`escaped${slot}`));
  await until(() => [0, 1, 2].every((slot) => lives(escaped(slot))), "all have started something elsewhere");
  const pids = [0, 1, 2].map(escaped);
  for (const leader of leaders.slice(0, 2)) scene.processes.kill(leader);
  await until(() => scene.exits.length === 2, "two have ended");
  await until(() => pids.slice(0, 2).every((pid) => !lives(pid)), "what they started elsewhere has ended");
  assert.ok(lives(leaders[2] ?? 0) && lives(pids[2] ?? 0));
});

test("remaining helpers are killed with their groups", async (context) => {
  const scene = new ProcessScene(context, "exit 0");
  const helper = help(scene, "sleep 1000 & echo $! > child.tmp; mv child.tmp child; wait");
  await until(() => lives(writtenPid(scene.path("child"))), "the child runs");
  const child = writtenPid(scene.path("child"));
  scene.processes.killStrays();
  await until(() => !lives(helper.pid) && !lives(child), "the helper is gone");
});

test("a worker reports readiness by a newline on the descriptor in MONOCEROS_NOTIFY_FD", async (context) => {
  const script =
    'printf "no newline yet" >&$MONOCEROS_NOTIFY_FD; while [ ! -e go ]; do sleep 0.01; done; echo >&3; echo >&3; exec sleep 1000';
  const scene = new ProcessScene(context, script, { notifies: true });
  const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  let notified = 0;
  scene.processes.channelsOf(leader)?.newline?.listen(() => notified++);
  assert.equal(notified, 0);
  closeSync(openSync(scene.path("go"), "w"));
  await until(() => notified > 0, "the worker has notified");
  assert.equal(notified, 1);
  scene.processes.kill(leader);
  await until(() => scene.exits.length === 1, "the worker has ended");
  assert.equal(notified, 1);
  assert.equal(scene.processes.channelsOf(leader), undefined);
});

test("the notify descriptor follows the sockets", async (context) => {
  const nullFd = openSync("/dev/null", "r");
  const fds = Array.from({ length: 3 }, () => raiseDescriptor(openSync("/dev/null", "r"), 100));
  context.after(() => {
    for (const fd of [nullFd, ...fds]) closeSync(fd);
  });
  const scene = new ProcessScene(
    context,
    'echo $MONOCEROS_NOTIFY_FD $LISTEN_FDS $(readlink /proc/$$/fd/3) $(readlink /proc/$$/fd/5) > told; echo >&"$MONOCEROS_NOTIFY_FD"; exec sleep 1000',
    { notifies: true, sockets: { fds, names: ["a", "b", "c"] } },
  );
  const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  const notified = Promise.withResolvers<void>();
  scene.processes.channelsOf(leader)?.newline?.listen(notified.resolve);
  await notified.promise;
  assert.equal(readFileSync(scene.path("told"), "utf8").trim(), "6 3 /dev/null /dev/null");
  scene.processes.kill(leader);
  await until(() => scene.exits.length === 1, "the worker has ended");
});

test("closing the notify descriptor without a newline is no notification", async (context) => {
  const scene = new ProcessScene(context, "exec 3>&-; echo > closed; exec sleep 1000", { notifies: true });
  const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  let notified = 0;
  scene.processes.channelsOf(leader)?.newline?.listen(() => notified++);
  await until(() => existsSync(scene.path("closed")), "the descriptor is closed");
  scene.processes.kill(leader);
  await until(() => scene.exits.length === 1, "the worker has ended");
  assert.equal(notified, 0);
});

test("neither notify channels nor helpers leak descriptors", async (context) => {
  const scene = new ProcessScene(context, "echo >&3; exit 0", { notifies: true });
  let helped = 0;
  const round = async (incarnation: number) => {
    const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation }, 1)();
    if (incarnation % 2 === 0) scene.processes.channelsOf(leader)?.newline?.listen(() => {});
    help(scene, "exit 0", () => helped++);
    await until(() => scene.exits.length === incarnation && helped === incarnation, "all have ended");
  };
  await round(1);
  await round(2);
  const before = countOpenFds(process.pid);
  for (let incarnation = 3; incarnation <= 12; incarnation++) await round(incarnation);
  await until(() => countOpenFds(process.pid) === before, "as many descriptors are open as before");
});
