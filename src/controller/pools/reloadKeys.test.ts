/** A reload of each configuration key changes the parts that the key's class names, and no others. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { changeClasses } from "../../../test/support/changeClasses.ts";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import {
  type Block,
  blockCases,
  CASE_PORTS,
  type ChangeCase,
  configurationWith,
  keyCases,
} from "../../../test/support/keyCases.ts";
import { freePorts } from "../../../test/support/ports.ts";
import { type Picture, ReloadScene, SILENT } from "../../../test/support/reloadScene.ts";
import type { LaunchedPool } from "../../config/config.ts";
import type { ChangeClass } from "../../config/field.ts";
import { Autoscaler } from "../watch/autoscaler.ts";
import { MemoryWatch } from "../watch/memoryWatch.ts";
import { WorkerTrees } from "../watch/workerTrees.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-keys-"));
after(() => rmSync(directory, { recursive: true, force: true }));
const ports = await freePorts(CASE_PORTS);
const CASES = keyCases(directory, ports);

/** Keys of the schema as the cases name them. A pool's name has no class because another name is another pool. */
const KEYS = new Map(
  [...changeClasses()]
    .map(([path, classes]) => [path.replace("supervisor.workers[].", ""), classes] as const)
    .filter(([key]) => key !== "name"),
);

const configuration = (key: string, value: unknown, pool: Block) =>
  configurationWith(key, value, pool, directory, ports);

/** Parts that a key of each class may change. The policy contains the revision that workers are launched with. */
const MAY_CHANGE: Readonly<Record<ChangeClass, readonly (keyof Picture)[]>> = {
  launch: ["launch", "policy"],
  proxy: ["proxy"],
  policy: ["policy"],
  refused: [],
};

test("the schema's keys and the test cases are the same set", () => {
  const cases = new Set(Object.keys(CASES));
  assert.deepEqual({ without: [...KEYS.keys()].filter((key) => !cases.has(key)) }, { without: [] });
  assert.deepEqual({ unknown: [...cases].filter((key) => !KEYS.has(key)) }, { unknown: [] });
});

for (const [key, each] of Object.entries(CASES)) {
  if ("other" in each)
    test(`${key} has only one valid value, so no reload can change it`, async () => {
      const scene = ReloadScene.start(configuration(key, each.other, each.pool));
      await assert.rejects(scene, ({ message }: Error) => message.includes(key.slice(0, key.lastIndexOf("."))));
    });
  else {
    const isSkipped = each.needsRoot === true && process.getuid?.() !== 0;
    test(`a reload that changes ${key} has the effect of class ${each.classes.join(" and ")}`, {
      skip: isSkipped,
    }, () => {
      assert.deepEqual(KEYS.get(key), each.classes, "the declared class");
      return assertReloaded(key, each);
    });
  }
}

for (const [key, each] of Object.entries(blockCases(ports))) {
  const classes = each.classes.join(" and ");
  test(`a reload that adds the block ${key} has the effect of class ${classes}`, () => assertReloaded(key, each));
  test(`a reload that removes the block ${key} has the effect of class ${classes}`, () =>
    assertReloaded(key, { ...each, before: each.after, after: each.before }));
}

async function assertReloaded(key: string, { classes, before, after, pool }: ChangeCase): Promise<void> {
  using scene = await ReloadScene.start(configuration(key, before, pool));
  const first = scene.picture();
  const config = scene.config;
  const [revision] = revisions(scene);
  const { refused, failed } = await scene.reload(configuration(key, after, pool));
  const second = scene.picture();
  assert.deepEqual(failed, []);
  const isRefused = classes.includes("refused");
  assert.equal(refused.length, isRefused ? 1 : 0, JSON.stringify(refused));
  if (isRefused) assert.deepEqual(scene.config, config, "the old value stays in force");
  const mayChange = new Set(classes.flatMap((each) => MAY_CHANGE[each]));
  for (const part of ["policy", "launch", "proxy"] as const) {
    if (classes.includes(part)) assert.ok(second[part] !== first[part], `${part} has changed`);
    else if (!mayChange.has(part)) assert.equal(second[part], first[part], `${part} has not changed`);
  }
  const isReplaced = classes.includes("launch");
  assert.equal(new Set(revisions(scene)).size, 1, "all workers have the same revision");
  assert.equal(
    revisions(scene)[0] === revision,
    !isReplaced,
    isReplaced ? "workers are replaced" : "no worker is replaced",
  );
}

/** Revisions of the workers. */
function revisions(scene: ReloadScene): number[] {
  return scene
    .pools()
    .flatMap(({ workers }) => workers.flatMap(({ pid, revision }) => (pid === undefined ? [] : [revision])));
}

