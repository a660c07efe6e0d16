/** SIGKILL of the controller, in each phase: nothing of it stays behind, and the next one starts as if nothing had been. */
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

/** The promise is 2 s; the rest is for a machine that is busy with other tests. */
const GONE_WITHIN_MS = 3000;
const STUBBORN = `trap "" TERM; /bin/sleep 1000 & echo up; /bin/sleep 1000; exec /bin/sleep 1000`;

/** Kills the controller and waits until every process that descends from it is gone. */
async function killAndExpectNothing(controller: ControllerUnderTest, atLeast: number): Promise<void> {
  const family = listDescendants(controller.pid).filter(isAlive);
  assert.ok(family.length >= atLeast, `${family.length} descendants`);
  try {
    const deadline = performance.now() + GONE_WITHIN_MS;
    process.kill(controller.pid, "SIGKILL");
    for (const pid of family) await untilGone(pid, deadline - performance.now());
  } finally {
    killAll(family);
  }
}

/** A worker with a family: one grandchild stays in the group, one leaves the session, none obeys SIGTERM. */
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

test("when the controller is killed its workers, their children and what left their sessions are gone [P2]", async () => {
  await using controller = await ControllerUnderTest.start({ workers: familyPool("web") });
  await settled(controller, "web");
  // Two workers, a grandchild that left, two sleeps of the shell, the guardian.
  await killAndExpectNothing(controller, 6);
});

test("after a kill the port and the control socket are free for the next controller, which finds no leftovers [P2 P3]", async () => {
  const port = await freePort();
  const adminPort = await freePort();
  await using first = await ControllerUnderTest.start({ workers: portPool(port), port: adminPort });
  await said(first, "web-0", "ready");
  await killAndExpectNothing(first, 2);
  assert.equal(await accepts(port), false);
  assert.equal(existsSync(first.socket), true, "nobody was there to remove it");

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

/** A PATH with what processbin's grandchildren need; above all without setpriv. */
const barePath = mkdtempSync(join(tmpdir(), "monoceros-path-"));
for (const name of ["sh", "sleep"]) symlinkSync(`/bin/${name}`, join(barePath, name));
after(() => rmSync(barePath, { recursive: true }));

/**
 * Where BusyBox stands in for the shell and its tools, as on the smallest images: in a mount namespace of its own.
 * undefined where there is none, or where this user may not do that.
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
  /** Brings the controller to the moment of its death. */
  readonly reach: (controller: ControllerUnderTest) => Promise<void>;
}

const MOMENTS: readonly Moment[] = [
  {
    name: "while workers wait for their turn to start",
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
    name: "while it stops workers that resist",
    workers: familyPool("web", { signal_timeout: "1m" }),
    reach: async (controller) => {
      await settled(controller, "web");
      process.kill(controller.pid, "SIGTERM");
      await happened(controller, "stopping", () => true, 2);
    },
  },
  {
    name: "while a crashed worker's survivors are cleared away",
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
    name: "where sh and all its tools are BusyBox",
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
  test(`nothing outlives a controller that is killed ${name} [P2]`, { skip }, async () => {
    await using controller = await ControllerUnderTest.start(options);
    await reach(controller);
    await killAndExpectNothing(controller, 3);
  });
}

test("a guardian that is killed is replaced, and the new one knows every worker [P2]", async () => {
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
  await killAndExpectNothing(controller, 6);
});

test("workers that outlive controller and guardian are named with pid and command by the next controller [P3]", async (context) => {
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
  assert.deepEqual(left.filter(isAlive), left, "they are named, not touched");
});
