import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { lives, ProcessScene, until } from "../../../test/support/processScene.ts";
import { readSystemUnits } from "../os/linux.ts";
import { type ProcessStat, readStat } from "../os/procfs.ts";
import { ProcessTrees } from "../process/processTrees.ts";
import { TreeUsages } from "./treeUsage.ts";

const LEADER = 100;

type Sketch = Partial<ProcessStat>;

/** Process trees on paper: a test sets what /proc shows. */
class Scene {
  /** In the order in which the listing has them, parents first. */
  readonly processes = new Map<number, Sketch>();
  readonly disowned: number[] = [];
  readonly usages = new TreeUsages({
    trees: {
      refresh: () => {},
      membersOf: () => [...this.processes.keys()],
      disown: (pid) => this.disowned.push(pid),
    },
    statOf: (pid) => this.#statOf(pid),
    ticksPerSecond: 100,
    pageBytes: 4096,
  });

  #statOf(pid: number): ProcessStat | undefined {
    const sketch = this.processes.get(pid);
    if (sketch === undefined) return undefined;
    return {
      pid,
      command: "sh",
      state: "S",
      ppid: pid === LEADER ? 1 : LEADER,
      processGroup: LEADER,
      session: LEADER,
      cpuTicks: 0,
      reapedTicks: 0,
      startTicks: pid,
      virtualBytes: 0,
      rssPages: 1,
      ...sketch,
    };
  }

  cpuSeconds(): number | undefined {
    return this.usages.read([LEADER], 0).get(LEADER)?.cpuSeconds;
  }
}

test("CPU and memory are summed over all processes, and zombies do not count as processes", () => {
  const scene = new Scene();
  scene.processes.set(LEADER, { cpuTicks: 10, rssPages: 3 });
  scene.processes.set(101, { cpuTicks: 200, rssPages: 5 });
  scene.processes.set(102, { cpuTicks: 30, state: "Z", rssPages: 0 });
  assert.deepEqual(scene.usages.read([LEADER], 0).get(LEADER), {
    cpuSeconds: 2.4,
    residentBytes: 8 * 4096,
    processCount: 2,
  });
  assert.deepEqual(
    scene.usages.processesOf(LEADER).map(({ pid, cpuSeconds }) => [pid, cpuSeconds]),
    [
      [LEADER, 0.1],
      [101, 2],
    ],
  );
});

test("the time of a child that its parent waited for is neither lost nor counted twice", () => {
  const scene = new Scene();
  scene.processes.set(LEADER, {});
  scene.processes.set(101, { cpuTicks: 500 });
  assert.equal(scene.cpuSeconds(), 5);
  scene.processes.delete(101);
  // It used 20 more ticks before its end, and a child of 7 ticks came and went unseen.
  scene.processes.set(LEADER, { reapedTicks: 527 });
  assert.equal(scene.cpuSeconds(), 5.27);
  assert.equal(scene.cpuSeconds(), 5.27);
});

test("a child that exits between the readings of its parent and of itself causes no dip and no jump", () => {
  const scene = new Scene();
  scene.processes.set(LEADER, {});
  scene.processes.set(101, { cpuTicks: 500 });
  scene.cpuSeconds();
  scene.processes.delete(101);
  assert.equal(scene.cpuSeconds(), 5);
  scene.processes.set(LEADER, { reapedTicks: 500, cpuTicks: 3 });
  assert.equal(scene.cpuSeconds(), 5.03);
});

test("the time of children that the leader never waits for stays counted", () => {
  const scene = new Scene();
  scene.processes.set(LEADER, {});
  scene.processes.set(101, { cpuTicks: 500 });
  scene.cpuSeconds();
  scene.processes.delete(101);
  for (let look = 0; look < 3; look++) assert.equal(scene.cpuSeconds(), 5);
  // It waits for one much later: by then nothing is owed.
  scene.processes.set(LEADER, { reapedTicks: 40 });
  assert.equal(scene.cpuSeconds(), 5.4);
});

test("the time of a whole exited branch goes to the nearest live ancestor", () => {
  const scene = new Scene();
  scene.processes.set(LEADER, {});
  scene.processes.set(101, { cpuTicks: 10 });
  scene.processes.set(102, { ppid: 101, cpuTicks: 500 });
  scene.cpuSeconds();
  scene.processes.delete(101);
  scene.processes.delete(102);
  scene.processes.set(LEADER, { reapedTicks: 512 });
  assert.equal(scene.cpuSeconds(), 5.12);
});

test("CPU time of processes that were adopted and reaped outside the tree stays counted", () => {
  const scene = new Scene();
  scene.processes.set(LEADER, {});
  scene.processes.set(101, { ppid: 1, cpuTicks: 500 });
  scene.cpuSeconds();
  scene.processes.delete(101);
  scene.processes.set(LEADER, { reapedTicks: 30 });
  assert.equal(scene.cpuSeconds(), 5.3);
});

