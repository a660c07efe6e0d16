/**
 * The expectations of the tests of tini and dumb-init for PID 1, translated from one child to pools of workers. Expectations
 * that other tests cover are not repeated here:
 *
 * | expectation | test |
 * |---|---|
 * | orphans are reaped, whatever their exit code | fault/processOne |
 * | the stop signal reaches the whole process group | integration/stop |
 * | processes that a worker leaves behind are stopped after it | integration/stop |
 * | signal masks, dispositions and descriptors are not inherited | integration/runtimeTraps, integration/launch |
 * | a command that cannot be executed | integration/launch |
 * | usage, version, unknown flags | e2e/cli |
 * | Ctrl-C on a terminal | integration/shutdown |
 *
 * docs/differences.md lists intentional differences.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readlinkSync } from "node:fs";
import { constants } from "node:os";
import { describe, test } from "node:test";
import {
  ControllerUnderTest,
  eventually,
  isAlive,
  listDescendants,
  poolOf,
  type StartOptions,
  untilGone,
} from "../support/controller.ts";
import { NAMESPACE } from "../support/namespace.ts";
import { eventsOf, happened, logged, readProc, said, saidBy, shellPool } from "../support/watch.ts";

const STAY = "exec sleep 100000";

const SITUATIONS: readonly {
  readonly name: string;
  readonly skip: boolean;
  readonly options: Partial<StartOptions>;
}[] = [
  { name: "as PID 1", skip: NAMESPACE === undefined, options: { wrapper: NAMESPACE ?? [] } },
  { name: "as a subreaper", skip: false, options: {} },
];

/** Whether a command can enter the namespace of a controller that runs as PID 1. */
const CAN_ENTER =
  NAMESPACE !== undefined && process.getuid?.() === 0 && spawnSync("nsenter", ["--version"]).status === 0;

/** The controller's pid in this process's namespace, also if the controller runs in another one. */
function ownPid(controller: ControllerUnderTest): number {
  const found = [controller.pid, ...listDescendants(controller.pid)].find((pid) =>
    readProc(pid, "cmdline").startsWith(`${process.cwd()}/dist/monoceros\0`),
  );
  assert.ok(found !== undefined);
  return found;
}

/** Whether the controller answers and is not shutting down. */
async function isUp(controller: ControllerUnderTest): Promise<boolean> {
  return ["booting", "running"].includes((await controller.status()).phase);
}

/** Descendants that have exited and have not been reaped. */
function zombiesOf(controller: ControllerUnderTest): number[] {
  return listDescendants(controller.pid).filter((pid) => readProc(pid, "stat").includes(") Z "));
}

/** Prints the number of each received signal, and exits at SIGTERM. */
const PRINT_SIGNALS = `
import os, signal, sys
def show(number, _):
    os.write(1, b"signal %d\\n" % number)
    if number == signal.SIGTERM: os._exit(0)
for number in set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}: signal.signal(number, show)
os.write(1, b"up\\n")
while True: signal.pause()
`;

/** Creates N orphans, a third of them in sessions of their own, which run until they are released together. */
const MASS_ORPHANS = `
import os, sys, time
r, w = os.pipe()
for i in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        if os.fork(): os._exit(0)
        if i % 3 == 0: os.setsid()
        os.close(w)
        os.read(r, 1)
        os._exit(i % 256)
    os.waitpid(pid, 0)
if sys.argv[2] == "release": os.close(w)
os.write(1, b"abandoned\\n")
while True: time.sleep(1000)
`;

describe("exit status", () => {
  test("exit codes and terminating signals of workers are reported unchanged", async () => {
    const codes = [0, 1, 2, 32, 64, 126, 127, 128, 143, 254, 255];
    const signals = ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGABRT", "SIGSEGV", "SIGUSR1"] as const;
    const once = { max_restarts: 0, restart: { on_exhausted: "give-up-worker" }, rlimits: { core: 0 } };
    const kill = (number: number) => `ulimit -c 0; kill -${number} $$; sleep 1000`;
    await using controller = await ControllerUnderTest.start({
      workers: [
        shellPool("stays", STAY),
        ...codes.map((code) => shellPool(`code${code}`, `exit ${code}`, once)),
        ...signals.map((signal) => shellPool(signal, kill(constants.signals[signal]), once)),
        shellPool("realtime", kill(40), once),
      ].join("\n"),
    });
    const statusOf = async (pool: string) =>
      (await happened(controller, "exited", (event) => event.pool === pool)).status;
    for (const code of codes) assert.deepEqual(await statusOf(`code${code}`), { kind: "code", code });
    for (const signal of signals) assert.deepEqual(await statusOf(signal), { kind: "signal", signal });
    assert.deepEqual(await statusOf("realtime"), { kind: "signal", signal: "signal 40" });
    assert.equal((await controller.worker("SIGSEGV-0")).last_exit, "SIGSEGV");
    assert.equal((await controller.worker("code143-0")).last_exit, "143");
    // The controller's exit code describes the controller, never a worker.
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  });
});

