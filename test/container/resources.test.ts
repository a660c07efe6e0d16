/** The limits of a container: how the controller uses them, and what happens when they are reached. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { TestContext } from "node:test";
import { poolOf } from "../support/controller.ts";
import { Container, containerTest } from "./podman.ts";
import { ADMIN, configOf, idlePool, LISTENER, proxiedPool } from "./pools.ts";

const LIMITED = { needsLimits: true };
const MACHINE = availableParallelism();

for (const [cpus, expected] of [
  [0.5, 1],
  [1, 1],
  [1.5, 2],
  [2, 2],
] as const) {
  if (cpus > MACHINE) continue;
  containerTest(`replicas: auto is ${expected} with a limit of ${cpus} CPUs`, LIMITED, async () => {
    await using container = await Container.ready({
      config: configOf([idlePool("web", { replicas: "auto" })]),
      flags: ["--cpus", String(cpus)],
    });
    assert.equal((await container.status()).pools[0]?.workers.length, Math.min(expected, MACHINE));
  });
}

containerTest(
  "a reload applies changed CPU and memory limits to replicas: auto and the memory warning",
  { ...LIMITED },
  async () => {
    const config = configOf([idlePool("web", { replicas: "auto", limits: { memory: "200MiB" } })]);
    await using container = await Container.ready({
      config,
      flags: ["--cpus", "1", "--memory", "1g", "--memory-swap", "1g"],
    });
    assert.equal((await container.status()).pools[0]?.workers.length, 1);
    writeFileSync(await container.cgroupFile("cpu", ["cpu.cfs_quota_us", "cpu.max"]), "200000");
    writeFileSync(await container.cgroupFile("memory", ["memory.limit_in_bytes", "memory.max"]), "256M");
    const { stdout, stderr } = await container.exec("monoceros", "reload");
    await container.statusWhere(({ pools }) => pools[0]?.workers.length === Math.min(2, MACHINE), "2 workers");
    assert.match(`${stdout}${stderr}${container.text}`, /more than the 256 MiB of this control group/u);
  },
);

containerTest(
  "memory limits of workers above the container's memory cause a warning with the container's limit",
  LIMITED,
  async () => {
    await using container = await Container.ready({
      config: configOf([idlePool("web", { replicas: 4, limits: { memory: "100MiB" } })]),
      flags: ["--memory", "256m", "--memory-swap", "256m"],
    });
    await container.logged("more than the 256 MiB of this control group");
  },
);

/** The memory of a container whose tests fill it. */
const FILLED = ["--memory", "256m", "--memory-swap", "256m"];

containerTest("when memory runs out the kernel kills only a large worker", LIMITED, async () => {
  await using container = await Container.ready({ config: configOf([proxiedPool(3)]), flags: FILLED });
  const before = await container.status();
  await fill(container, 9090, 100, 3);
  await container.logged('"event":"exited"', '"worker_id":"web-0"');
  assert.equal(proxyPid(await container.allReady()), proxyPid(before), "Envoy was killed");
  assert.equal((await container.ask(LISTENER, "/")).status, 200);
});

containerTest("an OOM kill is reported as such with the memory limit and counted", { ...LIMITED }, async () => {
  await using container = await Container.ready({ config: configOf([proxiedPool(3)]), flags: FILLED });
  await fill(container, 9090, 100, 3);
  const line = await container.logged('"event":"exited"', '"worker_id":"web-0"');
  assert.match(line, /out of memory.*256 ?MiB/u);
  assert.match((await container.ask(ADMIN, "/metrics")).body, /^monoceros_\w*oom\w*(?:\{[^}]*\})? [1-9]/mu);
});

containerTest(
  "when many small workers use up the memory the kernel kills workers, not the controller or Envoy",
  { ...LIMITED },
  async () => {
    await using container = await Container.ready({ config: configOf([proxiedPool(12)]), flags: FILLED });
    const before = await container.status();
    await fill(container, LISTENER, 10, 40);
    await container.logged('"event":"exited"', '"pool":"web"');
    assert.equal(proxyPid(await container.allReady()), proxyPid(before), "Envoy was killed");
  },
);

containerTest("workers have a higher oom_score_adj than the controller and Envoy", async (context: TestContext) => {
  for (const own of [0, 995]) {
    await context.test(`controller with oom_score_adj ${own}`, async () => {
      await using container = await Container.ready({
        config: configOf([proxiedPool(1)]),
        flags: ["--oom-score-adj", String(own)],
      });
      const adj = async (pid: number | null) => Number(await container.execOk("cat", `/proc/${pid}/oom_score_adj`));
      assert.equal(await adj(1), own);
      assert.equal(await adj(proxyPid(await container.status())), own);
      assert.equal(await adj((await container.worker("web-0")).pid), Math.min(1000, own + 500));
    });
  }
});

containerTest(
  "a pool that cannot start a worker because of the pids limit recovers when processes exit",
  LIMITED,
  async () => {
    const forks = { exec: "perl", args: ["/opt/worker.pl"], env: { PORT: "9300" } };
    await using container = await Container.ready({
      config: configOf([
        proxiedPool(2),
        poolOf({ name: "forks", ...forks, probes: { readiness: { tcp: { port: 9300 } } } }),
      ]),
      flags: ["--pids-limit", "70"],
    });
    assert.ok(Number((await container.ask(9300, "/fill")).body) > 5);
    // The new worker's process cannot be started.
    assert.equal((await container.ask(ADMIN, "/v1/pools/web/scale", { replicas: 3 })).status, 202);
    await container.logged('"event":"backing_off"', '"worker_id":"web-2"');
    assert.equal((await container.ask(ADMIN, "/health/live")).status, 200);
    assert.equal((await container.ask(LISTENER, "/")).status, 200);
    await container.ask(9300, "/clear");
    const { pools } = await container.allReady();
    assert.equal(pools.find(({ name }) => name === "web")?.workers.length, 3);
  },
);

for (const pids of [8, 16, 24]) {
  containerTest(
    `a start with a pids limit of ${pids} fails with an error that names the limit, or backs off`,
    { ...LIMITED },
    async () => {
      await using container = new Container({
        config: configOf([proxiedPool(4)]),
        flags: ["--pids-limit", String(pids)],
      });
      const has = (text: string) => container.lines.some((line) => line.includes(text));
      const isOver = () => container.child.exitCode !== null || has("controller is ready") || has("backing_off");
      await container.until(isOver, "ready, backoff or an exit");
      if (container.child.exitCode === null) return;
      assert.ok([1, 78].includes(container.child.exitCode), `exit code ${container.child.exitCode}: ${container.text}`);
      assert.match(container.text, /pids\.max|pids limit/u);
    },
  );
}

/** Makes the workers at a port allocate memory, which eventually gets one killed. */
async function fill(container: Container, port: number, mib: number, times: number): Promise<void> {
  await container.underLoad({
    target: { port },
    connections: 1,
    isConnectionPerRequest: true,
    requests: [{ path: `/alloc?mb=${mib}` }],
    maxRequests: times,
  });
}

function proxyPid(status: { pools: readonly { name: string; workers: readonly { pid: number | null }[] }[] }): number {
  return status.pools.find(({ name }) => name === "web-proxy")?.workers[0]?.pid ?? 0;
}
