import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { lives, ProcessScene, until } from "../../../test/support/processScene.ts";
import { becomeSubreaper, readSystemUnits } from "../os/linux.ts";
import { readPssBytes, readRssPages } from "../os/memoryReadings.ts";
import { readStat } from "../os/procfs.ts";
import { ProcessTrees } from "./processTrees.ts";

function writtenPid(path: string): number {
  return existsSync(path) ? Number(readFileSync(path, "utf8")) : 0;
}

/** A script that leaves the pid of each `command` in a file of its name and stays. */
function leaving(...lines: readonly string[]): string {
  return [...lines, "exec sleep 1000"].join("\n");
}

/** Kills workers with all that carries their marks, and waits until nothing is left. */
async function endAll(scene: ProcessScene, leaders: readonly number[]): Promise<void> {
  for (const leader of leaders) scene.processes.kill(leader);
  await until(() => leaders.every((leader) => !lives(leader)), "the workers have ended");
}

const NOTE = "sh -c 'echo $$ > $0.tmp; mv $0.tmp $0; exec sleep 1000'";

test("a worker's processes are its leader, its session, their descendants, and adopted processes with its marks", async (context) => {
  becomeSubreaper();
  const scene = new ProcessScene(
    context,
    leaving(
      `${NOTE} child$OWN_SLOT &`,
      // Of another session, its parent alive.
      `setsid ${NOTE} elsewhere$OWN_SLOT &`,
      // The parent of this one ends at once.
      `(setsid ${NOTE} escaped$OWN_SLOT &)`,
      "sh -c 'sh -c \"echo \\$\\$ > deep$OWN_SLOT; exec sleep 1000\" & wait' &",
    ),
    { envOf: (slot) => ({ OWN_SLOT: String(slot) }) },
  );
  const trees = new ProcessTrees(scene.mark);
  const leaders = [0, 1].map((slot) => {
    const leader = scene.processes.begin({ pool: 0, slot, incarnation: 1 }, 1)();
    trees.add({ leader, pool: "web", slot, incarnation: 1 });
    return leader;
  });
  const names = ["child", "elsewhere", "escaped", "deep"];
  const pidsOf = (slot: number) => names.map((name) => writtenPid(scene.path(`${name}${slot}`)));
  await until(() => [0, 1].every((slot) => pidsOf(slot).every((pid) => pid > 0 && lives(pid))), "all run");
  await until(
    () => [0, 1].every((slot) => readStat(writtenPid(scene.path(`escaped${slot}`)))?.ppid === process.pid),
    "what left is adopted",
  );
  trees.refresh();
  for (const [slot, leader] of leaders.entries()) {
    const members = new Set(trees.membersOf(leader));
    for (const [index, pid] of [leader, ...pidsOf(slot)].entries())
      assert.ok(members.has(pid), `${["leader", ...names][index]} of ${slot}`);
    assert.ok(![leaders[1 - slot], ...pidsOf(1 - slot)].some((pid) => members.has(pid ?? 0)), "none of the other's");
    assert.ok(!members.has(process.pid));
  }
  const [first = 0, second = 0] = leaders;
  trees.remove(first);
  trees.refresh();
  assert.deepEqual(trees.membersOf(first), []);
  assert.equal(trees.membersOf(second).includes(second), true);
  await endAll(scene, leaders);
});

test("a process that outlives its parent stays the worker's, also without its environment", async (context) => {
  becomeSubreaper();
  const scene = new ProcessScene(
    context,
    leaving("(env -i setsid /bin/sh -c 'echo $$ > bare; exec sleep 1000' & while [ ! -e go ]; do sleep 0.01; done) &"),
  );
  const trees = new ProcessTrees(scene.mark);
  const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  trees.add({ leader, pool: "web", slot: 0, incarnation: 1 });
  await until(() => lives(writtenPid(scene.path("bare"))), "it runs");
  const bare = writtenPid(scene.path("bare"));
  trees.refresh();
  assert.ok(trees.membersOf(leader).includes(bare));
  writeFileSync(scene.path("go"), "");
  await until(() => readStat(bare)?.ppid === process.pid, "it is adopted");
  trees.refresh();
  assert.ok(trees.membersOf(leader).includes(bare));
  process.kill(bare, "SIGKILL");
  await endAll(scene, [leader]);
});

