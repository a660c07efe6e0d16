/**
 * A signal to every process of the service, as systemd sends it with KillMode=control-group (its default), and as tools
 * send it to a process tree: no request in flight is lost, and no process is restarted or signaled twice.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerUnderTest, type Ending, listDescendants, untilGone } from "../support/controller.ts";
import { startLoad } from "../support/load.ts";
import { describeLoad } from "../support/loadReport.ts";
import { openStreams } from "../support/streams.ts";
import { envoyPid, proxyPool, sharedPool } from "../support/traffic.ts";
import { eventsOf, guardianOf, happened, saidBy, shellPool } from "../support/watch.ts";

/** As a unit of systemd starts it: then a moment is waited for the signal to reach the others. */
const AS_SERVICE = ["/bin/sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh"];

/** Which of the processes is signaled first. */
type Order = "controller first" | "controller last";

function signalAll(controller: ControllerUnderTest, signal: NodeJS.Signals, order: Order = "controller first"): void {
  const others = listDescendants(controller.pid);
  const all = order === "controller first" ? [controller.pid, ...others] : [...others, controller.pid];
  for (const pid of all) {
    try {
      process.kill(pid, signal);
    } catch {
      // A short command of a shell that has ended meanwhile.
    }
  }
}

function assertPlanned(controller: ControllerUnderTest, ending: Ending): void {
  assert.deepEqual(ending, { code: 0, signal: null }, controller.stderr.join("\n"));
  assert.deepEqual(
    eventsOf(controller, "exited").filter(({ planned }) => !planned),
    [],
  );
  for (const kind of ["backing_off", "gave_up", "killed", "unready"] as const)
    assert.deepEqual(eventsOf(controller, kind), [], kind);
}

/** Time enough for what runs, however slow the machine. */
const PATIENT = { signal_timeout: "60s" };

const pools = {
  "behind Envoy": () => proxyPool({ replicas: 3, more: PATIENT, server: { drain_timeout: "60s" } }),
  "on a shared socket": () => sharedPool({ replicas: 3, more: PATIENT }),
} as const;

for (const [place, makePool] of Object.entries(pools)) {
  for (const order of ["controller first", "controller last"] as const) {
    for (const delay of ["0s", "400ms"]) {
      test(`SIGTERM to every process, ${order}, pre_stop_delay ${delay}: requests in flight ${place} complete`, async () => {
        const { workers, target } = await makePool();
        await using controller = await ControllerUnderTest.start({
          workers,
          supervisor: `  pre_stop_delay: ${delay}\n  shutdown_timeout: 3m`,
          wrapper: AS_SERVICE,
        });
        await controller.ready();
        const bodies = await openStreams(target, 6);
        signalAll(controller, "SIGTERM", order);
        for (const body of await Promise.all(bodies)) assert.equal(body.match(/^data:/gmu)?.length, 20, body);
        assertPlanned(controller, await controller.ended);
        assert.ok(eventsOf(controller, "spawned").filter(({ pool }) => pool === "web-proxy").length <= 1);
      });
    }
  }
}

for (const signal of ["SIGTERM", "SIGINT", "SIGQUIT"] as const) {
  test(`${signal} to every process reaches a worker with that stop signal once`, async () => {
    const name = signal.slice(3);
    // Reports each signal and exits a moment later.
    const script = `trap 'echo got; end=1' ${name}; echo up; while [ -z "$end" ]; do sleep 0.05; done; sleep 0.3; echo ending`;
    await using controller = await ControllerUnderTest.start({
      workers: shellPool("web", script, { replicas: 2, stop_signal: signal, signal_timeout: "60s" }),
      wrapper: AS_SERVICE,
    });
    await controller.until(
      () => ["web-0", "web-1"].every((id) => saidBy(controller, id, "up").length === 1),
      "all run",
    );
    signalAll(controller, signal);
    assertPlanned(controller, await controller.ended);
    for (const worker of ["web-0", "web-1"]) {
      assert.equal(saidBy(controller, worker, "got").length, 1, worker);
      assert.equal(saidBy(controller, worker, "ending").length, 1, worker);
    }
    for (const { reason } of eventsOf(controller, "stopping")) assert.match(reason, /received SIG[A-Z]+ already$/u);
  });
}

