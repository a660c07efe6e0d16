/** The end of the whole: order, deadlines, second signals, and shutdowns that come at a bad moment. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, type RequestOptions, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest, eventually, isAlive, PROCESSBIN, poolOf, untilGone } from "../support/controller.ts";
import { ENVOY } from "../support/envoy.ts";
import { freePort } from "../support/ports.ts";
import { proxyPool } from "../support/traffic.ts";
import {
  adminPort,
  eventsOf,
  happened,
  msBetween,
  readProc,
  recordsOf,
  said,
  saidBy,
  shellPool,
  statusCode,
} from "../support/watch.ts";

const STAY = "echo up; exec sleep 1000";
/** Says so when SIGTERM comes and goes on. */
const STUBBORN = "trap 'echo term' TERM; echo up; while :; do sleep 0.02; done";

/** A request that the server is known to work on when `accepted` resolves, because it told us to continue. */
function slowRequest(target: RequestOptions): { accepted: Promise<void>; status: Promise<number> } {
  const call = request({ ...target, path: "/sleep?ms=1500", headers: { expect: "100-continue" }, agent: false });
  const accepted = once(call, "continue").then(() => void call.end());
  const status = once(call, "response").then(async ([response]) => {
    response.resume();
    await once(response, "end");
    return Number(response.statusCode);
  });
  call.flushHeaders();
  return { accepted, status };
}

test("requests under way on SO_REUSEPORT and Unix sockets are all answered after SIGTERM [S1]", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-sockets-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const port = await freePort();
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      replicas: 2,
      exec: PROCESSBIN,
      args: ["--port", port, "--host", "127.0.0.1", "--reuseport", "--socket", `${directory}/{{.Slot}}.sock`],
    }),
  });
  for (const slot of [0, 1]) await said(controller, `web-${slot}`, "ready", 2);
  const calls = Array.from({ length: 400 }, (_, index) =>
    slowRequest(
      index % 2 === 0 ? { host: "127.0.0.1", port } : { socketPath: join(directory, `${(index >> 1) % 2}.sock`) },
    ),
  );
  await Promise.all(calls.map(({ accepted }) => accepted));
  controller.child.kill("SIGTERM");
  const statuses = await Promise.all(calls.map(({ status }) => status));
  assert.deepEqual(
    statuses.filter((status) => status !== 200),
    [],
  );
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
  assert.deepEqual(eventsOf(controller, "killed"), []);
});

/** One GET over the agent's connections, also over one that is kept alive. @throws where it fails */
async function fetchStatus(target: RequestOptions, path: string, agent: Agent): Promise<number> {
  const [response] = await once(request({ ...target, path, agent }).end(), "response");
  response.resume();
  await once(response, "end");
  return Number(response.statusCode);
}

test("of 10,000 requests on kept connections none fails where clients leave during pre_stop_delay, slow ones outlast it [S1]", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-sockets-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const port = await freePort();
  await using controller = await ControllerUnderTest.start({
    supervisor: "  pre_stop_delay: 2s",
    workers: poolOf({
      name: "web",
      replicas: 2,
      exec: PROCESSBIN,
      args: ["--port", port, "--host", "127.0.0.1", "--reuseport", "--socket", `${directory}/{{.Slot}}.sock`],
    }),
  });
  for (const slot of [0, 1]) await said(controller, `web-${slot}`, "ready", 2);
  const wanted = 10_000;
  let answered = 0;
  let isLeaving = false;
  const { promise: enough, resolve } = Promise.withResolvers<void>();
  /** Asks one request after the other over one connection, some of them slow; the last one is under way at the stop signal. */
  const runClient = async (index: number): Promise<void> => {
    const target =
      index % 2 === 0 ? { host: "127.0.0.1", port } : { socketPath: join(directory, `${(index >> 1) % 2}.sock`) };
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    try {
      for (let turn = 1; !isLeaving; turn++) {
        assert.equal(await fetchStatus(target, turn % 300 === 0 ? "/sleep?ms=500" : "/", agent), 200);
        if (++answered === wanted) resolve();
      }
      assert.equal(await fetchStatus(target, "/sleep?ms=4000", agent), 200);
    } finally {
      agent.destroy();
    }
  };
  const clients = Promise.all(Array.from({ length: 10 }, (_, index) => runClient(index)));
  await Promise.race([enough, clients]);
  controller.child.kill("SIGTERM");
  // What takes an endpoint out of a service has seen the readiness fail.
  const asked = await happened(controller, "controller_stopping");
  assert.equal((await controller.call("GET", "/health/ready")).status, 503);
  isLeaving = true;
  await clients;
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
  assert.ok(answered >= wanted);
  assert.deepEqual(eventsOf(controller, "killed"), []);
  const lastMs = Math.max(...eventsOf(controller, "stopped").map((event) => msBetween(asked, event)));
  assert.ok(lastMs >= 3900, `the slow requests were under way when the workers were asked to stop: ${lastMs} ms`);
});