describe("reaping", () => {
  test("1,000 orphans that exit at once are reaped", async () => {
    await using controller = await ControllerUnderTest.start({
      wrapper: NAMESPACE ?? [],
      workers: [
        poolOf({ name: "web", exec: "python3", args: ["-c", MASS_ORPHANS, 1000, "release"] }),
        shellPool("calm", STAY),
      ].join("\n"),
    });
    await said(controller, "web-0", "abandoned");
    await eventually(
      async () => (await controller.metric("monoceros_controller_orphans_reaped_total")) >= 1000 || undefined,
      "all orphans are reaped",
    );
    await eventually(() => zombiesOf(controller).length === 0 || undefined, "there is no zombie");
    assert.deepEqual(eventsOf(controller, "exited"), []);
    assert.equal((await controller.call("POST", "/v1/shutdown")).status, 202);
    assert.equal((await controller.ended).code, 0);
  });

  test("1,000 running orphans are stopped with their worker", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({
        name: "web",
        exec: "python3",
        args: ["-c", MASS_ORPHANS, 1000, "keep"],
        signal_timeout: "50s",
      }),
    });
    await said(controller, "web-0", "abandoned");
    const orphans = listDescendants(controller.pid);
    assert.ok(orphans.length > 1000);
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
    assert.deepEqual(eventsOf(controller, "killed"), [], "all orphans obeyed the stop signal");
    assert.deepEqual(orphans.filter(isAlive), []);
  });

  test("the controller as PID 1 reaps processes that entered its namespace from outside", {
    skip: !CAN_ENTER,
  }, async () => {
    await using controller = await ControllerUnderTest.start({
      wrapper: NAMESPACE ?? [],
      workers: shellPool("web", `echo up; ${STAY}`),
    });
    await said(controller, "web-0", "up");
    // As with `docker exec`, PID 1 of the namespace adopts the processes that the command leaves behind.
    const target = String(ownPid(controller));
    const entered = spawnSync("nsenter", ["-t", target, "-p", "-m", "sh", "-c", "(sleep 0.1; exit 7) & (exit 3) &"]);
    assert.equal(entered.status, 0, String(entered.stderr));
    await eventually(
      async () => (await controller.metric("monoceros_controller_orphans_reaped_total")) >= 1 || undefined,
      "the orphan is reaped",
    );
    await eventually(() => zombiesOf(controller).length === 0 || undefined, "there is no zombie");
    assert.equal((await controller.call("POST", "/v1/shutdown")).status, 202);
    assert.equal((await controller.ended).code, 0);
  });

  test("the controller as PID 1 restarts all workers after `kill -9 -1` inside the container", {
    skip: NAMESPACE === undefined,
  }, async () => {
    await using controller = await ControllerUnderTest.start({
      wrapper: NAMESPACE ?? [],
      workers: [
        shellPool("web", `echo up; ${STAY}`, { replicas: 3 }),
        shellPool("rogue", `trap 'kill -9 -1; exit 1' USR1; echo up; while :; do sleep 0.05; done`),
      ].join("\n"),
    });
    for (const worker of ["web-0", "web-1", "web-2", "rogue-0"]) await said(controller, worker, "up");
    const rogue = listDescendants(controller.pid).find((pid) => readProc(pid, "environ").includes("POOL=rogue"));
    assert.ok(rogue !== undefined);
    process.kill(rogue, "SIGUSR1");
    for (const worker of ["web-0", "web-1", "web-2", "rogue-0"]) await said(controller, worker, "up", 2);
    await eventually(() => zombiesOf(controller).length === 0 || undefined, "there is no zombie");
    assert.ok(await isUp(controller));
    assert.equal((await controller.call("POST", "/v1/shutdown")).status, 202);
    assert.equal((await controller.ended).code, 0);
  });
});

