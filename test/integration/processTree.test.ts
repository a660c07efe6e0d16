/**
 * Workers whose leader is not the process that works: a shell that waits, npm, a master with children. All that is shown
 * and decided about a worker is about its whole process tree.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import type { WorkerDetail, WorkerDump } from "../../src/admin/api.ts";
import { ControllerUnderTest, eventually, isAlive, PROCESSBIN, poolOf } from "../support/controller.ts";
import { command, commandOk } from "../support/traffic.ts";
import { readProc } from "../support/watch.ts";

/** A path on which there is no py-spy. */
const PLAIN_PATH = "/usr/bin:/bin";

const SPIN = "while :; do :; done";

/** A pool whose leaders are shells that run `script` and only wait. */
function waiting(name: string, script: string, more: Readonly<Record<string, unknown>> = {}): string {
  return poolOf({ name, exec: "sh", args: ["-c", `${script} & wait`], startup_wait_time: "0s", ...more });
}

async function detailOf(controller: ControllerUnderTest, id: string, withProcesses = false): Promise<WorkerDetail> {
  const { body } = await controller.call("GET", `/v1/status?detail=1&processes=${withProcesses ? 1 : 0}`);
  const { pools } = JSON.parse(body) as Awaited<ReturnType<ControllerUnderTest["status"]>>;
  const detail = pools.flatMap(({ workers }) => workers).find((worker) => worker.id === id)?.detail;
  assert.ok(detail !== undefined, body);
  return detail;
}

async function dumpOf(controller: ControllerUnderTest, id: string): Promise<WorkerDump> {
  const { status, body } = await controller.call("POST", `/v1/workers/${id}/dump`);
  assert.equal(status, 200, body);
  return JSON.parse(body) as WorkerDump;
}

/** The dump of a worker once its first process is one whose command matches. */
function dumpLedBy(controller: ControllerUnderTest, id: string, commandLine: RegExp): Promise<WorkerDump> {
  return eventually(async () => {
    const found = await dumpOf(controller, id);
    return commandLine.test(found.processes[0]?.diagnosis.command ?? "") ? found : undefined;
  }, `a process like ${commandLine} comes first`);
}

test("the API, top and metrics report CPU and memory of a worker's process tree", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: waiting("web", `${PROCESSBIN} --spin`),
    env: { PATH: PLAIN_PATH },
  });
  await controller.ready();
  const leader = await controller.pidOf("web-0");
  const detail = await eventually(async () => {
    const now = await detailOf(controller, "web-0", true);
    return (now.cpu_seconds ?? 0) > 0.5 ? now : undefined;
  }, "the child has used half a second");
  const labels = '{pool="web",worker="web-0"}';
  // The shell itself has done next to nothing: the original's metric keeps its meaning.
  assert.ok((await controller.metric(`monoceros_workerpool_process_cpu_seconds_total${labels}`)) < 0.2);
  assert.ok((await controller.metric(`monoceros_worker_tree_cpu_seconds_total${labels}`)) > 0.5);
  const ofLeader = await controller.metric(`monoceros_workerpool_process_resident_memory_bytes${labels}`);
  const ofTree = await controller.metric(`monoceros_worker_tree_resident_memory_bytes${labels}`);
  assert.ok(ofTree > ofLeader + 20e6, `${ofLeader} and ${ofTree}`);
  assert.ok((detail.rss_bytes ?? 0) > ofLeader + 20e6);
  assert.equal(await controller.metric(`monoceros_worker_tree_processes${labels}`), detail.process_count);
  assert.equal(detail.process_count, 2);
  const [shell, program] = detail.processes ?? [];
  assert.deepEqual([shell?.pid, program?.parent_pid], [leader, leader]);
  assert.match(program?.command ?? "", /processbin --spin$/u);
  assert.ok((program?.cpu_seconds ?? 0) > 0.4 && (program?.rss_bytes ?? 0) > 20e6);

  const rows = JSON.parse((await commandOk(controller, "top", "--processes", "--json")).stdout) as {
    cpu_ratio: number;
    processes: { pid: number; cpu_ratio: number }[];
  }[];
  const [row] = rows;
  assert.ok((row?.cpu_ratio ?? 0) > 0.02, JSON.stringify(row));
  assert.equal(row?.processes[0]?.pid, program?.pid, "the busiest comes first");
  const table = await commandOk(controller, "top", "-p", "--once");
  assert.match(table.stdout, / COMMAND\n {2}web-0 .* 2 processes\n +[RS] +\d+ .*processbin --spin\n +S +\d+ .*sh -c/u);
  assert.doesNotMatch((await commandOk(controller, "top", "--once")).stdout, /COMMAND/u);
});