test("a reused process id adds nothing until its worker is known", () => {
  const scene = new Scene();
  scene.processes.set(LEADER, {});
  scene.processes.set(101, { cpuTicks: 500 });
  scene.cpuSeconds();
  scene.processes.set(101, { cpuTicks: 900, startTicks: 7777 });
  assert.equal(scene.cpuSeconds(), 5);
  assert.deepEqual(scene.disowned, [101]);
});

test("a leader that has exited has no usage, and a new worker starts at 0", () => {
  const scene = new Scene();
  scene.processes.set(LEADER, { cpuTicks: 500 });
  scene.cpuSeconds();
  scene.processes.delete(LEADER);
  assert.equal(scene.cpuSeconds(), undefined);
  scene.usages.forget(LEADER);
  scene.processes.set(LEADER, { cpuTicks: 1 });
  assert.equal(scene.cpuSeconds(), 0.01);
});

test("the sum never decreases over random trees, and is exact while parents wait for their children", () => {
  let seed = 7;
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((seed / 2 ** 31) * below);
  };
  const scene = new Scene();
  const parents = new Map<number, number>();
  scene.processes.set(LEADER, { cpuTicks: 0, reapedTicks: 0 });
  let next = LEADER + 1;
  let spent = 0;
  let last = 0;
  for (let step = 0; step < 3000; step++) {
    const pids = [...scene.processes.keys()];
    const pid = pids[random(pids.length)] ?? LEADER;
    const sketch = scene.processes.get(pid) ?? {};
    const roll = random(10);
    if (roll < 5) {
      const ticks = random(50);
      spent += ticks;
      scene.processes.set(pid, { ...sketch, cpuTicks: (sketch.cpuTicks ?? 0) + ticks });
    } else if (roll < 8 && pids.length < 20) {
      parents.set(next, pid);
      scene.processes.set(next++, { ppid: pid });
    } else if (
      pid !== LEADER &&
      ![...parents].some(([child, parent]) => parent === pid && scene.processes.has(child))
    ) {
      const parent = parents.get(pid) ?? LEADER;
      const heir = scene.processes.get(parent) ?? {};
      const handed = (sketch.cpuTicks ?? 0) + (sketch.reapedTicks ?? 0);
      scene.processes.delete(pid);
      scene.processes.set(parent, { ...heir, reapedTicks: (heir.reapedTicks ?? 0) + handed });
    }
    if (random(3) > 0) continue;
    const now = scene.cpuSeconds() ?? 0;
    assert.ok(now >= last, `${last} fell to ${now}`);
    last = now;
  }
  assert.equal(Math.round((scene.cpuSeconds() ?? 0) * 100), spent);
});

const SPIN = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";

function writtenPid(path: string): number {
  return existsSync(path) ? Number(readFileSync(path, "utf8")) : 0;
}

test("the CPU time of exited children stays in the sum of a real worker", async (context) => {
  // Each child works, says so, and ends when it may; its parent waits for it.
  const script = `for n in 1 2 3; do sh -c '${SPIN}; echo $$ > done.tmp; mv done.tmp done'$n'; while [ ! -e go'$n' ]; do sleep 0.01; done'; echo x > reaped$n; done; exec sleep 1000`;
  const scene = new ProcessScene(context, script);
  const trees = new ProcessTrees(scene.mark);
  const units = readSystemUnits();
  const usages = new TreeUsages({ trees, statOf: readStat, ...units });
  const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  trees.add({ leader, pool: "web", slot: 0, incarnation: 1 });
  let last = 0;
  let spent = 0;
  const look = () => {
    const now = usages.read([leader], 0).get(leader)?.cpuSeconds ?? 0;
    assert.ok(now >= last, `${last} fell to ${now}`);
    last = now;
    return now;
  };
  for (const n of [1, 2, 3]) {
    await until(() => lives(writtenPid(scene.path(`done${n}`))), `child ${n} has worked`);
    const child = readStat(writtenPid(scene.path(`done${n}`)));
    const ofChild = (child?.cpuTicks ?? 0) / units.ticksPerSecond;
    assert.ok(ofChild > 0.05, `${ofChild}`);
    spent += ofChild;
    assert.ok(look() >= spent - 0.001, `${last} of ${spent}`);
    writeFileSync(scene.path(`go${n}`), "");
    await until(() => existsSync(scene.path(`reaped${n}`)), `child ${n} has ended`);
    // Not twice either: the sleeps and shells beside it need far less than another child.
    assert.ok(look() >= spent - 0.001 && last < spent + 0.6 * ofChild + 0.05 * n, `${last} of ${spent}`);
  }
});