test("a helper and its children are not processes of the worker", async (context) => {
  const scene = new ProcessScene(context, leaving());
  const trees = new ProcessTrees(scene.mark);
  const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  trees.add({ leader, pool: "web", slot: 0, incarnation: 1 });
  const argv = ["sh", "-c", `${NOTE} below & wait`];
  const helper = scene.processes.helpers.spawnHelper(
    { pool: 0, slot: 0, incarnation: 1, revision: 1, workerPid: leader, file: "/bin/sh", argv },
    () => {},
  );
  await until(() => lives(writtenPid(scene.path("below"))), "its child runs");
  trees.refresh();
  trees.refresh();
  assert.deepEqual(trees.membersOf(leader), [leader]);
  helper.kill();
  await endAll(scene, [leader]);
});

test("a listing is shared within the accepted age, has parents first, and stays correct after a long pause", async (context) => {
  becomeSubreaper();
  const script = leaving("sh -c 'sh -c \"echo \\$\\$ > deep; exec sleep 1000\" & wait' &");
  const scene = new ProcessScene(context, script);
  let nowMs = 0;
  const trees = new ProcessTrees(scene.mark, () => nowMs);
  trees.refresh();
  const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  trees.add({ leader, pool: "web", slot: 0, incarnation: 1 });
  await until(() => lives(writtenPid(scene.path("deep"))), "all run");
  const deep = writtenPid(scene.path("deep"));
  nowMs = 999;
  trees.refresh(1000);
  assert.deepEqual(trees.membersOf(leader), [leader]);
  nowMs = 1000;
  trees.refresh(1000);
  const members = trees.membersOf(leader);
  assert.deepEqual(members, [leader, readStat(deep)?.ppid, deep]);
  nowMs = 100_000;
  trees.refresh(1000);
  assert.deepEqual(trees.membersOf(leader), members);
  process.kill(deep, "SIGKILL");
  await until(() => !lives(deep) && !lives(members[1] ?? 0), "the shell has reaped it and ended");
  nowMs = 101_000;
  trees.refresh(1000);
  assert.ok(!trees.membersOf(leader).includes(deep));
  await endAll(scene, [leader]);
});

test("a listing that may contain exited processes is kept until a process is created", async (context) => {
  becomeSubreaper();
  const scene = new ProcessScene(context, leaving("while [ ! -e go ]; do sleep 0.01; done", `${NOTE} late &`));
  let nowMs = 0;
  let youngest = "1";
  const trees = new ProcessTrees(
    scene.mark,
    () => nowMs,
    () => youngest,
  );
  const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  trees.add({ leader, pool: "web", slot: 0, incarnation: 1 });
  trees.refresh();
  writeFileSync(scene.path("go"), "");
  await until(() => lives(writtenPid(scene.path("late"))), "the child runs");
  const late = writtenPid(scene.path("late"));
  nowMs = 1000;
  trees.refresh(0, true);
  assert.ok(!trees.membersOf(leader).includes(late), "the youngest process is the same, so nothing was listed");
  youngest = "2";
  nowMs = 2000;
  trees.refresh(0, true);
  assert.ok(trees.membersOf(leader).includes(late));
  await endAll(scene, [leader]);
});

test("a listing examines a limited number of new processes, and later listings examine the others", async (context) => {
  becomeSubreaper();
  const script = "i=0; while [ $i -lt 1100 ]; do sleep 1000 & i=$((i+1)); done; echo $$ > started; exec sleep 1000";
  const scene = new ProcessScene(context, script);
  const trees = new ProcessTrees(scene.mark);
  const leader = scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  trees.add({ leader, pool: "web", slot: 0, incarnation: 1 });
  await until(() => writtenPid(scene.path("started")) > 0, "all run");
  trees.refresh();
  const first = trees.membersOf(leader).length;
  assert.ok(first <= 1001, `${first} processes were examined at once`);
  trees.refresh(0, true);
  trees.refresh(0, true);
  assert.equal(trees.membersOf(leader).length, 1101);
  await endAll(scene, [leader]);
});

test("memory readings match the kernel's, PSS is at most RSS, and an exited process has none", () => {
  const { pageBytes } = readSystemUnits();
  const before = readRssPages(process.pid) ?? 0;
  const block = Buffer.alloc(64 * 2 ** 20, 1);
  const after = readRssPages(process.pid) ?? 0;
  assert.ok((after - before) * pageBytes >= 0.9 * block.length, `${before} and ${after} pages`);
  const pss = readPssBytes(process.pid) ?? 0;
  assert.ok(pss >= block.length && pss <= (readRssPages(process.pid) ?? 0) * pageBytes * 1.05, String(pss));
  assert.equal(readRssPages(2 ** 22 + 1), undefined);
  assert.equal(readPssBytes(2 ** 22 + 1), undefined);
});
