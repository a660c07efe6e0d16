/** Real processes through the spawn shim. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { lives, until } from "../../../test/support/processScene.ts";
import { getLimit, openPipe, PreparedStrings, RLIMITS, reapPid, SystemCallError } from "../os/linux.ts";
import { type SpawnRequest, startProcess } from "./spawn.ts";
import { type LimitSetting, type ProcessSettings, ROOM_FOR_PID } from "./spawnShim.ts";

const PATH = new PreparedStrings(["PATH=/usr/bin:/bin"]);
const isRoot = process.getuid?.() === 0;
/** No account has this number, so nothing else runs as it. */
const STRANGER = 61_234;

function request(script: string, settings: ProcessSettings, changes: Partial<SpawnRequest> = {}): SpawnRequest {
  return {
    file: "/bin/sh",
    argv: ["sh", "-c", script],
    sharedEnv: PATH,
    env: [],
    cwd: undefined,
    stdinFd: undefined,
    stdoutFd: undefined,
    stderrFd: undefined,
    settings,
    ...changes,
  };
}

async function reap(pid: number): Promise<unknown> {
  for (;;) {
    const status = reapPid(pid);
    if (status !== undefined) return status;
    await turn();
  }
}

/** Runs a shell script and returns what it wrote; `$$` is the process that was started. */
async function outputOf(
  script: string,
  settings: ProcessSettings,
  changes: Partial<SpawnRequest> = {},
): Promise<string> {
  const { readFd, writeFd } = openPipe();
  try {
    const pid = startProcess(request(script, settings, { stdoutFd: writeFd, ...changes }));
    await reap(pid);
  } finally {
    closeSync(writeFd);
  }
  const buffer = Buffer.alloc(65_536);
  const text = buffer.toString("utf8", 0, readSync(readFd, buffer));
  closeSync(readFd);
  return text.trim();
}