test("a second signal ends everything at once with exit 1 [S4]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STUBBORN, { replicas: 2, signal_timeout: "50s" }),
  });
  await said(controller, "web-0", "up");
  await said(controller, "web-1", "up");
  const pids = [await controller.pidOf("web-0"), await controller.pidOf("web-1")];
  controller.child.kill("SIGTERM");
  const asked = await happened(controller, "controller_stopping");
  // One that follows immediately counts as the first delivered twice; a person is not that fast.
  await new Promise((wake) => setTimeout(wake, 500));
  assert.deepEqual(pids.filter(isAlive), pids);
  controller.child.kill("SIGTERM");
  assert.deepEqual(await controller.ended, { code: 1, signal: null });
  assert.ok(msBetween(asked, await happened(controller, "controller_stopped")) < 10_000);
  assert.equal(eventsOf(controller, "killed").length, 2);
  assert.deepEqual(pids.filter(isAlive), []);
  assert.ok(recordsOf(controller.stderr).some((record) => record["code"] === "SHUTDOWN_FORCED"));
});

test("one signal that a wrapper delivers to process and group is one request, and the shutdown stays graceful [S4 S9]", async () => {
  await using controller = await ControllerUnderTest.start({
    // timeout(1) passes SIGTERM on to its child and then to its whole group: the controller gets it twice.
    wrapper: ["timeout", "600"],
    workers: shellPool("web", "trap 'sleep 0.4; exit 0' TERM; echo up; while :; do sleep 0.02; done"),
  });
  await said(controller, "web-0", "up");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await happened(controller, "controller_stopped");
  assert.deepEqual(eventsOf(controller, "killed"), []);
  assert.deepEqual(eventsOf(controller, "controller_killing"), []);
});

test("the shutdown is over when the last worker is gone, however long it might have taken [S5]", async () => {
  await using controller = await ControllerUnderTest.start({
    supervisor: "  shutdown_timeout: 5m",
    workers: shellPool("web", STAY, { replicas: 4, signal_timeout: "4m" }),
  });
  await controller.ready();
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  const tookMs = msBetween(
    await happened(controller, "controller_stopping"),
    await happened(controller, "controller_stopped"),
  );
  assert.ok(tookMs < 10_000, `${tookMs} ms`);
});

test("SIGTERM while workers wait for their turn to start ends the boot [S6]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STAY, { replicas: 4, startup_wait_time: "1h" }),
  });
  await happened(controller, "ready");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await happened(controller, "controller_stopped");
  assert.equal(eventsOf(controller, "spawned").length, 1);
});

test("SIGTERM while a restart waits cancels it [S6]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [
      shellPool("bad", "exit 1", { restart: { backoff: { initial: "1h", max: "1h" } } }),
      shellPool("good", STAY),
    ].join("\n"),
  });
  await happened(controller, "backing_off", ({ delayMs }) => delayMs > 0);
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await happened(controller, "controller_stopped");
  assert.equal(eventsOf(controller, "spawned").filter(({ pool }) => pool === "bad").length, 2);
});

