/** SIGKILL of the controller in each phase: all of its processes exit, and the next controller starts normally. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, test } from "node:test";
import {
  ControllerUnderTest,
  eventually,
  isAlive,
  listDescendants,
  PROCESSBIN,
  poolOf,
  type StartOptions,
  untilGone,
} from "../support/controller.ts";
import { freePort } from "../support/ports.ts";
import {
  eventsOf,
  grandchildrenOf,
  guardianOf,
  happened,
  killAll,
  readProc,
  recordsOf,
  said,
  shellPool,
} from "../support/watch.ts";

/** The documented limit is 2 s. The rest is for a machine that is busy with other tests. */
const EXIT_LIMIT_MS = 3000;
const STUBBORN = `trap "" TERM; /bin/sleep 1000 & echo up; /bin/sleep 1000; exec /bin/sleep 1000`;

/** Kills the controller and waits until all of its descendants have exited. */
async function killAndAwaitExits(controller: ControllerUnderTest, atLeast: number): Promise<void> {
  const family = listDescendants(controller.pid).filter(isAlive);
  assert.ok(family.length >= atLeast, `${family.length} descendants`);
  try {
    const deadline = performance.now() + EXIT_LIMIT_MS;
    process.kill(controller.pid, "SIGKILL");
    for (const pid of family) await untilGone(pid, deadline - performance.now());
  } finally {
    killAll(family);
  }
}

/** Two pools whose workers have children. One child stays in the group, one leaves the session, and all ignore SIGTERM. */
function familyPool(name: string, more: Readonly<Record<string, unknown>> = {}): string {
  const setsid = ["--grandchildren", 1, "--grandchild-setsid", "--grandchild-ignores-term", "--ignore-signals"];
  return [
    poolOf({ name: `${name}-escaped`, exec: PROCESSBIN, args: setsid, ...more }),
    shellPool(`${name}-group`, STUBBORN, more),
  ].join("\n");
}

async function settled(controller: ControllerUnderTest, name: string): Promise<void> {
  for (const pid of await grandchildrenOf(controller, `${name}-escaped-0`))
    await eventually(() => readProc(pid, "cmdline").startsWith("sleep") || undefined, "the grandchild sleeps");
  await said(controller, `${name}-group-0`, "up");
}

test("after SIGKILL of the controller its workers and their children exit, also those that left the session [P2]", async () => {
  await using controller = await ControllerUnderTest.start({ workers: familyPool("web") });
  await settled(controller, "web");
  // Two workers, a grandchild that left the session, two sleeps of the shell, the guardian.
  await killAndAwaitExits(controller, 6);
});

test("after SIGKILL of the controller the next one can use its ports and control socket and finds no leftovers [P2 P3]", async () => {
  const port = await freePort();
  const adminPort = await freePort();
  await using first = await ControllerUnderTest.start({ workers: portPool(port), port: adminPort });
  await said(first, "web-0", "ready");
  await killAndAwaitExits(first, 2);
  assert.equal(await accepts(port), false);
  assert.equal(existsSync(first.socket), true, "the killed controller could not remove it");

  await using second = await ControllerUnderTest.start({
    workers: portPool(port),
    port: adminPort,
    socket: first.socket,
  });
  await said(second, "web-0", "ready");
  assert.equal((await second.status()).healthy, true);
  assert.deepEqual(await second.stop(), { code: 0, signal: null });
  const leftovers = second.stderr.filter((line) => line.includes(`controller ${first.pid},`));
  assert.deepEqual(leftovers, []);
  assert.equal(existsSync(second.socket), false);
});

function portPool(port: number): string {
  return poolOf({ name: "web", exec: PROCESSBIN, args: ["--port", port, "--host", "127.0.0.1"] });
}

function accepts(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      done(true);
    });
    socket.once("error", () => done(false));
  });
}

/** A PATH that contains only what processbin's grandchildren need, and in particular not setpriv. */
const barePath = mkdtempSync(join(tmpdir(), "monoceros-path-"));
for (const name of ["sh", "sleep"]) symlinkSync(`/bin/${name}`, join(barePath, name));
after(() => rmSync(barePath, { recursive: true }));

/**
 * A command prefix that replaces the shell and its tools by BusyBox, as in the smallest images, in a mount namespace of its
 * own. undefined if BusyBox is missing or this user may not create the namespace.
 */
const SMALL_IMAGE: readonly string[] | undefined = (() => {
  const tool = resolve("node_modules/.tools/busybox");
  const busybox = existsSync(tool) ? tool : "busybox";
  const places = ["sh", "grep", "head", "tr", "sleep"].map((name) => `$(readlink -f "$(command -v ${name})")`);
  const binds = places.map((place) => `mount --bind "$busybox" "${place}"`).join(" && ");
  const script = `busybox=$(command -v ${busybox}) && mount --make-rprivate / && ${binds} && exec "$@"`;
  const wrapper = ["unshare", "--mount", "bash", "-c", script, "bash"];
  const [file = "", ...args] = [...wrapper, "sh", "--help"];
  const tried = spawnSync(file, args, { encoding: "utf8" });
  return `${tried.stdout}${tried.stderr}`.includes("BusyBox") ? wrapper : undefined;
})();

