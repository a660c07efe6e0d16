import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { listDescendants, type ProcessStat, readStat } from "../os/procfs.ts";
import { orderProcesses, relationOf, type SurveyedProcess, surveyTree } from "./treeSurvey.ts";

type Sketch = Partial<ProcessStat> & Partial<Omit<SurveyedProcess, "stat">>;

function surveyed({ stateBefore, busyTicks = 0, hasChildren = false, sleepsIn, ...stat }: Sketch): SurveyedProcess {
  const whole: ProcessStat = {
    pid: 1,
    command: "x",
    state: "S",
    ppid: 0,
    processGroup: 1,
    session: 1,
    cpuTicks: 0,
    reapedTicks: 0,
    startTicks: 1,
    virtualBytes: 0,
    rssPages: 1,
    ...stat,
  };
  return { stat: whole, stateBefore: stateBefore ?? whole.state, busyTicks, hasChildren, sleepsIn };
}

function order(...sketches: readonly Sketch[]): number[] {
  return orderProcesses(sketches.map(surveyed)).processes.map(({ stat }) => stat.pid);
}

test("the process that uses the most CPU comes first, whatever the others wait for", () => {
  assert.deepEqual(
    order(
      { pid: 1, hasChildren: true, sleepsIn: "futex", cpuTicks: 9000 },
      { pid: 2, busyTicks: 3, cpuTicks: 50 },
      { pid: 3, busyTicks: 9, state: "R", cpuTicks: 10 },
      { pid: 4, state: "D" },
    ),
    [3, 2, 4, 1],
  );
});

test("if no process uses a CPU, stuck processes come before idle ones, and parents come last", () => {
  assert.deepEqual(
    order(
      { pid: 1, hasChildren: true, sleepsIn: "wait4", cpuTicks: 900 },
      { pid: 2, hasChildren: true, sleepsIn: "futex" },
      { pid: 3, sleepsIn: "epoll_wait", cpuTicks: 700 },
      { pid: 4, sleepsIn: "futex", cpuTicks: 1 },
      { pid: 5, sleepsIn: undefined, cpuTicks: 3 },
      { pid: 6, state: "T" },
      { pid: 7, state: "D" },
      { pid: 8, state: "R", busyTicks: 1 },
    ),
    [7, 6, 8, 5, 4, 3, 2, 1],
  );
});

test("one tick of CPU time, or one reading of uninterruptible sleep, does not count", () => {
  assert.deepEqual(
    order(
      { pid: 1, busyTicks: 1, sleepsIn: "epoll_wait" },
      { pid: 2, state: "D", stateBefore: "S" },
      { pid: 3, state: "t" },
    ),
    [3, 2, 1],
  );
  assert.equal(orderProcesses([surveyed({ busyTicks: 1 })]).isBusy, false);
  assert.equal(orderProcesses([surveyed({ busyTicks: 2 })]).isBusy, true);
});

test("zombies are omitted unless there are no other processes", () => {
  assert.deepEqual(order({ pid: 1, state: "Z", cpuTicks: 500 }, { pid: 2 }), [2]);
  assert.deepEqual(order({ pid: 1, state: "Z" }), [1]);
  assert.deepEqual(order(), []);
});

test("the relation of a process to its worker is named", () => {
  const members = new Set([10, 11, 12]);
  const relation = (pid: number, ppid: number) => relationOf(surveyed({ pid, ppid }).stat, 10, members);
  assert.equal(relation(10, 1), "the leader");
  assert.equal(relation(11, 10), "child of the leader");
  assert.equal(relation(12, 11), "child of pid 11");
  assert.equal(relation(12, 1), "its parent has exited");
});

function shell(context: TestContext, script: string): ChildProcess & { readonly pid: number } {
  // Its own group, so that all of it can be ended.
  const child = spawn("/bin/sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"], detached: true });
  const { pid } = child;
  assert.ok(pid !== undefined);
  context.after(() => process.kill(-pid, "SIGKILL"));
  return Object.assign(child, { pid });
}

async function written(child: ChildProcess): Promise<number> {
  assert.ok(child.stdout !== null);
  return Number(String((await once(child.stdout, "data"))[0]));
}

async function inState(context: TestContext, pid: number, state: string): Promise<void> {
  while (readStat(pid)?.state !== state && !context.signal.aborted) await turn();
}

test("a busy child of a waiting shell is found in a real tree", async (context) => {
  const leader = shell(context, "sleep 1000 & sh -c 'while :; do :; done' & echo $!; wait");
  const spinner = await written(leader);
  await inState(context, spinner, "R");
  const survey = await surveyTree([leader.pid, ...listDescendants(leader.pid)], 300);
  assert.equal(survey.processes.length, 3);
  assert.equal(survey.processes[0]?.stat.pid, spinner);
  assert.equal(survey.isBusy, true);
  assert.equal(survey.processes.at(-1)?.stat.pid, leader.pid);
});

test("a stopped child of an idle leader is found in a real tree", async (context) => {
  const leader = shell(context, "sleep 1000 & sleep 1000 & echo $!; wait");
  const stopped = await written(leader);
  process.kill(stopped, "SIGSTOP");
  await inState(context, stopped, "T");
  await inState(context, leader.pid, "S");
  const survey = await surveyTree([leader.pid, ...listDescendants(leader.pid)]);
  assert.equal(survey.processes[0]?.stat.pid, stopped);
  assert.equal(survey.isBusy, false);
  assert.equal(survey.processes.at(-1)?.stat.pid, leader.pid);
});

test("processes that have exited are not part of a survey", async () => {
  assert.deepEqual((await surveyTree([2 ** 22 + 1])).processes, []);
  assert.deepEqual((await surveyTree([])).processes, []);
});
