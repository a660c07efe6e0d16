/** The environment in which workers are started, and the errors if they cannot be started. */
import assert from "node:assert/strict";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest, PROCESSBIN, poolOf } from "../support/controller.ts";
import { happened, logged, readProc, said, saidBy, shellPool } from "../support/watch.ts";

const isRoot = process.getuid?.() === 0;

function scratchDirectory(): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "monoceros-launch-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** A field of /proc/<pid>/status. */
function statusField(pid: number, name: string): string {
  return new RegExp(`^${name}:\\s*(.*)$`, "mu").exec(readProc(pid, "status"))?.[1] ?? "";
}

/** Soft and hard value of a line in /proc/<pid>/limits. */
function limitOf(pid: number, name: string): string[] {
  return new RegExp(`^${name}\\s+(\\S+)\\s+(\\S+)`, "mu").exec(readProc(pid, "limits"))?.slice(1, 3) ?? [];
}

test("a start reports all pools that cannot be launched, starts no worker and exits with 78 [L2]", async () => {
  using scratch = scratchDirectory();
  const marker = join(scratch.path, "started");
  const plain = join(scratch.path, "plain.sh");
  writeFileSync(plain, "#!/bin/sh\n");
  chmodSync(plain, 0o644);
  const { ending, stderr, stdout } = await ControllerUnderTest.run({
    workers: [
      shellPool("good", `touch ${marker}`),
      poolOf({ name: "gone", exec: join(scratch.path, "nowhere") }),
      poolOf({ name: "unknown", exec: "no-such-program-on-path" }),
      poolOf({ name: "plain", exec: plain }),
      poolOf({ name: "folder", exec: scratch.path }),
      poolOf({ name: "homeless", exec: "/bin/sh", cwd: join(scratch.path, "no-directory") }),
      poolOf({ name: "blank", exec: "/bin/sh", env_file: join(scratch.path, "no-file") }),
    ].join("\n"),
  });
  assert.deepEqual(ending, { code: 78, signal: null });
  const text = stderr.join("\n");
  for (const pool of ["gone", "unknown", "plain", "folder", "homeless", "blank"])
    assert.match(text, new RegExp(`config\\.yaml:\\d+:\\d+: .*pool "${pool}"`, "u"));
  assert.doesNotMatch(text, /pool "good"/u);
  assert.match(text, /does not exist/u);
  assert.match(text, /is not on PATH/u);
  assert.match(text, /may not be executed/u);
  assert.doesNotMatch(text, /\bat .*\.ts:\d|node:internal/u, "no stack trace");
  assert.deepEqual(stdout, []);
  assert.equal(existsSync(marker), false);
});

test("args, env, env_file, cwd and umask apply; env overrides env_file, and both override the inherited environment [L7]", async () => {
  using scratch = scratchDirectory();
  const cwd = join(scratch.path, "here");
  mkdirSync(cwd);
  const envFile = join(scratch.path, "env");
  writeFileSync(envFile, '# comment\nexport FROM_FILE="a b"\nBOTH=file\nOVER=file\n');
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      replicas: 2,
      exec: PROCESSBIN,
      args: ["--print-env", "--log-size", 150, "--socket", `${scratch.path}/{{.Pool}}-{{.Slot}}.sock`],
      env: { BOTH: "env", ME: "{{.WorkerID}}" },
      env_file: envFile,
      cwd,
      umask: "027",
    }),
    env: {
      KEPT: "kept",
      OVER: "controller",
      NODE_OPTIONS: "--max-old-space-size=77",
      NOTIFY_SOCKET: join(scratch.path, "no-manager"),
    },
  });
  for (const slot of [0, 1]) {
    const { surroundings } = (await said(controller, `web-${slot}`, "surroundings")) as {
      surroundings: { env: Record<string, string>; argv: string[]; cwd: string; umask: number };
    };
    const { env, argv } = surroundings;
    assert.deepEqual(argv.slice(-5), [
      "--print-env",
      "--log-size",
      "150",
      "--socket",
      `${scratch.path}/web-${slot}.sock`,
    ]);
    assert.equal(surroundings.cwd, cwd);
    assert.equal(surroundings.umask, 0o027);
    assert.deepEqual(
      [env["FROM_FILE"], env["BOTH"], env["OVER"], env["KEPT"], env["ME"], env["NODE_OPTIONS"]],
      ["a b", "env", "file", "kept", `web-${slot}`, "--max-old-space-size=77"],
    );
    assert.equal(env["NOTIFY_SOCKET"], undefined, "a worker must not notify the controller's service manager");
  }
});

