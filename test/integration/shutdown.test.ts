/** Shutdown of the controller: order, deadlines, second signals, and shutdowns during starts, restarts and replacements. */
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
/** Prints a line at SIGTERM and keeps running. */
const STUBBORN = "trap 'echo term' TERM; echo up; while :; do sleep 0.02; done";

/** A slow request. The server works on it when `accepted` resolves, because it has sent 100 Continue. */
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

test("requests in flight on SO_REUSEPORT and Unix sockets are all answered after SIGTERM [S1]", async (context) => {
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

/** Sends one GET over the agent's connection. Rejects if it fails. */
async function fetchStatus(target: RequestOptions, path: string, agent: Agent): Promise<number> {
  const [response] = await once(request({ ...target, path, agent }).end(), "response");
  response.resume();
  await once(response, "end");
  return Number(response.statusCode);
}

test("no request on kept-alive connections fails if clients disconnect during pre_stop_delay, even slow ones [S1]", async (context) => {
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
  const REQUESTS = 10_000;
  let answered = 0;
  let isLeaving = false;
  const { promise: enough, resolve } = Promise.withResolvers<void>();
  /** Sends requests over one connection, some of them slow. The last one is in flight at the stop signal. */
  const runClient = async (index: number): Promise<void> => {
    const target =
      index % 2 === 0 ? { host: "127.0.0.1", port } : { socketPath: join(directory, `${(index >> 1) % 2}.sock`) };
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    try {
      for (let turn = 1; !isLeaving; turn++) {
        assert.equal(await fetchStatus(target, turn % 300 === 0 ? "/sleep?ms=500" : "/", agent), 200);
        if (++answered === REQUESTS) resolve();
      }
      assert.equal(await fetchStatus(target, "/sleep?ms=4000", agent), 200);
    } finally {
      agent.destroy();
    }
  };
  const clients = Promise.all(Array.from({ length: 10 }, (_, index) => runClient(index)));
  await Promise.race([enough, clients]);
  controller.child.kill("SIGTERM");
  // A load balancer would now see that readiness fails and stop sending requests.
  const requested = await happened(controller, "controller_stopping");
  assert.equal((await controller.call("GET", "/health/ready")).status, 503);
  isLeaving = true;
  await clients;
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
  assert.deepEqual(eventsOf(controller, "killed"), []);
  const lastMs = Math.max(...eventsOf(controller, "stopped").map((event) => msBetween(requested, event)));
  assert.ok(lastMs >= 3900, `the slow requests were in flight when the workers were stopped: ${lastMs} ms`);
});

test("a second signal kills all workers at once, and the controller exits with 1 [S4]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STUBBORN, { replicas: 2, signal_timeout: "50s" }),
  });
  await said(controller, "web-0", "up");
  await said(controller, "web-1", "up");
  const pids = [await controller.pidOf("web-0"), await controller.pidOf("web-1")];
  controller.child.kill("SIGTERM");
  await happened(controller, "controller_stopping");
  assert.deepEqual(pids.filter(isAlive), pids);
  // A signal that follows immediately counts as the first one delivered twice, so it is repeated until it takes effect.
  await eventually(
    () => eventsOf(controller, "controller_killing").length > 0 || !controller.child.kill("SIGTERM") || undefined,
    "the second signal takes effect",
  );
  assert.deepEqual(await controller.ended, { code: 1, signal: null });
  await happened(controller, "controller_stopped");
  assert.equal(eventsOf(controller, "killed").length, 2);
  assert.deepEqual(pids.filter(isAlive), []);
  assert.ok(recordsOf(controller.stderr).some((record) => record["code"] === "SHUTDOWN_FORCED"));
});

test("a signal that a wrapper delivers twice, to the process and to its group, counts as one request [S4 S9]", async () => {
  await using controller = await ControllerUnderTest.start({
    // timeout(1) sends SIGTERM to its child and then to its whole group, so the controller receives it twice.
    wrapper: ["timeout", "600"],
    workers: shellPool("web", "trap 'sleep 0.4; exit 0' TERM; echo up; while :; do sleep 0.02; done"),
  });
  await said(controller, "web-0", "up");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await happened(controller, "controller_stopped");
  assert.deepEqual(eventsOf(controller, "killed"), []);
  assert.deepEqual(eventsOf(controller, "controller_killing"), []);
});

test("the shutdown finishes when the last worker has exited, before its timeouts [S5]", async () => {
  await using controller = await ControllerUnderTest.start({
    supervisor: "  shutdown_timeout: 5m",
    workers: shellPool("web", STAY, { replicas: 4, signal_timeout: "4m" }),
  });
  await controller.ready();
  // Both timeouts are longer than the time limit of a test.
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await happened(controller, "controller_stopped");
});

