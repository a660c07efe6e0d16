/** The controller's identity never changes while it starts processes of other users. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import {
  ControllerUnderTest,
  eventually,
  isAlive,
  MONOCEROS,
  PROCESSBIN,
  poolOf,
  untilGone,
} from "../support/controller.ts";
import { freePorts } from "../support/ports.ts";
import { happened, logged, readProc, said, shellPool } from "../support/watch.ts";

const isRoot = process.getuid?.() === 0;
/** No account has this uid, so no other process uses it. */
const OTHER_UID = 61_235;
/** Minimum of rolling restarts during the attack, and of samples of the controller's identity. */
const RESTARTS = 4;
const SAMPLES = 1000;

/** User, groups and supplementary groups of a thread; undefined if it has ended. */
function identityOf(pid: number, thread: string): string | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "latin1");
    return /^Uid:.*\nGid:.*\n/mu.exec(status)?.[0] + (/^Groups:.*\n/mu.exec(status)?.[0] ?? "");
  } catch {
    return undefined;
  }
}

test("a worker of another user cannot kill the controller while processes of that user are started [S2]", {
  skip: !isRoot,
}, async () => {
  // The parent process is the controller.
  const attack = "echo armed; while :; do kill -KILL $PPID; done 2>/dev/null";
  await using controller = await ControllerUnderTest.start({
    workers: [
      shellPool("attacker", attack, { user: OTHER_UID, replicas: 2 }),
      poolOf({
        name: "victim",
        exec: "sleep",
        args: [1000],
        user: OTHER_UID,
        replicas: 20,
        rolling: { max_unavailable: "100%" },
      }),
    ].join("\n"),
  });
  await said(controller, "attacker-0", "armed");
  const identities = new Set<string>();
  let samples = 0;
  let isOver = false;
  const sample = async () => {
    while (!isOver) {
      for (const thread of readdirSync(`/proc/${controller.pid}/task`)) {
        const identity = identityOf(controller.pid, thread);
        if (identity !== undefined) identities.add(identity);
        samples++;
      }
      await turn();
    }
  };
  const sampling = sample();
  let restarts = 0;
  while (restarts < RESTARTS || samples < SAMPLES) {
    restarts++;
    assert.equal((await controller.call("POST", "/v1/pools/victim/restart")).status, 202);
    await happened(controller, "operation_finished", () => true, restarts);
  }
  isOver = true;
  await sampling;
  assert.equal(isAlive(controller.pid), true);
  assert.equal(identities.size, 1, [...identities].join("\n"));
});

test("a tool that runs during the start exits if the controller is killed [C10]", async () => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-tool-"));
  const pidFile = join(directory, "pid");
  const envoy = join(directory, "envoy");
  writeFileSync(envoy, `#!/bin/sh\necho $$ > ${pidFile}.new; mv ${pidFile}.new ${pidFile}; exec sleep 1000\n`);
  chmodSync(envoy, 0o755);
  const config = join(directory, "config.yaml");
  const server = { exec: envoy, listener_port: 1, port_arg: { name: "-p", start_port: 2 } };
  writeFileSync(config, JSON.stringify({ supervisor: { workers: [{ name: "web", exec: "sleep", server }] } }));
  const controller = spawn(MONOCEROS, ["-c", config], { stdio: "ignore" });
  let pid: number | undefined;
  try {
    pid = Number(await eventually(() => (existsSync(pidFile) ? readFileSync(pidFile, "utf8") : undefined), "tool"));
    assert.ok(isAlive(pid));
    controller.kill("SIGKILL");
    await untilGone(pid);
  } finally {
    controller.kill("SIGKILL");
    if (pid !== undefined && isAlive(pid)) process.kill(pid, "SIGKILL");
    rmSync(directory, { recursive: true });
  }
});

/** Forbids the execution of files in memory. */
const WITHOUT_MEMORY = "echo 2 > /proc/sys/vm/memfd_noexec";
const namespace = (prepare: string) => [
  ...["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child=KILL"],
  ...["sh", "-c", `${prepare} && exec "$@"`, "sh"],
];
/** Stops the controller by its API, because the wrapper does not forward signals. */
async function shutDown(controller: ControllerUnderTest): Promise<void> {
  assert.equal((await controller.call("POST", "/v1/shutdown")).status, 202);
  await controller.ended;
}

const canForbid =
  isRoot && spawnSync("unshare", [...namespace(WITHOUT_MEMORY), "true"].slice(1), { stdio: "ignore" }).status === 0;

test("if files in memory cannot be executed, the spawn shim is executed from runtime_dir", {
  skip: !canForbid,
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-runtime-"));
  try {
    await using controller = await ControllerUnderTest.start({
      wrapper: namespace(WITHOUT_MEMORY),
      supervisor: `  runtime_dir: ${directory}`,
      workers: shellPool("web", "echo $(id -u) $(umask); exec sleep 1000", { user: OTHER_UID, umask: "027" }),
    });
    await said(controller, "web-0", `${OTHER_UID} 0027`);
    const [own = ""] = readdirSync(directory);
    assert.ok(existsSync(join(directory, own, "spawn")));
    assert.deepEqual(
      controller.stderr.filter((line) => line.includes("shim")),
      [],
    );
    await shutDown(controller);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("if the spawn shim cannot be executed at all, pools that need it are rejected with exit code 78, and others start", {
  skip: !canForbid,
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-runtime-"));
  const wrapper = namespace(`${WITHOUT_MEMORY} && mount -t tmpfs -o noexec none ${directory}`);
  const supervisor = `  runtime_dir: ${directory}`;
  try {
    const { ending, stderr } = await ControllerUnderTest.run({
      wrapper,
      supervisor,
      workers: poolOf({ name: "web", exec: "sleep", args: [1000], user: OTHER_UID }),
    });
    assert.equal(ending.code, 78, stderr.join("\n"));
    assert.match(
      stderr.join("\n"),
      new RegExp(
        `\\.user: Cannot start pool "web": the spawn shim, needed for user, cannot be executed from memory \\(EACCES\\) or from ${directory} \\(EACCES\\)`,
        "u",
      ),
    );
    await using controller = await ControllerUnderTest.start({
      wrapper,
      supervisor,
      workers: shellPool("plain", "echo up; exec sleep 1000"),
    });
    await said(controller, "plain-0", "up");
    await logged(controller, "the spawn shim cannot be executed");
    await shutDown(controller);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("workers have an oom_score_adj 500 above the controller's, and Envoy has the controller's [K1]", async () => {
  const port = await freePorts(3);
  await using controller = await ControllerUnderTest.start({
    workers: [
      poolOf({
        name: "plain",
        exec: PROCESSBIN,
        server: { listener_port: port, port_arg: { name: "--port", start_port: port + 1 } },
      }),
      poolOf({ name: "more", exec: "sleep", args: [1000], oom_score_adj: "+7" }),
    ].join("\n"),
  });
  await controller.ready();
  const scoreOf = (pid: number) => Number(readProc(pid, "oom_score_adj"));
  const own = scoreOf(controller.pid);
  assert.equal(scoreOf(await controller.pidOf("plain-0")), Math.min(1000, own + 500));
  assert.equal(scoreOf(await controller.pidOf("plain-proxy-0")), own);
  assert.equal(scoreOf(await controller.pidOf("more-0")), Math.min(1000, own + 7));
});