describe("signals", () => {
  for (const { name, skip, options } of SITUATIONS) {
    test(`the controller ${name} forwards no signals to workers except the stop signal`, { skip }, async () => {
      await using controller = await ControllerUnderTest.start({
        ...options,
        workers: poolOf({ name: "web", exec: "python3", args: ["-c", PRINT_SIGNALS] }),
      });
      await said(controller, "web-0", "up");
      const own = ownPid(controller);
      for (const signal of ["SIGPIPE", "SIGWINCH", "SIGURG", "SIGCONT", "SIGCHLD"] as const) process.kill(own, signal);
      process.kill(own, "SIGHUP");
      await logged(controller, "reload: nothing has changed");
      process.kill(own, "SIGUSR2");
      await logged(controller, "SIGUSR2");
      process.kill(own, "SIGTERM");
      assert.equal((await controller.ended).code, 0);
      const received = receivedSignals(controller, "web-0");
      assert.deepEqual(received, [constants.signals.SIGTERM]);
    });
  }

  test("the controller as PID 1 ignores signals that it does not use", { skip: !CAN_ENTER }, async () => {
    await using controller = await ControllerUnderTest.start({
      wrapper: NAMESPACE ?? [],
      workers: shellPool("web", `echo up; ${STAY}`),
    });
    await said(controller, "web-0", "up");
    // Signals from its own namespace whose default action is to terminate have no effect on PID 1.
    const inside = ["-t", String(ownPid(controller)), "-p", "-m", "sh", "-c"];
    const sent = spawnSync("nsenter", [...inside, "for s in ALRM VTALRM PROF XCPU IO; do kill -$s 1; done"]);
    assert.equal(sent.status, 0, String(sent.stderr));
    assert.ok(await isUp(controller));
    assert.deepEqual(eventsOf(controller, "exited"), []);
    assert.equal((await controller.call("POST", "/v1/shutdown")).status, 202);
    assert.equal((await controller.ended).code, 0);
  });

  test("signals that the parent blocked or ignored still work, and workers start with no signal blocked or ignored", async () => {
    const setup = `import os, signal, sys
for s in (signal.SIGTTOU, signal.SIGSEGV, signal.SIGINT): signal.signal(s, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN, signal.SIGILL, signal.SIGTERM})
os.execv(sys.argv[1], sys.argv[1:])`;
    await using controller = await ControllerUnderTest.start({
      wrapper: ["python3", "-c", setup],
      workers: shellPool("web", `grep -E '^Sig(Blk|Ign)' /proc/self/status; ${STAY}`, { rolling: { min_ready: "0s" } }),
    });
    await said(controller, "web-0", "SigBlk:\t0000000000000000");
    await said(controller, "web-0", "SigIgn:\t0000000000000000");
    process.kill(controller.pid, "SIGTTIN");
    await happened(controller, "operation_finished", ({ what }) => what === "scale", 1);
    process.kill(controller.pid, "SIGTTOU");
    await happened(controller, "operation_finished", ({ what }) => what === "scale", 2);
    process.kill(controller.pid, "SIGINT");
    assert.equal((await controller.ended).code, 0);
  });

  test("a suspended worker and its process group obey the stop signal", async () => {
    const script = `trap 'echo goodbye; exit 0' TERM; sleep 100000 & echo up; while :; do wait; done`;
    await using controller = await ControllerUnderTest.start({
      workers: shellPool("web", script, { signal_timeout: "50s" }),
    });
    await said(controller, "web-0", "up");
    const pid = await controller.pidOf("web-0");
    const isSleep = (each: number) => readProc(each, "cmdline").startsWith("sleep");
    const child = await eventually(() => listDescendants(pid).find(isSleep), "the worker's child runs");
    const family = [pid, child];
    for (const each of family) process.kill(each, "SIGSTOP");
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
    assert.equal(saidBy(controller, "web-0", "goodbye").length, 1);
    assert.deepEqual(eventsOf(controller, "killed"), []);
    assert.deepEqual(family.filter(isAlive), []);
  });

  test("a suspended process that left its worker's session obeys the stop signal", async () => {
    const script = `setsid sh -c 'trap "exit 0" TERM; kill -STOP $$; sleep 100000' & echo up; ${STAY}`;
    await using controller = await ControllerUnderTest.start({
      workers: shellPool("web", script, { signal_timeout: "50s" }),
    });
    await said(controller, "web-0", "up");
    const pid = await controller.pidOf("web-0");
    const stopped = () => listDescendants(pid).find((each) => readProc(each, "stat").includes(") T "));
    const escaped = await eventually(stopped, "the process has suspended itself");
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
    assert.deepEqual(eventsOf(controller, "killed"), []);
    assert.equal(isAlive(escaped), false);
  });

  test("a process that left its worker's session and whose main thread has ended obeys the stop signal", async () => {
    // /proc shows such a process as a zombie.
    const script = `
import ctypes, os, threading, time
def live():
    while True: time.sleep(1000)
if os.fork() == 0:
    os.setsid()
    threading.Thread(target=live).start()
    os.write(1, b"leaving %d\\n" % os.getpid())
    ctypes.CDLL(None).pthread_exit(None)
live()
`;
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({ name: "web", exec: "python3", args: ["-c", script], signal_timeout: "50s" }),
    });
    const leaving = () => /leaving (\d+)/u.exec(controller.stdout.join("\n"))?.[1];
    await controller.until(() => leaving() !== undefined, "the process prints its pid");
    const pid = Number(leaving());
    await eventually(() => readProc(pid, "stat").includes(") Z ") || undefined, "the main thread has ended");
    assert.equal((await controller.call("POST", "/v1/workers/web-0/stop")).status, 202);
    await happened(controller, "stopped");
    assert.doesNotMatch(
      readProc(pid, "status"),
      /^Threads:\s+2$/mu,
      "the process has exited when the stop is complete",
    );
    await untilGone(pid);
    assert.deepEqual(eventsOf(controller, "killed"), []);
  });

  test("a suspended controller restarts workers that exited meanwhile as soon as it continues", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shellPool("web", `echo up; ${STAY}`, { replicas: 2 }),
    });
    await said(controller, "web-1", "up");
    const pid = await controller.pidOf("web-1");
    process.kill(controller.pid, "SIGSTOP");
    process.kill(pid, "SIGKILL");
    await eventually(() => (isAlive(pid) ? undefined : true), "the worker has exited");
    process.kill(controller.pid, "SIGCONT");
    await said(controller, "web-1", "up", 2);
    assert.equal((await controller.worker("web-0")).incarnation, 1);
  });

  test("all processes of a worker's background pipelines are stopped with it, also with job control", async () => {
    const script = "sleep 100000 | tail & sleep 100000 | tail >&2 & echo up; wait";
    await using controller = await ControllerUnderTest.start({
      workers: [
        poolOf({ name: "plain", exec: "bash", args: ["-c", script], signal_timeout: "50s" }),
        poolOf({ name: "jobs", exec: "bash", args: ["-c", `set -m; ${script}`], signal_timeout: "50s" }),
      ].join("\n"),
    });
    const family: number[] = [];
    for (const worker of ["plain-0", "jobs-0"]) {
      await said(controller, worker, "up");
      const pid = await controller.pidOf(worker);
      const programs = () =>
        listDescendants(pid).filter((each) => /^(?:sleep|tail)\0/u.test(readProc(each, "cmdline")));
      family.push(...(await eventually(() => all(programs(), 4), "the pipelines run")));
    }
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
    assert.deepEqual(eventsOf(controller, "killed"), []);
    assert.deepEqual(family.filter(isAlive), []);
  });
});