test("SIGTERM while workers are queued to start cancels the boot [S6]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STAY, { replicas: 4, startup_wait_time: "1h" }),
  });
  await happened(controller, "ready");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await happened(controller, "controller_stopped");
  assert.equal(eventsOf(controller, "spawned").length, 1);
});

test("SIGTERM while a worker is in backoff cancels its restart [S6]", async () => {
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

test("SIGTERM while survivors of a crashed worker are stopped cancels its restart [S6]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", `trap "" TERM; sleep 1000 & echo up; trap - TERM; kill -9 $$`, { signal_timeout: "1s" }),
  });
  await happened(controller, "stopping", ({ cause }) => cause === "survivors");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await happened(controller, "controller_stopped");
  assert.equal(eventsOf(controller, "spawned").length, 1);
});

test("SIGTERM during a replacement stops predecessor and successor [S6]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", STUBBORN, { replicas: 2, limits: { lifespan: "300ms" }, signal_timeout: "1s" }),
  });
  await happened(controller, "rollout_finished");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  await happened(controller, "controller_stopped");
  const spawned = eventsOf(controller, "spawned").length;
  assert.equal(eventsOf(controller, "stopped").length, spawned, "every started process is stopped");
});

test("workers that still run at shutdown_timeout are killed, and the controller exits with 1", async () => {
  await using controller = await ControllerUnderTest.start({
    supervisor: "  shutdown_timeout: 1s",
    workers: [shellPool("stubborn", STUBBORN, { signal_timeout: "1m" }), shellPool("good", STAY)].join("\n"),
  });
  await said(controller, "stubborn-0", "up");
  const pid = await controller.pidOf("stubborn-0");
  assert.deepEqual(await controller.stop(), { code: 1, signal: null });
  const requested = await happened(controller, "controller_stopping");
  const tookMs = msBetween(requested, await happened(controller, "controller_stopped"));
  assert.ok(tookMs >= 995, `${tookMs} ms`);
  assert.equal(isAlive(pid), false);
  assert.ok(recordsOf(controller.stderr).some((record) => record["code"] === "SHUTDOWN_FORCED"));
});

test("during pre_stop_delay /health/ready is 503 and workers still serve", async () => {
  await using controller = await ControllerUnderTest.start({
    supervisor: "  pre_stop_delay: 1500ms",
    workers: poolOf({ name: "web", exec: PROCESSBIN, args: ["--port", 0, "--host", "127.0.0.1"] }),
    args: ["-d"],
  });
  const port = await adminPort(controller);
  const served = Number((await said(controller, "web-0", "ready"))["port"]);
  assert.equal(await statusCode(port, "/health/ready"), 200);
  controller.child.kill("SIGTERM");
  const requested = await happened(controller, "controller_stopping");
  assert.equal(await statusCode(port, "/health/ready"), 503);
  assert.equal(await statusCode(port, "/health/live"), 200);
  assert.equal(await statusCode(served, "/"), 200);
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
  const delayMs = msBetween(requested, await happened(controller, "stopping"));
  assert.ok(delayMs >= 1495, `${delayMs} ms`);
});

/** Runs a program on a terminal of its own. SIGUSR1 sends Ctrl-C to the terminal. Exits with the program's exit code. */
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

test("after Ctrl-C on a terminal each worker receives only its stop signal, once [S9]", async () => {
  // After SIGTERM it waits for further signals for a while.
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

test("if stdout is not read at shutdown the lost bytes are reported, and the exit code is 1", async () => {
  const flood = "while :; do echo 0123456789012345678901234567890123456789; done";
  await using controller = await ControllerUnderTest.start({
    stdout: "stalled",
    supervisor: "  shutdown_timeout: 1s",
    workers: shellPool("web", flood, { signal_timeout: "300ms" }),
  });
  // The pipe and the controller's buffers are full when the worker blocks in write(2).
  const pid = await controller.pidOf("web-0");
  await eventually(() => (readProc(pid, "wchan").includes("pipe") ? true : undefined), "the worker blocks");
  controller.child.kill("SIGTERM");
  await once(controller.child, "exit");
  assert.equal(controller.child.exitCode, 1);
  assert.match(
    controller.stderr.join("\n"),
    /the last \d+ bytes of the workers' output are lost: no process reads stdout/u,
  );
});

/** Runs `act` with a pool whose Envoy does not answer `--version`. `runs` resolves with its pid when it runs. */
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
  test(`${signal} during the check of Envoy's version ends the start with exit code ${code}`, async () => {
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

test("a controller that is killed during the check of Envoy's version leaves no process behind", async () => {
  await silentEnvoy(async (workers, runs) => {
    await using controller = ControllerUnderTest.begin({ workers });
    const tool = await runs();
    controller.child.kill("SIGKILL");
    await untilGone(tool);
  });
});

test("a controller that receives SIGTERM at the end of its checks starts no worker", async () => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-early-term-"));
  try {
    // This Envoy sends SIGTERM to the controller when its version is checked.
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
