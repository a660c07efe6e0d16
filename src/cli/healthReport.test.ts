import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FakeController } from "../../test/support/fakeController.ts";
import { MemoryTerminal } from "../../test/support/memoryTerminal.ts";
import type { Health } from "../admin/api.ts";
import { ControllerError } from "../base/errors.ts";
import { cli } from "./cli.ts";
import { COMMAND_GROUPS } from "./commands.ts";
import { findSocket } from "./findSocket.ts";
import { objection, requestHealth } from "./healthReport.ts";

type PoolHealth = Health["pools"][number];

function poolHealth(changes: Partial<PoolHealth> = {}): PoolHealth {
  const usual = { name: "web", healthy: true, replicas: 4, ready: 4, completed: 0, desired_healthy_percentage: 75 };
  return { ...usual, ...changes };
}

function healthOf(changes: Partial<Health> = {}, ...pools: readonly PoolHealth[]): Health {
  return {
    phase: "running",
    healthy: true,
    ready: true,
    pools: pools.length === 0 ? [poolHealth()] : pools,
    ...changes,
  };
}

const DEGRADED = healthOf(
  { healthy: false, ready: false },
  poolHealth({ healthy: false, ready: 1 }),
  poolHealth({ name: "fine" }),
  poolHealth({ name: "jobs", healthy: false, ready: 1, completed: 2 }),
);

async function run(...argv: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const terminal = new MemoryTerminal();
  const code = await cli(["health", ...argv], { groups: COMMAND_GROUPS, env: {}, terminal });
  return { code, stdout: terminal.stdout, stderr: terminal.stderr };
}

test("an objection names each unhealthy pool with its numbers", () => {
  const reason =
    'pool "web" has 1 of 4 replicas ready, 75 % required; pool "jobs" has 1 of 4 replicas ready, 2 completed, 75 % required';
  assert.equal(objection(DEGRADED, "healthy"), reason);
  assert.equal(objection(DEGRADED, "ready"), reason);
  assert.equal(objection(DEGRADED, "live"), undefined);
  assert.equal(objection(healthOf(), "healthy"), undefined);
});

test("an objection explains pools whose ready workers crash repeatedly", () => {
  const looping = healthOf({ healthy: false }, poolHealth({ healthy: false }));
  assert.equal(
    objection(looping, "healthy"),
    'pool "web" has 4 of 4 replicas ready, 75 % required, but workers crash repeatedly',
  );
});

test("a controller that shuts down is healthy but not ready", () => {
  const leaving = healthOf({ phase: "leaving", ready: false });
  assert.equal(objection(leaving, "healthy"), undefined);
  assert.equal(objection(leaving, "ready"), "the controller is leaving");
});

test("health prints nothing if the answer is yes, and one line if it is no", async () => {
  await using fake = await FakeController.start();
  const flags = ["--socket", fake.socketPath];
  fake.answer("GET /v1/health", 200, healthOf());
  assert.deepEqual(await run(...flags), { code: 0, stdout: "", stderr: "" });
  fake.answer("GET /v1/health", 200, healthOf({ healthy: false }, poolHealth({ healthy: false, ready: 2 })));
  const stderr = 'monoceros: not healthy: pool "web" has 2 of 4 replicas ready, 75 % required\n';
  assert.deepEqual(await run(...flags), { code: 1, stdout: "", stderr });
  assert.deepEqual(await run(...flags, "--live"), { code: 0, stdout: "", stderr: "" });
});

test("health --json prints the same document for both answers", async () => {
  await using fake = await FakeController.start();
  const flags = ["--socket", fake.socketPath, "--json"];
  fake.answer("GET /v1/health", 200, healthOf({ phase: "draining", ready: false }));
  const document = { reason: null, phase: "draining", pools: [poolHealth()] };
  const good = await run(...flags);
  assert.deepEqual([good.code, JSON.parse(good.stdout)], [0, { healthy: true, ...document }]);
  const bad = await run(...flags, "--ready");
  const reason = "the controller is draining";
  assert.deepEqual([bad.code, JSON.parse(bad.stdout)], [1, { ready: false, ...document, reason }]);
});

test("health accepts only one of --ready and --live", async () => {
  assert.equal((await run("--ready", "--live")).code, 2);
});

test("without a controller the exit code of health is 69", async () => {
  const { code, stderr } = await run("--socket", "/nowhere/c.sock");
  assert.equal(code, 69);
  assert.match(stderr, /^monoceros: Cannot find a controller at \/nowhere\/c\.sock: no such file\n/u);
});

test("a controller that does not respond in time is not healthy", async () => {
  await using fake = await FakeController.start();
  fake.answers.set("GET /v1/health", () => {});
  const { path, connection } = await findSocket([fake.socketPath]);
  await assert.rejects(
    requestHealth(connection, path, 20),
    (error) =>
      error instanceof ControllerError &&
      error.code === "UNHEALTHY" &&
      error.message === `not healthy: the controller at ${path} did not respond within 20ms`,
  );
});

test("a response that is not a health document is not healthy", async () => {
  await using fake = await FakeController.start();
  const flags = ["--socket", fake.socketPath];
  const unknown = await run(...flags);
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /control\.sock responded "HTTP\/1\.1 404 Not Found"\n$/u);
  fake.answers.set("GET /v1/health", (response) => response.socket?.destroy());
  assert.match((await run(...flags)).stderr, /closed the connection|responded nothing/u);
  fake.answers.set("GET /v1/health", (response) => response.end("<html>"));
  assert.equal((await run(...flags)).code, 1);
});

test("health reads admin.socket of a configuration file", async () => {
  await using fake = await FakeController.start();
  fake.answer("GET /v1/health", 200, healthOf());
  const file = join(fake.directory, "config.yaml");
  writeFileSync(
    file,
    `admin: {socket: ${fake.socketPath}}\nsupervisor:\n  workers:\n    - {name: web, replicas: 1, exec: "true"}\n`,
  );
  assert.deepEqual(await run("-c", file), { code: 0, stdout: "", stderr: "" });
});