function identityOf(pid: number | "self", thread: string): string {
  return /^Uid:.*\nGid:.*\n/mu.exec(readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8"))?.[0] ?? "";
}

test("umask, limits and nice apply to the child alone", async () => {
  const umask = process.umask();
  const nofile = getLimit(0, RLIMITS["nofile"] ?? 7);
  const settings = { umask: 0o027, nice: 3, rlimits: new Map([["nofile", { soft: 123, hard: 456 }]]) };
  const niceness = "cut -d' ' -f19 /proc/$$/stat";
  const before = await outputOf(niceness, {});
  assert.equal(
    await outputOf(`umask; ulimit -Sn; ulimit -Hn; ${niceness}`, settings),
    `0027\n123\n456\n${Number(before) + 3}`,
  );
  assert.equal(process.umask(), umask);
  assert.deepEqual(getLimit(0, RLIMITS["nofile"] ?? 7), nofile);
});

test("a soft limit alone keeps the hard limit, and a stack limit survives the exec", async () => {
  const { hard } = getLimit(0, RLIMITS["nofile"] ?? 7);
  const soft = (value: number) => ({ soft: value, hard: undefined });
  const rlimits = new Map<string, LimitSetting>([
    ["nofile", soft(200)],
    ["stack", { soft: 1 << 20, hard: 1 << 21 }],
  ]);
  assert.equal(
    await outputOf("ulimit -Sn; ulimit -Hn; ulimit -Ss; ulimit -Hs", { rlimits }),
    `200\n${hard}\n1024\n2048`,
  );
});

test("oom_score_adj is absolute, or relative to the inherited one and at most 1000", async () => {
  const own = Number(readFileSync("/proc/self/oom_score_adj", "utf8"));
  const score = (value: number, isRelative: boolean) =>
    outputOf("cat /proc/$$/oom_score_adj", { oomScoreAdj: { value, isRelative } });
  assert.equal(await score(777, false), "777");
  assert.equal(await score(100, true), String(Math.min(1000, own + 100)));
  assert.equal(await score(1000, true), "1000");
  assert.equal(Number(readFileSync("/proc/self/oom_score_adj", "utf8")), own);
});

test("another identity applies to the child alone and cannot be reverted", { skip: !isRoot }, async () => {
  const threads = readdirSync("/proc/self/task");
  const before = threads.map((thread) => identityOf("self", thread));
  const status = await outputOf("cat /proc/$$/status", {
    credentials: { uid: STRANGER, gid: 65534, groups: [65534, 5] },
  });
  assert.match(status, new RegExp(`Uid:${`\t${STRANGER}`.repeat(4)}\n`, "u"));
  assert.match(status, /Gid:\t65534\t65534\t65534\t65534/u);
  assert.match(status, /Groups:\t5 65534 ?\n/u);
  assert.match(status, /CapPrm:\t0+\n/u);
  assert.match(status, /CapEff:\t0+\n/u);
  assert.deepEqual(
    threads.map((thread) => identityOf("self", thread)),
    before,
  );
});

test("a process can start even if its user has reached the process limit, which then applies to it", {
  skip: !isRoot,
}, async () => {
  const settings = {
    credentials: { uid: STRANGER, gid: STRANGER, groups: [] },
    rlimits: new Map([["nproc", { soft: 1, hard: 1 }]]),
  };
  const started = [1, 2, 3].map(() => startProcess(request("exec sleep 1000", settings)));
  for (const pid of started) {
    process.kill(pid, "SIGKILL");
    await reap(pid);
  }
});

test("LISTEN_PID is the pid of the process, and unusual variables are passed unchanged", async () => {
  const strange = ["BASH_FUNC_x%%=() {  echo hello\n}", "a.b=dotted", "=odd", "1=one", "LINES=two\nlines", "EMPTY="];
  const { readFd, writeFd } = openPipe();
  const pid = startProcess({
    ...request("", { hasListenPid: true }, { stdoutFd: writeFd, env: [...strange, `LISTEN_PID=${ROOM_FOR_PID}`] }),
    file: "/bin/cat",
    argv: ["cat", "/proc/self/environ"],
  });
  closeSync(writeFd);
  await reap(pid);
  const buffer = Buffer.alloc(65_536);
  const environment = buffer.toString("utf8", 0, readSync(readFd, buffer)).split("\0").slice(0, -1);
  closeSync(readFd);
  assert.deepEqual(environment, [...strange, `LISTEN_PID=${pid}`, "PATH=/usr/bin:/bin"]);
});

test("arguments are passed unchanged, and a process inherits only 0 to 2 and the given descriptors", async () => {
  const pipe = openPipe();
  const argv = [
    "sh",
    "-c",
    'for n in $(seq 0 99); do [ ! -e /proc/$$/fd/$n ] || echo $n; done; printf %s "$1$2"',
    "sh",
    "",
    "é \"'\n;u0;",
  ];
  const text = await outputOf("", { umask: 0 }, { argv, inheritedFds: [pipe.readFd, pipe.writeFd] });
  assert.equal(text, "0\n1\n2\n3\n4\né \"'\n;u0;");
  closeSync(pipe.readFd);
  closeSync(pipe.writeFd);
});

test("a failed exec throws an error with the name of errno and leaves no process and no descriptor", async () => {
  // The shim's own descriptor stays.
  await outputOf("true", { umask: 0 });
  const before = readdirSync("/proc/self/fd").length;
  for (const [file, code] of [
    ["/nonexistent", "ENOENT"],
    ["/etc/passwd", "EACCES"],
  ] as const)
    assert.throws(
      () => startProcess(request("", { umask: 0o022 }, { file })),
      (error: unknown) =>
        error instanceof SystemCallError && error.code === code && error.message.startsWith(`exec of ${file}`),
    );
  assert.equal(readdirSync("/proc/self/fd").length, before);
  assert.throws(() => reapPid(-1), /ECHILD/u);
});

test("directory and program are looked up as the user of the process", { skip: !isRoot }, () => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-spawn-"));
  chmodSync(directory, 0o755);
  try {
    const secret = join(directory, "secret");
    mkdirSync(secret, { mode: 0o700 });
    const program = join(secret, "program");
    writeFileSync(program, "#!/bin/sh\n", { mode: 0o755 });
    const settings = { credentials: { uid: STRANGER, gid: STRANGER, groups: [] } };
    const refused = (what: RegExp) => (error: unknown) =>
      error instanceof SystemCallError && error.code === "EACCES" && what.test(error.message);
    assert.throws(() => startProcess(request("", settings, { cwd: secret })), refused(/^chdir/u));
    assert.throws(() => startProcess(request("", settings, { file: program })), refused(/^exec of /u));
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a refused setting is reported, and the program starts without it", async () => {
  const refusals: string[] = [];
  const settings = { rlimits: new Map([["nofile", { soft: "unlimited", hard: "unlimited" } as const]]), umask: 0o077 };
  const onRefused = (what: string, error: SystemCallError) => refusals.push(`${what} ${error.code}`);
  assert.equal(await outputOf("umask", settings, { onRefused }), "0077");
  assert.deepEqual(refusals, ["rlimit nofile EPERM"]);
});

/** Starts a process that ends with it, and is killed before anything else can know of that process. */
const CONTROLLER = `
  import { startProcess } from "./src/runtime/process/spawn.ts";
  import { PreparedStrings } from "./src/runtime/os/linux.ts";
  import { writeSync } from "node:fs";
  const pid = startProcess({
    file: "/bin/sleep", argv: ["sleep", "1000"], sharedEnv: new PreparedStrings([]), env: [], settings: JSON.parse(process.argv[1]),
  });
  writeSync(1, String(pid));
  process.kill(process.pid, "SIGKILL");
`;

for (const [who, credentials] of [
  ["the controller's own user", undefined],
  ["another user", { uid: STRANGER, gid: STRANGER, groups: [] }],
] as const)
  test(`a process of ${who} with a parent-death signal exits with the controller`, {
    skip: credentials && !isRoot,
  }, async () => {
    const settings = JSON.stringify({ diesWithController: true, credentials });
    const flags = ["--no-warnings", "--input-type=module", "-e", CONTROLLER, settings];
    const controller = spawn(process.execPath, flags, { stdio: ["ignore", "pipe", "inherit"] });
    const [chunk] = (await once(controller.stdout, "data")) as [Buffer];
    const pid = Number(String(chunk));
    assert.ok(pid > 1);
    await until(() => !lives(pid), "the process has ended");
  });

test("a process that suspends each new process of its user does not block the controller", {
  skip: !isRoot,
}, async () => {
  const credentials = { uid: STRANGER, gid: STRANGER, groups: [] };
  const attacker = startProcess(request("while :; do kill -STOP -1; done 2>/dev/null", { credentials }));
  const pids: number[] = [];
  try {
    const deadline = performance.now() + 3000;
    while (performance.now() < deadline) {
      const startedAt = performance.now();
      pids.push(startProcess(request("exec sleep 1000", { credentials })));
      assert.ok(performance.now() - startedAt < 2000, "the start took too long");
    }
  } finally {
    for (const pid of [attacker, ...pids]) process.kill(pid, "SIGKILL");
    for (const pid of [attacker, ...pids]) await reap(pid);
  }
});
