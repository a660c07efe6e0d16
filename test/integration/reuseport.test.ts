/** Load balancing by the kernel with SO_REUSEPORT: distribution, lost connections, and the controller's warnings. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, PROCESSBIN, poolOf } from "../support/controller.ts";
import { requestMany } from "../support/newConnections.ts";
import { freePort } from "../support/ports.ts";
import type { QueueLoss } from "../support/queueLoss.ts";
import { logged, said } from "../support/watch.ts";

const REPLICAS = 4;

/** A pool whose workers open the port themselves. */
function reuseportPool(port: number, replicas = REPLICAS): string {
  return poolOf({
    name: "web",
    replicas,
    exec: PROCESSBIN,
    args: ["--host", "127.0.0.1", "--port", port, "--reuseport"],
  });
}

async function allServe(controller: ControllerUnderTest, replicas = REPLICAS): Promise<void> {
  for (let slot = 0; slot < replicas; slot++) await said(controller, `web-${slot}`, "ready");
}

test("the kernel distributes 10,000 connections evenly among the workers (chi-square) [B1]", async (context) => {
  const port = await freePort();
  await using controller = await ControllerUnderTest.start({ workers: reuseportPool(port) });
  await allServe(controller);
  const total = 10_000;
  const { answered, byWorker } = await requestMany({ host: "127.0.0.1", port }, total, 8);
  assert.equal(answered, total);
  assert.equal(byWorker.size, REPLICAS);
  const expected = total / REPLICAS;
  const chiSquare = [...byWorker.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  context.diagnostic(`${[...byWorker.values()].join(" ")}: chi-square ${chiSquare.toFixed(2)}`);
  // With three degrees of freedom, a uniform distribution exceeds this once in a million runs.
  assert.ok(chiSquare < 30.66, `${chiSquare}`);
});

/** Runs the measurement in a network namespace of its own. Skips the test and returns undefined if that is not possible. */
function measureLoss(mode: "reuseport" | "shared", migrate: 0 | 1, context: TestContext): QueueLoss | undefined {
  const script = `ip link set lo up && echo ${migrate} > /proc/sys/net/ipv4/tcp_migrate_req || exit 99
    exec "$@"`;
  const args = [
    "--net",
    "sh",
    "-c",
    script,
    "sh",
    process.execPath,
    "--no-warnings",
    "test/support/queueLoss.ts",
    mode,
  ];
  const { status, stdout, stderr, error } = spawnSync("unshare", args, { encoding: "utf8", timeout: 60_000 });
  if (error !== undefined || status === 99 || /unshare/u.test(stderr)) {
    context.skip(`cannot create a network namespace with net.ipv4.tcp_migrate_req: ${stderr}`);
    return undefined;
  }
  assert.equal(status, 0, stderr);
  const loss = JSON.parse(stdout) as QueueLoss;
  const { waiting, answered, refused, cut } = loss;
  context.diagnostic(`${mode}, tcp_migrate_req ${migrate}: ${waiting} queued, ${cut} cut, ${refused} refused`);
  assert.equal(answered + refused + cut, 200);
  assert.equal(refused, 0);
  return loss;
}

const SPLIT = /workers of pool "web" listen on 127\.0\.0\.1:8000 with a socket each \(SO_REUSEPORT\)/u;

test("with tcp_migrate_req 0 only connections queued at the exiting worker are lost, and one warning is logged [B3]", (context) => {
  const loss = measureLoss("reuseport", 0, context);
  if (loss === undefined) return;
  assert.ok(loss.waiting > 0);
  assert.ok(loss.cut <= loss.waiting, `${loss.cut} of ${loss.waiting}`);
  const warnings = loss.warnings.filter((line) => SPLIT.test(line));
  assert.equal(warnings.length, 1, loss.warnings.join("\n"));
  for (const text of ["tcp_migrate_req=1", "sockets:", "server:"])
    assert.ok(warnings[0]?.includes(text) === true, text);
});

test("with tcp_migrate_req 1 no queued connection is lost, and no warning is logged [B3]", (context) => {
  const loss = measureLoss("reuseport", 1, context);
  if (loss === undefined) return;
  assert.ok(loss.waiting > 0);
  assert.equal(loss.cut, 0);
  assert.deepEqual(
    loss.warnings.filter((line) => line.includes("SO_REUSEPORT")),
    [],
  );
});

test("with a shared socket no queued connection is lost even with tcp_migrate_req 0, and no warning is logged [B3]", (context) => {
  const loss = measureLoss("shared", 0, context);
  if (loss === undefined) return;
  assert.equal(loss.cut, 0);
  assert.deepEqual(
    loss.warnings.filter((line) => line.includes("SO_REUSEPORT")),
    [],
  );
});

test("a controller whose workers share a port with another controller logs one warning that names it [B4]", async () => {
  const port = await freePort();
  await using first = await ControllerUnderTest.start({ workers: reuseportPool(port, 1) });
  await allServe(first, 1);
  await using second = await ControllerUnderTest.start({ workers: reuseportPool(port, 2) });
  await allServe(second, 2);
  const line = await logged(second, 'pool \\"web\\" shares', `127.0.0.1:${port}`);
  assert.ok(line.includes(`pid ${await first.pidOf("web-0")} (${PROCESSBIN} `), line);
  assert.ok(line.includes(`worker \\"web-0\\" of controller ${first.pid}`), line);
  assert.equal(second.stderr.filter((each) => each.includes(" shares ")).length, 1);
});

test("no warning is logged if only workers of the same controller share a port", async () => {
  const port = await freePort();
  await using controller = await ControllerUnderTest.start({
    workers: [reuseportPool(port), poolOf({ name: "late", exec: "sleep", args: [1000] })].join("\n"),
    args: ["-d"],
  });
  await allServe(controller);
  await eventually(
    () => (controller.stderr.some((line) => line.includes("inspected the sockets of workers")) ? true : undefined),
    "the sockets are checked",
  );
  assert.deepEqual(
    controller.stderr.filter((line) => line.includes("shares")),
    [],
  );
});