test("SIGTERM while a crashed worker's group is cleared away starts no successor [S6]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", `trap "" TERM; sleep 1000 & echo up; trap - TERM; kill -9 $$`, { signal_timeout: "1s" }),
  });
  await happened(controller, "stopping", ({ cause }) => cause === "survivors");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await happened(controller, "controller_stopped");
  assert.equal(eventsOf(controller, "spawned").length, 1);
});

test("SIGTERM while a worker is replaced ends predecessor and successor alike [S6]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STUBBORN, { replicas: 2, limits: { lifespan: "300ms" }, signal_timeout: "1s" }),
  });
  await happened(controller, "rollout_finished");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  const last = await happened(controller, "controller_stopped");
  const spawned = eventsOf(controller, "spawned").length;
  assert.equal(eventsOf(controller, "stopped").length, spawned, "each process that was started is stopped");
  assert.ok(msBetween(await happened(controller, "controller_stopping"), last) < 10_000);
});

test("shutdown_timeout bounds the whole: what is left then is killed, exit 1", async () => {
  await using controller = await ControllerUnderTest.start({
    supervisor: "  shutdown_timeout: 1s",
    workers: [shellPool("stubborn", STUBBORN, { signal_timeout: "1m" }), shellPool("good", STAY)].join("\n"),
  });
  await said(controller, "stubborn-0", "up");
  const pid = await controller.pidOf("stubborn-0");
  assert.deepEqual(await controller.stop(), { code: 1, signal: null });
  const asked = await happened(controller, "controller_stopping");
  const tookMs = msBetween(asked, await happened(controller, "controller_stopped"));
  assert.ok(tookMs >= 995 && tookMs < 4000, `${tookMs} ms`);
  assert.equal(isAlive(pid), false);
  assert.ok(recordsOf(controller.stderr).some((record) => record["code"] === "SHUTDOWN_FORCED"));
});

test("during pre_stop_delay /health/ready is 503 and the workers still serve, then they are stopped", async () => {
  await using controller = await ControllerUnderTest.start({
    supervisor: "  pre_stop_delay: 1500ms",
    workers: poolOf({ name: "web", exec: PROCESSBIN, args: ["--port", 0, "--host", "127.0.0.1"] }),
    args: ["-d"],
  });
  const port = await adminPort(controller);
  const served = Number((await said(controller, "web-0", "ready"))["port"]);
  assert.equal(await statusCode(port, "/health/ready"), 200);
  controller.child.kill("SIGTERM");
  const asked = await happened(controller, "controller_stopping");
  assert.equal(await statusCode(port, "/health/ready"), 503);
  assert.equal(await statusCode(port, "/health/live"), 200);
  assert.equal(await statusCode(served, "/"), 200);
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
  const delayMs = msBetween(asked, await happened(controller, "stopping"));
  assert.ok(delayMs >= 1495 && delayMs < 5000, `${delayMs} ms`);
});

/** Runs a program on a terminal of its own; SIGUSR1 presses Ctrl-C there. Leaves with the program's exit code. */
const TERMINAL = `
import os, pty, signal, sys
pid, master = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGUSR1, lambda *_: os.write(master, b"\\x03"))
while True:
    try:
        data = os.read(master, 65536)
    except OSError:
        break
    if not data:
        break
    os.write(1, data)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) % 256)
`;

