/** Without enough inotify instances Envoy would abort, so it is not started, and the reason is reported. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { INOTIFY_OF_ENVOY } from "../../src/runtime/os/inotify.ts";
import { openInotify } from "../../src/runtime/os/linux.ts";
import { ControllerUnderTest, eventually, MONOCEROS } from "../support/controller.ts";
import { command, commandOk, envoyPid, proxyPool } from "../support/traffic.ts";
import { happened, logged, statusCode } from "../support/watch.ts";

/** A uid that only this test uses. */
const UID = 54_871;
const AS_USER = ["setpriv", "--reuid", String(UID), "--regid", String(UID), "--clear-groups"];

const [SETPRIV = "", ...SETPRIV_ARGS] = AS_USER;
const skip =
  spawnSync(SETPRIV, [...SETPRIV_ARGS, MONOCEROS, "version"]).status === 0
    ? false
    : "needs root, and a directory that other users may access";

/** Holds all inotify instances of the user except a few. */
class Exhausted implements Disposable {
  readonly #fds: number[] = [];

  constructor(free: number) {
    this.takeAll();
    for (const fd of this.#fds.splice(0, free)) closeSync(fd);
  }

  takeAll(): void {
    // The kernel counts by the effective uid.
    process.seteuid?.(UID);
    try {
      for (let fd = openInotify(); fd >= 0; fd = openInotify()) this.#fds.push(fd);
    } finally {
      process.seteuid?.(0);
    }
  }

  get size(): number {
    return this.#fds.length;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }
}

test("a start with too few inotify instances fails with an error that names the limit", { skip }, async () => {
  const { workers } = await proxyPool({ replicas: 1 });
  using _exhausted = new Exhausted(3);
  const { ending, stderr } = await ControllerUnderTest.run({ workers, wrapper: AS_USER, owner: UID });
  const said = stderr.join("\n");
  assert.equal(ending.code, 1, said);
  assert.match(said, /Envoy needs 4 more inotify instances, but uid 54871 has 3 left of the \d+ of fs\.inotify/u);
  assert.match(said, /sysctl -w fs\.inotify\.max_user_instances/u);
});

test("if inotify instances run out, only reloads that change Envoy fail, and a crashed Envoy restarts when some are free", {
  skip,
}, async () => {
  const { workers, target } = await proxyPool({ replicas: 1 });
  const changed = workers.replace("LEAST_REQUEST", "RANDOM");
  assert.ok("port" in target && changed !== workers);
  await using controller = await ControllerUnderTest.start({ workers, wrapper: AS_USER, owner: UID });
  await controller.ready();
  const envoy = envoyPid(controller);
  assert.ok(envoy !== undefined);
  {
    using exhausted = new Exhausted(1);
    await commandOk(controller, "reload");
    controller.configure({ workers: changed });
    const reload = await command(controller, "reload");
    assert.equal(reload.code, 1, reload.stdout);
    assert.match(reload.stderr, /needs 2 more inotify instances/u);
    assert.equal(await statusCode(target.port, "/"), 200);
    assert.equal(envoyPid(controller), envoy);
    // Suspend the controller, so that this test takes the instances that the killed Envoy releases.
    controller.child.kill("SIGSTOP");
    process.kill(envoy, "SIGKILL");
    const before = exhausted.size;
    await eventually(() => {
      exhausted.takeAll();
      return exhausted.size >= before + 1 + INOTIFY_OF_ENVOY || undefined;
    }, "the killed Envoy has released its instances");
    controller.child.kill("SIGCONT");
    await logged(controller, "failed to start", "more inotify instances, but uid 54871 has");
  }
  await happened(controller, "ready", ({ pool, incarnation }) => pool === "web-proxy" && incarnation > 1);
  assert.equal(await statusCode(target.port, "/"), 200);
  const lines = [...controller.stdout, ...controller.stderr];
  assert.deepEqual(
    lines.filter((line) => /backtrace|envoy_bug/u.test(line)),
    [],
  );
});

/** A process of the user that holds all inotify instances except three. */
const HOLDER = `
import { closeSync } from "node:fs";
import { openInotify } from ${JSON.stringify(resolve("src/runtime/os/linux.ts"))};
const fds = [];
for (let fd = openInotify(); fd >= 0; fd = openInotify()) fds.push(fd);
for (const fd of fds.slice(0, 3)) closeSync(fd);
console.log("ready");
process.stdin.resume();
`;

test("the inotify limit of Envoy's user applies, not that of the controller's user", { skip }, async (context) => {
  const { workers } = await proxyPool({ replicas: 1, server: { user: String(UID) } });
  const program = [process.execPath, "--no-warnings", "--input-type=module", "-e", HOLDER];
  const holder = spawn(SETPRIV, [...SETPRIV_ARGS, ...program], { stdio: ["pipe", "pipe", "inherit"] });
  context.after(() => holder.kill("SIGKILL"));
  await once(holder.stdout, "data");
  const { ending, stderr } = await ControllerUnderTest.run({ workers });
  assert.equal(ending.code, 1, stderr.join("\n"));
  assert.match(stderr.join("\n"), /Envoy needs 4 more inotify instances, but uid 54871 has 3 left/u);
});