describe("parent and terminal", () => {
  test("the controller outlives its parent, or shuts down gracefully if it has a parent-death signal", {
    skip: spawnSync("setpriv", ["--pdeathsig", "keep", "true"]).status !== 0,
  }, async () => {
    const start = (flags: readonly string[]) =>
      ControllerUnderTest.start({
        wrapper: ["sh", "-c", `"$@" & wait`, "sh", "setpriv", ...flags],
        workers: shellPool("web", `trap 'echo goodbye; exit 0' TERM; echo up; while :; do sleep 0.05; done`),
      });
    for (const [flags, isEnded] of [
      [["--inh-caps", "-all"], false],
      [["--pdeathsig", "TERM"], true],
    ] as const) {
      await using controller = await start(flags);
      await said(controller, "web-0", "up");
      const own = ownPid(controller);
      try {
        controller.child.kill("SIGKILL");
        if (isEnded) await eventually(() => (isAlive(own) ? undefined : true), "the controller has exited");
        else {
          assert.ok(await isUp(controller));
          process.kill(own, "SIGTERM");
        }
        await controller.ended;
        assert.equal(saidBy(controller, "web-0", "goodbye").length, 1);
        assert.match(controller.stderr.at(-1) ?? "", /exit code 0/u);
      } finally {
        // The wrapper has exited, so nothing else kills the controller if the test fails.
        if (isAlive(own)) process.kill(own, "SIGKILL");
      }
    }
  });

  test("workers have a session without a terminal and an empty stdin, even if the controller has a terminal", async () => {
    const terminal = `
import os, pty, sys
pid, master = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    try:
        data = os.read(master, 65536)
    except OSError:
        break
    os.write(1, data)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) % 256)
`;
    await using controller = await ControllerUnderTest.start({
      wrapper: ["python3", "-c", terminal],
      workers: shellPool("web", `cat; (echo >/dev/tty) 2>/dev/null && echo terminal || echo none; ${STAY}`),
    });
    await said(controller, "web-0", "none");
    const terminalOf = (pid: number) =>
      readProc(pid, "stat")
        .replace(/^.*\) /su, "")
        .split(" ")[4];
    assert.notEqual(terminalOf(ownPid(controller)), "0", "the controller has a terminal");
    assert.equal(terminalOf(await controller.pidOf("web-0")), "0");
    process.kill(ownPid(controller), "SIGTERM");
    assert.equal((await controller.ended).code, 0);
  });
});