test("the CPU time of a worker never decreases while its processes start and exit", async () => {
  // Children work and end under a parent that waits; others leave the session and are adopted.
  const work = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";
  const script = `while :; do sh -c "${work}"; (setsid sh -c "${work}" &); done`;
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ name: "web", exec: "sh", args: ["-c", script], startup_wait_time: "0s" }),
  });
  await controller.ready();
  let last = 0;
  const leader = await controller.pidOf("web-0");
  let looks = 0;
  await eventually(async () => {
    const now = (await detailOf(controller, "web-0")).cpu_seconds ?? 0;
    assert.ok(now >= last, `${last} fell to ${now}`);
    // Real time bounds it: a jump by what was counted already would pass two CPUs.
    last = now;
    looks++;
    return now > 2 ? true : undefined;
  }, "two seconds of CPU time");
  assert.ok(looks > 3);
  const stat = readProc(leader, "stat").split(") ")[1]?.split(" ") ?? [];
  const own = (Number(stat[11]) + Number(stat[12])) / 100;
  assert.ok(own < 1, `the leader alone: ${own}`);
});

test("a failed liveness probe names the busy child of an idle leader", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: waiting("web", `${PROCESSBIN} --spin`, {
      probes: { liveness: { exec: ["false"], period: "500ms", initial_delay: "1s", failure_threshold: 1 } },
    }),
    env: { PATH: PLAIN_PATH },
  });
  const { message } = await controller.event(({ message: text }) => /processbin --spin\), child of/u.test(text));
  assert.match(
    message,
    /pid \d+ \(\S*processbin --spin\), child of the leader, busiest of 2 processes: running.*; the leader \(\S*sh -c .*\) is sleeping/u,
  );
});

test("a failed liveness probe names the stuck child of a waiting leader", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: waiting("web", `${PROCESSBIN} --hang`, {
      probes: { liveness: { exec: ["false"], period: "500ms", initial_delay: "2s", failure_threshold: 1 } },
    }),
    env: { PATH: PLAIN_PATH },
  });
  const { message } = await controller.event(({ message: text }) => /none of its 2 processes uses a CPU/u.test(text));
  assert.match(message, /pid \d+ \(\S*processbin --hang\), child of the leader, none of .* CPU: sleeping/u);
});

test("a dump shows every process of a worker, the busiest first, and --pid chooses one", async () => {
  const program = `${PROCESSBIN} --grandchildren 1 --grandchild-spin`;
  await using controller = await ControllerUnderTest.start({
    workers: waiting("web", program),
    env: { PATH: PLAIN_PATH },
  });
  await controller.ready();
  const leader = await controller.pidOf("web-0");
  const found = await dumpLedBy(controller, "web-0", /^sh -c while/u);
  assert.deepEqual([found.pid, found.process_count, found.processes.length], [leader, 3, 3]);
  const [spinner, ...others] = found.processes;
  assert.ok(spinner !== undefined);
  const server = others.find(({ diagnosis }) => diagnosis.command === program);
  const shell = others.find(({ pid }) => pid === leader);
  assert.equal(server?.relation, "child of the leader");
  assert.equal(spinner.relation, `child of pid ${server.pid}`);
  assert.equal(shell?.relation, "the leader");
  assert.match(found.text, /^pid \d+ \(sh -c while .*\), child of pid \d+, busiest of 3 processes: /u);
  assert.ok((spinner.diagnosis.cpu_ratio ?? 0) > 0);

  const { stdout } = await commandOk(controller, "dump", "web-0");
  assert.equal(stdout.match(/^Threads$/gmu)?.length, 3);
  const one = await commandOk(controller, "dump", "web-0", "--pid", String(leader), "--json");
  const { processes } = JSON.parse(one.stdout) as WorkerDump;
  assert.deepEqual(
    processes.map(({ pid }) => pid),
    [leader],
  );
  assert.match(processes[0]?.text ?? "", /^pid \d+ \(\S*sh -c .*\), the leader: /u);
});