test("a worker that starts after a reload is probed at the new health_check_path", async () => {
  const key = "server.health_check_path";
  using scene = await ReloadScene.start(configuration(key, "/old", {}));
  await scene.reload(configuration(key, "/new", {}));
  const { startupProbe } = scene.proxies()[0] ?? {};
  assert.equal(startupProbe?.kind === "http" && startupProbe.path, "/new");
});

test("a failed reload restores specification, launch plans and proxy settings", async () => {
  const server = { socket_arg: { name: "--socket" }, listener_address: "127.0.0.1", listener_port: ports };
  const old = { server, metrics: {}, autoscale: { max: 3, cpu: 1 }, limits: { memory: "1GiB" } };
  const next = {
    args: ["1001"],
    server: { ...server, signal_timeout: "3s", drain_timeout: "2s", health_check_path: "/ready", max_queue: 3 },
    metrics: { path: "/stats" },
    logs: { max_line: "2KiB" },
    stop_signal: "SIGINT",
  };
  using scene = await ReloadScene.start(configuration("umask", "022", old));
  const first = scene.picture();
  const config = scene.config;
  scene.newWorkers = "bad";
  await scene.reload(configuration("umask", "027", next));
  assert.ok(scene.events.some(({ kind }) => kind === "operation_failed"));
  assert.deepEqual(scene.picture(), first);
  assert.deepEqual(scene.config, config);
});

test("a reload rejects a metrics.port whose range overlaps ports in use by workers, but accepts an unchanged one", async () => {
  const measured = (port: number, more: Block = {}) => configuration("metrics.port", port, more);
  using scene = await ReloadScene.start(measured(ports + 30));
  const { refused } = await scene.reload(measured(ports + 31));
  assert.deepEqual(
    refused.map(({ path }) => path),
    ["supervisor.workers[0].metrics.port"],
  );
  assert.deepEqual((await scene.reload(measured(ports + 30, { replicas: 2 }))).refused, []);
});

test("the type LaunchedPool has only keys that require new processes", () => {
  const look = (launched: LaunchedPool) => [
    launched.env,
    launched.metrics?.port,
    launched.server?.protocol,
    // @ts-expect-error a reload changes it at once
    launched.limits,
    // @ts-expect-error a reload changes it at once
    launched.metrics?.path,
    // @ts-expect-error a reload gives it to Envoy
    launched.server?.healthCheckPath,
  ];
  assert.ok(look);
});

test("after a failed reload the memory limit and the autoscaler are active again", async () => {
  const probes = { startup: { exec: ["true"] } };
  const old = { probes, autoscale: { max: 3, cpu: 1 }, limits: { memory: "1TiB" } };
  using scene = await ReloadScene.start(configuration("umask", "022", old));
  const { daemon } = scene;
  const clocks = { memory: new FakeClock(), autoscaler: new FakeClock() };
  const trees = new WorkerTrees("none");
  const options = { daemon, log: SILENT, trees: trees.processes };
  using memory = new MemoryWatch({ ...options, clock: clocks.memory });
  const scaling = { daemon, usages: trees.usages, proxies: () => new Map(), scale: () => {} };
  using autoscaler = new Autoscaler({ ...scaling, clock: clocks.autoscaler });
  scene.onEvent = (event, worker) => {
    memory.handle(event, worker);
    autoscaler.handle(event);
  };
  await scene.reload(configuration("umask", "027", old));
  const areArmed = () => [clocks.memory.armed.length > 0, clocks.autoscaler.armed.length > 0];
  assert.deepEqual(areArmed(), [true, true]);
  scene.newWorkers = "silent";
  await scene.reload(configuration("umask", "022", { probes }), true);
  for (const clock of Object.values(clocks)) clock.pass(10_000);
  assert.deepEqual(areArmed(), [false, false], "the new specification has neither limit nor autoscaler");
  scene.failSilent();
  await scene.settle();
  assert.ok(scene.events.some(({ kind }) => kind === "operation_failed"));
  assert.deepEqual(areArmed(), [true, true]);
});

test("a revision is kept as long as a worker of it runs, regardless of the number of reloads", async () => {
  using scene = await ReloadScene.start(configuration("env", { N: "0" }, {}));
  const [oldest] = revisions(scene);
  scene.processes.ignoresSignals = true;
  for (let turn = 1; turn <= 20; turn++) await scene.reload(configuration("env", { N: `${turn}` }, {}), true);
  assert.ok(revisions(scene).includes(oldest ?? -1), "the first worker still runs");
  const [pool] = scene.pools();
  for (const { revision, pid } of pool?.workers ?? [])
    if (pid !== undefined) assert.ok(scene.registry.partsOf(pool?.index ?? -1, revision));
  scene.processes.ignoresSignals = false;
});