test("rlimits, nice and oom_score_adj apply to workers and not to the controller [L7]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      exec: "sleep",
      args: [1000],
      nice: 5,
      oom_score_adj: 500,
      rlimits: {
        nofile: { soft: 300, hard: 400 },
        core: 0,
        stack: { soft: 1048576, hard: 2097152 },
        fsize: "unlimited",
      },
    }),
  });
  await controller.ready();
  const pid = await controller.pidOf("web-0");
  assert.deepEqual(limitOf(pid, "Max open files"), ["300", "400"]);
  assert.equal(limitOf(pid, "Max core file size")[0], "0");
  assert.deepEqual(limitOf(pid, "Max stack size"), ["1048576", "2097152"]);
  assert.equal(limitOf(pid, "Max file size")[0], "unlimited");
  assert.equal(readProc(pid, "oom_score_adj").trim(), "500");
  const nice = (of: number) =>
    Number(
      readProc(of, "stat")
        .replace(/^.*\) /u, "")
        .split(" ")[16],
    );
  assert.equal(nice(pid), nice(controller.pid) + 5);
  assert.notEqual(limitOf(controller.pid, "Max open files")[1], "400");
  assert.notEqual(readProc(controller.pid, "oom_score_adj").trim(), "500");
});

test("workers start with no signal blocked or ignored and only with descriptors 0, 1 and 2 [L7]", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "echo up; exec sleep 1000", { replicas: 2 }),
  });
  await said(controller, "web-1", "up");
  const pid = await controller.pidOf("web-1");
  for (const mask of ["SigBlk", "SigIgn"]) assert.equal(BigInt(`0x${statusField(pid, mask)}`), 0n, mask);
  assert.equal(readlinkSync(`/proc/${pid}/fd/0`), "/dev/null");
  for (const fd of [1, 2]) assert.match(readlinkSync(`/proc/${pid}/fd/${fd}`), /^pipe:/u);
  // Not by ls, which needs a descriptor of its own.
  for (let fd = 3; fd < 100; fd++) assert.equal(existsSync(`/proc/${pid}/fd/${fd}`), false, `descriptor ${fd}`);
});

test("user and group set the ids, the supplementary groups and the user's variables [L7]", {
  skip: !isRoot,
}, async () => {
  await using controller = await ControllerUnderTest.start({
    workers: [
      poolOf({
        name: "both",
        exec: "/bin/sh",
        args: ["-c", "echo $USER; exec sleep 1000"],
        user: "nobody",
        group: "daemon",
      }),
      poolOf({ name: "number", exec: "sleep", args: [1000], user: 12345, group: 54321 }),
    ].join("\n"),
  });
  await controller.ready();
  await said(controller, "both-0", "nobody");
  const uidAndGid = (pid: number) => [statusField(pid, "Uid"), statusField(pid, "Gid")].map((ids) => ids.split("\t"));
  assert.deepEqual(uidAndGid(await controller.pidOf("both-0")), [Array(4).fill("65534"), Array(4).fill("1")]);
  const pid = await controller.pidOf("number-0");
  assert.deepEqual(uidAndGid(pid), [Array(4).fill("12345"), Array(4).fill("54321")]);
  assert.equal(statusField(pid, "Groups").trim(), "54321", "root's groups are not inherited");
  assert.match(statusField(controller.pid, "Uid"), /^0\t/u);
});

test("a worker of another user can open /dev/stdout and /dev/stderr [L7]", { skip: !isRoot }, async () => {
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "echo out > /dev/stdout; echo err > /dev/stderr; echo done; exec sleep 1000", {
      user: "nobody",
    }),
  });
  await said(controller, "web-0", "done");
  assert.equal(saidBy(controller, "web-0", "out").length, 1, controller.stderr.join("\n"));
  await logged(controller, '"worker_error_msg":"err"');
});

test("an unknown user is a configuration error [L2]", { skip: !isRoot }, async () => {
  const { ending, stderr } = await ControllerUnderTest.run({
    workers: poolOf({ name: "web", exec: "sleep", args: [1000], user: "nobody-has-this-name" }),
  });
  assert.equal(ending.code, 78);
  assert.match(stderr.join("\n"), /user "nobody-has-this-name" is not in \/etc\/passwd/u);
});

test("a script whose interpreter is missing is a configuration error that names the interpreter", async () => {
  using directory = scratchDirectory();
  const script = join(directory.path, "server");
  writeFileSync(script, "#!/opt/python3.0/bin/python\n");
  chmodSync(script, 0o755);
  const { ending, stderr } = await ControllerUnderTest.run({ workers: poolOf({ name: "web", exec: script }) });
  assert.equal(ending.code, 78);
  assert.match(
    stderr.join("\n"),
    /needs the interpreter "\/opt\/python3\.0\/bin\/python" \(its #! line\), which does not exist/u,
  );
});

test("if an interpreter is missing at a restart, the spawn_failed event names it", async () => {
  using directory = scratchDirectory();
  const [interpreter, script] = [join(directory.path, "sh"), join(directory.path, "server")];
  copyFileSync(realpathSync("/bin/sh"), interpreter);
  writeFileSync(script, `#!${interpreter}\nwhile :; do sleep 1; done\n`);
  chmodSync(script, 0o755);
  await using controller = await ControllerUnderTest.start({ workers: poolOf({ name: "web", exec: script }) });
  await controller.ready();
  rmSync(interpreter);
  process.kill(await controller.pidOf("web-0"), "SIGKILL");
  const { reason } = await happened(controller, "spawn_failed");
  assert.ok(reason.includes(`needs the interpreter "${interpreter}" (its #! line), which does not exist`), reason);
});
