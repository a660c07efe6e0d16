/** Changes of a running controller's control group: more CPUs, less memory, OOM kills. Uses real control groups. */
import assert from "node:assert/strict";
import { mkdirSync, rmdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, poolOf } from "../support/controller.ts";
import { happened, logged } from "../support/watch.ts";

/** Creates a group of version 1 with these files. Skips the test and returns undefined if that is not possible. */
function makeGroup(context: TestContext, kind: string, files: Readonly<Record<string, number>>): string | undefined {
  const path = join("/sys/fs/cgroup", kind, `monoceros-test-${process.pid}`);
  try {
    mkdirSync(path);
    context.after(() =>
      eventually(() => {
        try {
          rmdirSync(path);
          return true;
        } catch {
          return undefined;
        }
      }, "the group is empty"),
    );
    for (const [name, value] of Object.entries(files)) writeFileSync(join(path, name), String(value));
    return path;
  } catch {
    context.skip(`NOT TESTED: cannot create a control group of version 1 for ${kind}`);
    return undefined;
  }
}

function within(group: string): readonly string[] {
  return ["sh", "-c", `echo $$ >${group}/cgroup.procs && exec "$@"`, "sh"];
}

const SLEEPER = { name: "web", exec: "/bin/sleep", args: ["1000"] };

test("replicas: auto adapts to a resized control group, at once with a reload and otherwise within seconds", async (context) => {
  if (cpus().length < 2) {
    context.skip("NOT TESTED: this machine has one CPU");
    return;
  }
  const group = makeGroup(context, "cpu", { "cpu.cfs_quota_us": 100_000 });
  if (group === undefined) return;
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ ...SLEEPER, replicas: "auto" }),
    wrapper: within(group),
  });
  await controller.ready();
  const replicas = async () => (await controller.status()).pools[0]?.replicas;
  assert.equal(await replicas(), 1);
  writeFileSync(join(group, "cpu.cfs_quota_us"), "200000");
  const { body } = await controller.call("POST", "/v1/reload");
  assert.match(body, /replicas/u);
  await eventually(async () => ((await replicas()) === 2 ? true : undefined), "two replicas after a reload");
  writeFileSync(join(group, "cpu.cfs_quota_us"), "100000");
  await eventually(async () => ((await replicas()) === 1 ? true : undefined), "one replica without a reload");
  const started = await happened(controller, "operation_started", ({ what }) => what === "scale");
  assert.match(started.message, /replicas: auto, the controller has 1 CPUs? now, 2 before/u);
});

test("an OOM kill of a worker is reported with the memory limit and counted in a metric", async (context) => {
  const group = makeGroup(context, "memory", { "memory.limit_in_bytes": 300 << 20 });
  if (group === undefined) return;
  // The worker is by far the largest process, so the kernel chooses it.
  const script = "import time; time.sleep(0.2); x = bytearray(600 << 20); time.sleep(1000)";
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ ...SLEEPER, exec: "python3", args: ["-c", script], oom_score_adj: 1000 }),
    wrapper: within(group),
  });
  const exited = await happened(controller, "exited");
  assert.match(exited.message, /killed by the kernel: out of memory \(limit 300 ?MiB\)/u);
  assert.deepEqual(exited.status, { kind: "signal", signal: "SIGKILL", out_of_memory: { limit_bytes: 300 << 20 } });
  assert.ok((await controller.metric("monoceros_controller_oom_kills_total")) >= 1);
  process.kill(await eventually(() => controller.pidOf("web-0").catch(() => undefined), "the next worker"), "SIGKILL");
});

test("a memory limit that shrinks below the workers' needs causes a warning, also at a reload", async (context) => {
  const group = makeGroup(context, "memory", { "memory.limit_in_bytes": 1 << 30 });
  if (group === undefined) return;
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ ...SLEEPER, replicas: 2, limits: { memory: "200MiB" } }),
    wrapper: within(group),
  });
  await controller.ready();
  writeFileSync(join(group, "memory.limit_in_bytes"), String(300 << 20));
  await logged(controller, "the memory limit of the control group changed", "more than the 300 MiB");
  await controller.call("POST", "/v1/reload");
  await logged(controller, "limits.memory", "more than the 300 MiB");
});
