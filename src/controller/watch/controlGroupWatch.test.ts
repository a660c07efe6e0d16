import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import type { Config } from "../../config/config.ts";
import { ControlGroupWatch } from "./controlGroupWatch.ts";

const MIB = 2 ** 20;

/** Pools "auto" and "fixed" in a control group with 2 CPUs and 1000 MiB. */
function rig(context: TestContext) {
  const messages: string[] = [];
  const log = { debug() {}, info() {}, error() {}, warn: (message: string) => messages.push(message) };
  const scene = {
    messages,
    cpus: 2,
    memoryBytes: 1000 * MIB,
    kills: 0,
    planned: 2,
    refusal: undefined as Error | undefined,
  };
  const pools = [
    { name: "auto", replicas: "auto", autoscale: undefined },
    { name: "fixed", replicas: 3, autoscale: undefined },
  ];
  const { limits } = poolSpec();
  const watch = new ControlGroupWatch({
    config: () => ({ supervisor: { pools } }) as unknown as Config,
    spec: () => ({ pools: [poolSpec({ replicas: 2, limits: { ...limits, memoryBytes: 300 * MIB } })] }),
    availableCpus: () => scene.cpus,
    memoryBoundBytes: () => scene.memoryBytes,
    plannedReplicas: () => scene.planned,
    takeUnclaimedKills: () => scene.kills,
    scale: (pool, replicas, reason) => {
      if (scene.refusal !== undefined) throw scene.refusal;
      messages.push(`${pool} to ${replicas}: ${reason}`);
    },
    log,
  });
  context.after(() => watch[Symbol.dispose]());
  const look = () => {
    watch.look();
    return messages.splice(0);
  };
  return Object.assign(scene, { look });
}

test("a pool with replicas: auto follows the CPUs, once per change", (context) => {
  const scene = rig(context);
  assert.deepEqual(scene.look(), []);
  scene.cpus = 4;
  assert.deepEqual(scene.look(), ["auto to 4: replicas: auto, the controller has 4 CPUs now, 2 before"]);
  assert.deepEqual(scene.look(), []);
  scene.cpus = 1;
  assert.deepEqual(scene.look(), ["auto to 1: replicas: auto, the controller has 1 CPU now, 4 before"]);
});

test("a reload that already counted the new CPUs needs no scaling", (context) => {
  const scene = rig(context);
  scene.look();
  scene.cpus = scene.planned = 4;
  assert.deepEqual(scene.look(), []);
});

test("a refused scaling is reported, and repeated only for another number of CPUs", (context) => {
  const scene = rig(context);
  scene.cpus = 4;
  scene.refusal = new Error("no free port");
  assert.deepEqual(scene.look(), ['cannot scale pool "auto" to 4 CPUs: no free port']);
  assert.deepEqual(scene.look(), []);
});

test("a smaller memory limit and kills by the kernel are reported", (context) => {
  const scene = rig(context);
  scene.memoryBytes = 500 * MIB;
  const [shortage, ...others] = scene.look();
  assert.match(shortage ?? "", /^the memory limit of the control group changed: .*500 MiB of this control group/u);
  assert.deepEqual(others, []);
  scene.kills = 2;
  assert.deepEqual(scene.look(), [
    "the kernel killed 2 processes of this control group: out of memory (limit 500 MiB)",
  ]);
});
