/** After SIGTERM the controller finishes running requests in every mode, and exits in every phase. */
import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest, eventually } from "../support/controller.ts";
import { type LoadTarget, startLoad } from "../support/load.ts";
import { describeLoad } from "../support/loadReport.ts";
import { command, envoyPid, proxyPool, sharedPool, type TrafficPool } from "../support/traffic.ts";
import { happened } from "../support/watch.ts";

const CLIENTS = 10;

/** Ten clients on connections kept alive, one request in twenty runs for half a second. */
function startClients(target: LoadTarget) {
  return startLoad({
    target,
    connections: CLIENTS,
    requests: [
      { path: "/sleep?ms=5", weight: 19 },
      { path: "/sleep?ms=500", weight: 1, label: "slow" },
    ],
  });
}

/** Clients that go on asking keep Envoy's drain going for as long as it may: this time. */
const DRAIN = { signal_timeout: "3s" };

const UNIX_DIRECTORY = join(tmpdir(), "m-");

for (const [mode, makePool] of [
  ["Envoy, workers on ports", () => proxyPool({ replicas: 4, server: DRAIN })],
  ["Envoy, workers on Unix sockets", () => proxyPool({ replicas: 4, onUnixSockets: true, server: DRAIN })],
  ["a shared port", () => sharedPool({ replicas: 4, args: ["--drain", "1s"] })],
  ["a shared Unix socket", (path: string) => sharedPool({ replicas: 4, args: ["--drain", "1s"], path })],
] as const satisfies readonly (readonly [string, (path: string) => Promise<TrafficPool>])[]) {
  test(`after SIGTERM, every request in flight and on kept-alive connections is answered: ${mode} [S1]`, async () => {
    await using directory = await mkdtempDisposable(UNIX_DIRECTORY);
    const { workers, target } = await makePool(join(directory.path, "http.sock"));
    await using controller = await ControllerUnderTest.start({ workers });
    await controller.ready();
    using load = startClients(target);
    await load.reached(1000);
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
    const report = await load.stop();
    // After the last listener has closed, connections are refused; all requests before that are answered.
    // The kernel also resets connections that were still in the queue when the last listener closed, at most one per client.
    const queued = report.failures.filter(({ outcome, isReused }) => outcome === "resetBeforeResponse" && !isReused);
    assert.ok(queued.length <= CLIENTS, describeLoad(report));
    assert.equal(report.failed, report.counts.refused + queued.length, describeLoad(report));
    assert.ok(report.counts.ok >= 1000);
    assert.ok((report.latencyByLabel["slow"]?.count ?? 0) > 20);
  });
}

/** Orders a rolling restart and returns within it, as soon as `reached`. */
async function whileRestarting(controller: ControllerUnderTest, reached: () => Promise<unknown>): Promise<void> {
  const restarting = command(controller, "restart", "web").then(({ stdout, stderr }) => {
    throw new Error(`the restart ended before: ${stdout}${stderr}`);
  });
  await Promise.race([reached(), restarting]);
}

test("SIGTERM stops the controller gracefully at startup, while Envoy boots, and within a rolling restart [S6]", async () => {
  const moments: readonly (readonly [string, (controller: ControllerUnderTest) => Promise<unknown>])[] = [
    ["the controller starts", () => Promise.resolve()],
    ["the first worker runs", (controller) => happened(controller, "spawned")],
    ["Envoy runs and may not listen yet", (controller) => eventually(() => envoyPid(controller), "Envoy runs")],
    [
      "a successor is started",
      async (controller) => {
        await controller.ready();
        await whileRestarting(controller, () => happened(controller, "spawned", ({ pool }) => pool === "web", 5));
      },
    ],
    [
      "a predecessor is drained",
      async (controller) => {
        await controller.ready();
        await whileRestarting(controller, () => happened(controller, "draining"));
      },
    ],
  ];
  for (const [moment, reach] of moments) {
    const { workers } = await proxyPool({ replicas: 4 });
    await using controller = await ControllerUnderTest.start({ workers });
    await reach(controller);
    const askedAt = performance.now();
    assert.deepEqual(await controller.stop(), { code: 0, signal: null }, moment);
    // No request is running, so the shutdown need not wait for a deadline; signal_timeout is 10 s.
    assert.ok(performance.now() - askedAt < 9000, moment);
    // Leaving the block checks that no process outlives the controller.
  }
});