test("Ctrl-C on the terminal reaches each worker once, as its stop signal [S9]", async () => {
  // After SIGTERM it counts what else comes for a while.
  const script = `
    trap 'echo int' INT; trap 'echo term; left=10' TERM; echo up
    while [ "$left" != 0 ]; do sleep 0.05; [ -n "$left" ] && left=$((left - 1)); done`;
  await using controller = await ControllerUnderTest.start({
    wrapper: ["python3", "-c", TERMINAL],
    workers: shellPool("web", script, { replicas: 2 }),
  });
  await said(controller, "web-0", "up");
  await said(controller, "web-1", "up");
  controller.child.kill("SIGUSR1");
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
  assert.equal((await happened(controller, "controller_stopping")).reason, "received SIGINT");
  for (const worker of ["web-0", "web-1"]) {
    assert.equal(saidBy(controller, worker, "term").length, 1, worker);
    assert.equal(saidBy(controller, worker, "int").length, 0, worker);
  }
  assert.deepEqual(eventsOf(controller, "killed"), []);
});

test("what cannot be written because nobody reads is told, and the exit code is 1", async () => {
  const flood = "while :; do echo 0123456789012345678901234567890123456789; done";
  await using controller = await ControllerUnderTest.start({
    stdout: "stalled",
    supervisor: "  shutdown_timeout: 1s",
    workers: shellPool("web", flood, { signal_timeout: "300ms" }),
  });
  // The pipe and our buffers are full when the worker waits in write(2).
  const pid = await controller.pidOf("web-0");
  await eventually(() => (readProc(pid, "wchan").includes("pipe") ? true : undefined), "the worker is held up");
  controller.child.kill("SIGTERM");
  await once(controller.child, "exit");
  assert.equal(controller.child.exitCode, 1);
  assert.match(
    controller.stderr.join("\n"),
    /the last \d+ bytes of the workers' output are lost: no process reads stdout/u,
  );
});

/** Runs `act` with a pool whose Envoy does not answer `--version`; `runs` resolves with its pid once it runs. */
async function silentEnvoy(act: (workers: string, runs: () => Promise<number>) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-early-term-"));
  try {
    const exec = join(directory, "envoy");
    const pidFile = join(directory, "pid");
    writeFileSync(
      exec,
      `#!/bin/sh\ntrap "" TERM\necho $$ >${pidFile}.new && mv ${pidFile}.new ${pidFile}\nexec sleep 1000\n`,
    );
    chmodSync(exec, 0o755);
    const { workers } = await proxyPool({ replicas: 1, server: { exec } });
    await act(workers, () =>
      eventually(() => (existsSync(pidFile) ? Number(readFileSync(pidFile, "utf8")) : undefined), "the tool runs"),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

for (const [signal, code] of [
  ["SIGTERM", 143],
  ["SIGINT", 130],
] as const) {
  test(`${signal} is obeyed while Envoy does not answer, and the exit code says so`, async () => {
    await silentEnvoy(async (workers, runs) => {
      await using controller = ControllerUnderTest.begin({ workers });
      const tool = await runs();
      controller.child.kill(signal);
      assert.deepEqual(await controller.ended, { code, signal: null }, controller.stderr.join("\n"));
      assert.match(
        controller.stderr.join("\n"),
        new RegExp(`received ${signal} during startup; no worker was started`, "u"),
      );
      await untilGone(tool);
    });
  });
}

test("a controller that is killed while Envoy does not answer leaves nothing behind", async () => {
  await silentEnvoy(async (workers, runs) => {
    await using controller = ControllerUnderTest.begin({ workers });
    const tool = await runs();
    controller.child.kill("SIGKILL");
    await untilGone(tool);
  });
});

test("SIGTERM at the end of the checks starts no worker", async () => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-early-term-"));
  try {
    // The check asks for the version of Envoy; this one stops its caller.
    const exec = join(directory, "envoy");
    writeFileSync(exec, `#!/bin/sh\ncase "$*" in *version*) kill -TERM $PPID ;; esac\nexec ${ENVOY} "$@"\n`);
    chmodSync(exec, 0o755);
    const { workers } = await proxyPool({ replicas: 1, server: { exec } });
    const { ending, stderr } = await ControllerUnderTest.run({ workers });
    assert.deepEqual(ending, { code: 143, signal: null }, stderr.join("\n"));
    assert.match(stderr.join("\n"), /received SIGTERM during startup; no worker was started/u);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
