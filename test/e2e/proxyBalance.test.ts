/** Envoy balances load evenly over workers, and the metrics show uneven load. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerUnderTest, eventually } from "../support/controller.ts";
import { startLoad } from "../support/load.ts";
import { describeLoad } from "../support/loadReport.ts";
import { proxyPool } from "../support/traffic.ts";

const SPREAD = 'monoceros_pool_requests_spread_ratio{pool="web"}';

/** The spread of requests over workers in the metrics; undefined until there were enough requests. */
async function spreadOf(controller: ControllerUnderTest, isWanted: (ratio: number) => boolean): Promise<number> {
  return eventually(async () => {
    const line = (await controller.metrics()).split("\n").find((each) => each.startsWith(`${SPREAD} `));
    const ratio = Number(line?.slice(SPREAD.length + 1));
    return isWanted(ratio) ? ratio : undefined;
  }, "the spread of requests is as it should be");
}

test("blocking workers behind least request get equal shares, and none is idle", async () => {
  const replicas = 8;
  const { workers, target } = await proxyPool({ replicas, args: ["--block", "5ms"] });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  using load = startLoad({ target, connections: 16, requests: [{ path: "/" }] });
  await load.reached(3000);
  const report = await load.stop();
  assert.equal(report.failed, 0, describeLoad(report));
  const shares = Object.values(report.workers);
  assert.equal(shares.length, replicas);
  const mean = report.counts.ok / replicas;
  // 1.02 on a quiet machine; each share is of some 400 requests, and a busy machine holds single workers up.
  assert.ok(Math.max(...shares) <= 1.25 * mean, `shares: ${shares}`);
});

test("the metrics show whether requests are spread evenly [B2]", async () => {
  const replicas = 4;
  for (const [algorithm, isWanted] of [
    ["LEAST_REQUEST", (ratio: number) => ratio >= 1 && ratio < 1.2],
    // All requests with the same header go to the same worker.
    ["RING_HASH", (ratio: number) => ratio > replicas - 0.3],
  ] as const) {
    const { workers, target } = await proxyPool({
      replicas,
      server: {
        load_balancer_algorithm: algorithm,
        ...(algorithm === "RING_HASH" ? { hash_on: "header:x-user" } : {}),
      },
    });
    await using controller = await ControllerUnderTest.start({ workers });
    await controller.ready();
    using load = startLoad({
      target,
      connections: 8,
      requests: [{ path: "/sleep?ms=5", headers: { "x-user": "somebody" } }],
    });
    await spreadOf(controller, isWanted);
    const report = await load.stop();
    assert.equal(report.failed, 0, describeLoad(report));
    const largest = Math.max(...Object.values(report.workers)) / report.counts.ok;
    // Envoy's thread learns of the last worker a moment after it is there.
    if (algorithm === "RING_HASH") assert.ok(largest > 0.95, describeLoad(report));
    else assert.equal(Object.keys(report.workers).length, replicas);
  }
});