describe("environment of workers", () => {
  test("arguments, environment, working directory and umask are passed unchanged", async () => {
    const script = `
import json, os, sys
names = ["X_EMPTY", "X_LINES", "X_EQUALS", "x.dotted-name", "BASH_FUNC_f%%"]
mask = os.umask(0)
print(json.dumps({"msg": "started", "argv": sys.argv[1:], "cwd": os.getcwd(), "umask": mask,
  "env": [os.environ.get(name) for name in names]}), flush=True)
while True: __import__("time").sleep(1000)
`;
    const argv = ["", "two words", "*", "$HOME", "a\nb", "--", "-x", "ü"];
    const env = {
      X_EMPTY: "",
      X_LINES: "a\nb",
      X_EQUALS: "a=b=c",
      "x.dotted-name": "1",
      "BASH_FUNC_f%%": "() {  :\n}",
    };
    await using controller = await ControllerUnderTest.start({
      wrapper: ["sh", "-c", `umask 027; cd / && exec env "$@"`, "sh", "BASH_FUNC_f%%=() {  :\n}", "x.dotted-name=1"],
      env: { X_EMPTY: "", X_LINES: "a\nb", X_EQUALS: "a=b=c" },
      workers: poolOf({ name: "web", exec: "python3", args: ["-c", script, ...argv] }),
    });
    const record = await said(controller, "web-0", "started");
    assert.deepEqual(record["argv"], argv);
    assert.deepEqual(record["env"], Object.values(env));
    assert.deepEqual([record["cwd"], record["umask"]], ["/", 0o027]);
  });

  test("a controller with closed stdin and stdout runs, and its workers have all three descriptors", async () => {
    await using controller = await ControllerUnderTest.start({
      wrapper: ["sh", "-c", `exec "$@" <&- >&-`, "sh"],
      workers: shellPool("web", `echo up >&2; ${STAY}`),
    });
    await logged(controller, '"worker_error_msg":"up"');
    const pid = await controller.pidOf("web-0");
    assert.equal(readlinkSync(`/proc/${pid}/fd/0`), "/dev/null");
    for (const fd of [1, 2]) assert.match(readlinkSync(`/proc/${pid}/fd/${fd}`), /^pipe:/u);
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  });
});

describe("/proc", () => {
  const workers = shellPool("web", STAY);

  test("without /proc the start fails, and the error says how to mount it", {
    skip: NAMESPACE === undefined,
  }, async () => {
    const hide = ["unshare", "--map-root-user", "--mount", "sh", "-c", `mount -t tmpfs none /proc && exec "$@"`, "sh"];
    const { ending, stderr } = await ControllerUnderTest.run({ wrapper: hide, workers });
    assert.equal(ending.code, 1, stderr.join("\n"));
    assert.match(stderr.join("\n"), /Cannot use \/proc: it is not mounted\n.*mount -t proc/u);
  });

  test("with the /proc of another PID namespace the start fails with PROC_UNUSABLE", {
    skip: NAMESPACE === undefined,
  }, async () => {
    const wrapper = (NAMESPACE ?? []).filter((flag) => flag !== "--mount-proc");
    const { ending, stderr } = await ControllerUnderTest.run({ wrapper, workers });
    assert.equal(ending.code, 1, stderr.join("\n"));
    assert.match(stderr.join("\n"), /another PID namespace, where this process is \d+ instead of 1/u);
  });
});

/** Signals that a worker has printed, in order, without the SIGCONT of a stop. */
function receivedSignals(controller: ControllerUnderTest, worker: string): number[] {
  return controller.stdout
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((record) => record["worker_id"] === worker)
    .flatMap((record) => /^signal (\d+)$/u.exec(String(record["worker_info_msg"]))?.[1] ?? [])
    .map(Number)
    .filter((number) => number !== constants.signals.SIGCONT);
}

/** The list if it has at least `count` items. */
function all<Item>(items: readonly Item[], count: number): readonly Item[] | undefined {
  return items.length >= count ? items : undefined;
}