test("dump and profile refuse a process of another worker or of none, and name the valid ones", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ name: "web", replicas: 2, exec: "sleep", args: ["1000"], startup_wait_time: "0s" }),
  });
  await controller.ready();
  const [first, second] = [await controller.pidOf("web-0"), await controller.pidOf("web-1")];
  for (const what of ["dump", "profile"])
    for (const pid of [second, controller.pid, 1]) {
      const { code, stderr } = await command(controller, what, "web-0", "--pid", String(pid));
      assert.equal(code, 1);
      assert.match(
        stderr,
        new RegExp(`Cannot ${what} pid ${pid} of worker "web-0": no such process; its processes are ${first}`, "u"),
      );
      const json = await command(controller, what, "web-0", "--pid", String(pid), "--json");
      assert.match(json.stderr, /"code":"PROCESS_UNKNOWN"/u);
    }
});

test("a profile is of the busiest process of a worker unless --pid chooses one", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-tree-"));
  context.after(() => rmSync(directory, { recursive: true }));
  await using controller = await ControllerUnderTest.start({
    workers: waiting("web", `${PROCESSBIN} --spin`),
    env: { PATH: PLAIN_PATH },
  });
  await controller.ready();
  const leader = await controller.pidOf("web-0");
  await dumpLedBy(controller, "web-0", /--spin$/u);
  const child = (await dumpOf(controller, "web-0")).processes.find(({ pid }) => pid !== leader)?.pid ?? 0;
  const take = async (...args: readonly string[]) => {
    const file = join(directory, "it.pb.gz");
    const { stdout } = await commandOk(controller, "profile", "web-0", "-s", "1", "-o", file, "--json", ...args);
    const { pid } = JSON.parse(stdout) as { pid: number };
    const text = gunzipSync(spawnSync("cat", [file]).stdout).toString("latin1");
    return { pid, text };
  };
  const busiest = await take();
  assert.equal(busiest.pid, child);
  assert.match(busiest.text, new RegExp(`process: pid ${child} \\(\\S*processbin --spin\\), child of the leader`, "u"));
  assert.match(busiest.text, /running/u);
  const chosen = await take("--pid", String(leader));
  assert.equal(chosen.pid, leader);
  assert.match(chosen.text, /the leader/u);
});

test("a pool whose leaders are idle is scaled by the CPU of their children", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: waiting("web", `sh -c '${SPIN}'`, {
      replicas: 1,
      autoscale: { min: 1, max: 2, cpu: 0.05, up_after: "2s", down_after: "1h" },
    }),
  });
  const { reason } = (await controller.event(
    (event) => event.kind === "operation_started" && event.what === "scale",
  )) as { reason: string };
  assert.match(reason, /more wanted for 2s: \S+ CPUs a worker/u);
  const second = await controller.event((event) => event.kind === "spawned" && event.slot === 1);
  assert.ok(second.kind === "spawned" && isAlive(second.pid));
});

test("the spread of a pool with idle leaders is computed from their children", async () => {
  const script = `sh -c '[ $MONOCEROS_SLOT = 1 ] || exec sleep 100000; ${SPIN}'`;
  await using controller = await ControllerUnderTest.start({ workers: waiting("web", script, { replicas: 3 }) });
  await controller.ready();
  const [document] = await eventually(async () => {
    const { stdout } = await commandOk(controller, "balance", "web", "--json");
    const found = JSON.parse(stdout) as { cpu_spread: number | null }[];
    return found[0]?.cpu_spread == null ? undefined : found;
  }, "the workers can be compared");
  assert.ok((document?.cpu_spread ?? 0) > 2.5, JSON.stringify(document));
});

test("with npm start a dump shows the server first", {
  skip: spawnSync("npm", ["--version"]).status !== 0,
}, async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-npm-"));
  context.after(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, "package.json"), JSON.stringify({ name: "app", scripts: { start: "node server.js" } }));
  writeFileSync(join(directory, "server.js"), "setTimeout(() => { for (;;); }, 10);");
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ name: "web", exec: "npm", args: ["start"], cwd: directory, startup_wait_time: "0s" }),
  });
  await controller.ready();
  const { text, process_count: count } = await dumpLedBy(controller, "web-0", /^node server\.js$/u);
  assert.ok(count >= 2, text);
  assert.match(text, /^pid \d+ \(node server\.js\), child of .*, busiest of \d processes: running/u);
});
