/** Signals on the real executable: each signal that terminates a process by default has the effect documented in operation.md. */
import assert from "node:assert/strict";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest } from "../support/controller.ts";
import { ENVOY } from "../support/envoy.ts";
import { proxyPool } from "../support/traffic.ts";
import { eventsOf, happened, logged, readProc, saidBy, shellPool } from "../support/watch.ts";

const STAY = "exec sleep 1000";

function pool(name: string, more: Readonly<Record<string, unknown>> = {}): string {
  return shellPool(name, STAY, { startup_wait_time: "0s", rolling: { min_ready: "0s" }, ...more });
}

/** A variable in the initial environment of a process. */
function variable(pid: number, name: string): string | undefined {
  const entry = readProc(pid, "environ")
    .split("\0")
    .find((each) => each.startsWith(`${name}=`));
  return entry?.slice(name.length + 1);
}

test("SIGHUP with an unchanged file affects no process [S7]", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web", { replicas: 3 }) });
  await controller.ready();
  const before = await controller.pids();
  const last = controller.events.length;
  controller.child.kill("SIGHUP");
  await logged(controller, "reload: nothing has changed");
  assert.deepEqual(await controller.pids(), before);
  assert.deepEqual(controller.events.slice(last), []);
});

test("SIGHUP with an invalid file changes nothing and logs the problem with line and column [S7]", async () => {
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
  // After the file is corrected the signal works again.
  controller.configure({ workers: pool("web", { replicas: 3 }) });
  controller.child.kill("SIGHUP");
  await happened(controller, "operation_finished");
  const { "web-2": third, ...others } = await controller.pids();
  assert.deepEqual([others, third !== undefined], [before, true]);
});

test("SIGHUP with an empty file, or one that names a missing program, changes nothing [S7]", async () => {
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
    "the second reload fails",
  );
  assert.deepEqual(await controller.pids(), before);
});

test("SIGHUP with a valid file replaces only the workers of changed pools [S7]", async () => {
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

test("SIGUSR1 replaces the workers of all pools one after another, successor first", async () => {
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

test("SIGTTIN adds a replica to the only pool, and SIGTTOU removes one, but never the last", async () => {
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
  await logged(controller, "SIGTTOU is ignored: a pool needs at least one worker");
  assert.deepEqual(await controller.pids(), before);
});

test("each of several SIGTTIN in quick succession adds a replica", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  for (let count = 1; count <= 3; count++) {
    controller.child.kill("SIGTTIN");
    // The kernel merges equal pending signals, so wait for each operation to be queued.
    await controller.until(() => scaleCount(controller) >= count, "the signal is handled");
  }
  await happened(controller, "operation_finished", ({ what }) => what === "scale", 3);
  assert.equal(Object.keys(await controller.pids()).length, 4);
});

/** Number of scale operations so far. */
function scaleCount(controller: ControllerUnderTest): number {
  const ids = controller.events.flatMap((event) =>
    "operation" in event && event.what === "scale" ? [event.operation] : [],
  );
  return new Set(ids).size;
}

test("with two pools SIGTTIN and SIGTTOU change nothing and log how to scale", async () => {
  await using controller = await ControllerUnderTest.start({ workers: [pool("web"), pool("jobs")].join("\n") });
  await controller.ready();
  const before = await controller.pids();
  for (const signal of ["SIGTTIN", "SIGTTOU"] as const) {
    controller.child.kill(signal);
    await logged(controller, `${signal} is ignored: it scales a single pool`, "monoceros scale");
  }
  assert.deepEqual(await controller.pids(), before);
  assert.deepEqual(eventsOf(controller, "operation_started"), []);
});

for (const signal of ["SIGTERM", "SIGINT", "SIGQUIT", "SIGPWR"] as const) {
  test(`${signal} shuts down gracefully with exit code 0`, async () => {
    const script = "trap 'sleep 0.2; echo finished; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    await using controller = await ControllerUnderTest.start({ workers: shellPool("web", script, { replicas: 2 }) });
    const ids = ["web-0", "web-1"];
    await controller.until(() => ids.every((id) => saidBy(controller, id, "up").length === 1), "all workers run");
    controller.child.kill(signal);
    assert.deepEqual(await controller.ended, { code: 0, signal: null });
    assert.deepEqual(
      ids.map((id) => saidBy(controller, id, "finished").length),
      [1, 1],
    );
    assert.equal(eventsOf(controller, "controller_stopping")[0]?.reason, `received ${signal}`);
  });
}

/** Signals that terminate a process by default and that the controller ignores. Faults such as SIGABRT end it. */
const IGNORED: readonly number[] = [
  ...["SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPIPE", "SIGSTKFLT", "SIGXCPU", "SIGXFSZ"].map(
    (name) => constants.signals[name as NodeJS.Signals],
  ),
  // Real-time signals.
  ...Array.from({ length: 31 }, (_, index) => 34 + index),
];

test("ignored signals end neither the controller nor a worker", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web", { replicas: 2 }) });
  await controller.ready();
  const before = await controller.pids();
  for (const signal of IGNORED) {
    process.kill(controller.pid, signal);
    assert.deepEqual(await controller.pids(), before, `signal ${signal}`);
  }
  await logged(controller, "received SIGXCPU, which is ignored");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
});

test("ignored signals during the start have no effect, and a SIGHUP is handled after the start", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-early-signal-"));
  // This Envoy signals the controller and changes the file when its version is checked.
  const exec = join(directory.path, "envoy");
  const change = `sed -i 's/replicas":1/replicas":2/' "$(tr '\\0' '\\n' </proc/$PPID/cmdline | grep yaml)"`;
  const signals = ["HUP", "USR2", "TTIN", "ALRM"].map((name) => `kill -${name} $PPID`).join("; ");
  writeFileSync(
    exec,
    `#!/bin/sh\ncase "$*" in *version*) [ -e ${directory.path}/done ] || { >${directory.path}/done; ${change}; ${signals}; } ;; esac\nexec ${ENVOY} "$@"\n`,
  );
  chmodSync(exec, 0o755);
  const { workers } = await proxyPool({ replicas: 1, server: { exec } });
  await using controller = await ControllerUnderTest.start({ workers });
  await happened(controller, "ready", ({ pool: name, slot }) => name === "web" && slot === 1);
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
});

test("the table in operation.md lists all signals that terminate a process by default", () => {
  const page = readFileSync("docs/operation.md", "utf8");
  const table = page.slice(page.indexOf("## Signals"), page.indexOf("## Shutdown"));
  // The default action of these signals does not terminate a process.
  const harmless = ["SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH"];
  // Aliases of signals in the list.
  const aliases = ["SIGIOT", "SIGPOLL", "SIGUNUSED"];
  for (const name of Object.keys(constants.signals)) {
    if (harmless.includes(name) || aliases.includes(name)) continue;
    assert.match(table, new RegExp(`\\b${name.slice(3)}\\b`, "u"), name);
  }
});