interface Moment extends StartOptions {
  readonly name: string;
  readonly skip?: boolean;
  /** Brings the controller to the moment at which it is killed. */
  readonly reach: (controller: ControllerUnderTest) => Promise<void>;
}

const MOMENTS: readonly Moment[] = [
  {
    name: "while workers are queued to start",
    workers: [familyPool("web"), shellPool("late", STUBBORN, { replicas: 3, startup_wait_time: "1h" })].join("\n"),
    reach: async (controller) => {
      await settled(controller, "web");
      await said(controller, "late-0", "up");
      assert.equal(eventsOf(controller, "controller_ready").length, 0);
    },
  },
  {
    name: "while a worker waits for its restart",
    workers: [
      familyPool("web"),
      shellPool("bad", "exit 1", { restart: { backoff: { initial: "1h", max: "1h" } } }),
    ].join("\n"),
    reach: async (controller) => {
      await settled(controller, "web");
      await happened(controller, "backing_off", ({ delayMs }) => delayMs > 0);
    },
  },
  {
    name: "while it stops workers that ignore the stop signal",
    workers: familyPool("web", { signal_timeout: "1m" }),
    reach: async (controller) => {
      await settled(controller, "web");
      process.kill(controller.pid, "SIGTERM");
      await happened(controller, "stopping", () => true, 2);
    },
  },
  {
    name: "while it stops the survivors of a crashed worker",
    workers: [familyPool("web", { signal_timeout: "1m" })].join("\n"),
    reach: async (controller) => {
      await settled(controller, "web");
      for (const id of ["web-escaped-0", "web-group-0"]) process.kill(await controller.pidOf(id), "SIGKILL");
      await happened(controller, "stopping", ({ cause }) => cause === "survivors", 2);
    },
  },
  {
    name: "with nothing but a shell on its PATH",
    workers: familyPool("web"),
    env: { PATH: barePath },
    reach: (controller) => settled(controller, "web"),
  },
  {
    name: "with BusyBox as sh and all its tools",
    workers: familyPool("web"),
    ...(SMALL_IMAGE === undefined ? { skip: true } : { wrapper: SMALL_IMAGE }),
    reach: (controller) => settled(controller, "web"),
  },
  {
    name: "while a worker is suspended",
    workers: familyPool("web"),
    reach: async (controller) => {
      await settled(controller, "web");
      process.kill(await controller.pidOf("web-group-0"), "SIGSTOP");
    },
  },
];

for (const { name, reach, skip = false, ...options } of MOMENTS) {
  test(`no process outlives a controller that is killed ${name} [P2]`, { skip }, async () => {
    await using controller = await ControllerUnderTest.start(options);
    await reach(controller);
    await killAndAwaitExits(controller, 3);
  });
}

test("a killed guardian is replaced, and the new one knows all workers [P2]", async () => {
  await using controller = await ControllerUnderTest.start({ workers: familyPool("web") });
  await settled(controller, "web");
  const first = guardianOf(controller.pid);
  assert.ok(first !== undefined);
  process.kill(first, "SIGKILL");
  await eventually(() => {
    const now = guardianOf(controller.pid);
    return now !== undefined && now !== first && isAlive(now) ? now : undefined;
  }, "another guardian");
  assert.equal((await controller.status()).healthy, true);
  await killAndAwaitExits(controller, 6);
});

test("the next controller names workers that outlived controller and guardian, with pid and command [P3]", async (context) => {
  await using first = await ControllerUnderTest.start({
    workers: shellPool("web", "echo up; exec sleep 1234", { replicas: 2 }),
  });
  await said(first, "web-0", "up");
  await said(first, "web-1", "up");
  const left = [await first.pidOf("web-0"), await first.pidOf("web-1")];
  context.after(() => killAll(left));
  const guardian = guardianOf(first.pid);
  assert.ok(guardian !== undefined);
  process.kill(guardian, "SIGSTOP");
  process.kill(first.pid, "SIGKILL");
  process.kill(guardian, "SIGKILL");
  await first.ended;
  await untilGone(guardian);

  await using second = await ControllerUnderTest.start({ workers: shellPool("web", "echo up; exec sleep 1000") });
  const named = (pid: number) =>
    recordsOf(second.stderr).find(
      (record) => record["level"] === "warn" && String(record["msg"]).includes(`pid ${pid} `),
    );
  await second.until(() => left.every((pid) => named(pid) !== undefined), "both leftovers are named");
  for (const [slot, pid] of left.entries()) {
    const said = String(named(pid)?.["msg"]);
    assert.match(said, /\(sleep 1234\)/u);
    assert.match(said, new RegExp(`worker "web-${slot}" of controller ${first.pid}`, "u"));
  }
  assert.deepEqual(left.filter(isAlive), left, "the leftovers still run");
});