test("workers receive their stop signal when only the controller was signaled", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "trap 'echo got; exit 0' TERM; echo up; while :; do sleep 0.05; done", { replicas: 2 }),
    wrapper: AS_SERVICE,
  });
  await controller.until(() => ["web-0", "web-1"].every((id) => saidBy(controller, id, "up").length === 1), "all run");
  assertPlanned(controller, await controller.stop());
  for (const worker of ["web-0", "web-1"]) assert.equal(saidBy(controller, worker, "got").length, 1, worker);
});

test("an old signal to the guardian alone does not keep the stop signal from workers", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "trap 'echo got; exit 0' INT; echo up; while :; do sleep 0.05; done", {
      stop_signal: "SIGINT",
    }),
  });
  await controller.until(() => saidBy(controller, "web-0", "up").length === 1, "it runs");
  const guardian = guardianOf(controller.pid);
  assert.ok(guardian !== undefined);
  process.kill(guardian, "SIGINT");
  assertPlanned(controller, await controller.stop());
  assert.equal(saidBy(controller, "web-0", "got").length, 1);
});

test("with max_restarts 0, workers that exit before the controller receives its own signal do not count as crashed", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "echo up; exec sleep 1000", { replicas: 3, max_restarts: 0 }),
    wrapper: AS_SERVICE,
  });
  await controller.ready();
  const others = listDescendants(controller.pid);
  for (const pid of others) process.kill(pid, "SIGTERM");
  const guardian = guardianOf(controller.pid);
  for (const pid of others) if (pid !== guardian) await untilGone(pid);
  assertPlanned(controller, await controller.stop());
});

for (const signal of ["SIGHUP", "SIGQUIT", "SIGUSR2", "SIGALRM", "SIGPROF", "SIGIO", "SIGPWR"] as const) {
  test(`${signal} to Envoy and the guardian ends neither`, async () => {
    const { workers, target } = await proxyPool({ replicas: 2 });
    await using controller = await ControllerUnderTest.start({ workers });
    await controller.ready();
    const [envoy, guardian] = [await envoyPid(controller), guardianOf(controller.pid)];
    assert.ok(envoy !== undefined && guardian !== undefined);
    using load = startLoad({ target, connections: 4 });
    await load.reached(50);
    for (const pid of [envoy, guardian]) process.kill(pid, signal);
    await load.reached(400);
    const report = await load.stop();
    assert.equal(report.failed, 0, describeLoad(report));
    assert.deepEqual([await envoyPid(controller), guardianOf(controller.pid)], [envoy, guardian]);
  });
}

test("a worker killed during pre_stop_delay is replaced without losing a request", async () => {
  const { workers, target } = await sharedPool({ replicas: 2, more: PATIENT });
  await using controller = await ControllerUnderTest.start({ workers, supervisor: "  pre_stop_delay: 1s" });
  await controller.ready();
  using load = startLoad({ target, connections: 4, requests: [{ path: "/sleep?ms=5" }] });
  await load.reached(100);
  signalAll(controller, "SIGTERM");
  await happened(controller, "exited", ({ cause }) => cause === "expected", 2);
  assertPlanned(controller, await controller.ended);
  const report = await load.stop();
  assert.equal(report.counts.serverError, 0, describeLoad(report));
  // What arrives when the last listener closes its socket is refused or reset, as at any stop. A request may also cross the
  // end of a kept-alive connection: each of the four clients once at the signal and once at the stop.
  assert.ok(report.failed - report.counts.refused <= 8, describeLoad(report));
});

test("a signal to all processes with the controller's name does not keep the stop signal from workers", async () => {
  const { workers } = await proxyPool({ replicas: 2, more: PATIENT });
  await using controller = await ControllerUnderTest.start({ workers, wrapper: AS_SERVICE });
  await controller.ready();
  // As `pkill -f monoceros` does: Envoy's command line names a directory of ours.
  const envoy = envoyPid(controller);
  assert.ok(envoy !== undefined);
  for (const pid of [envoy, controller.pid]) process.kill(pid, "SIGTERM");
  assertPlanned(controller, await controller.ended);
  const stops = eventsOf(controller, "stopping").filter(({ pool }) => pool === "web");
  assert.equal(stops.length, 2);
  for (const { reason } of stops) assert.doesNotMatch(reason, /already/u);
});
