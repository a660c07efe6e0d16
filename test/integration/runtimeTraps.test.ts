/** Side effects of the Node.js runtime that must not reach workers or operators. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { describe, test } from "node:test";
import { ControllerUnderTest, eventually, listDescendants, PROCESSBIN, poolOf } from "../support/controller.ts";

/** A shell that stays the controller's parent, with limits of its own, and forwards SIGTERM. */
const STAYING_SHELL = (setup: string) => [
  "/bin/sh",
  "-c",
  `${setup}; "$@" & trap "kill -TERM $!" TERM; wait $!; wait $!`,
  "sh",
];

/** A Python program that changes signals or descriptors and then executes the controller. */
const PYTHON = (setup: string) => [
  "python3",
  "-c",
  `import os, signal, sys\n${setup}\nos.execv(sys.argv[1], sys.argv[1:])`,
];

function shell(script: string, more: Readonly<Record<string, unknown>> = {}): string {
  return poolOf({ name: "web", replicas: 1, exec: "/bin/sh", args: ["-c", `${script}; exec sleep 100000`], ...more });
}

/** A worker's environment as printed by processbin --print-env. */
interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly fds: Readonly<Record<string, string>>;
  readonly signals: Readonly<Record<"blocked" | "ignored", string>>;
}

const PRINTING = poolOf({ name: "web", replicas: 1, exec: "sh", args: ["-c", 'exec "$0" --print-env', PROCESSBIN] });

async function surroundingsOf(controller: ControllerUnderTest): Promise<Surroundings> {
  const find = () => controller.stdout.find((line) => line.includes('"surroundings"'));
  await controller.until(() => find() !== undefined, "the worker prints its environment");
  return JSON.parse(find() ?? "").surroundings as Surroundings;
}

/** Plain lines that workers have written to stdout so far. */
function texts(controller: ControllerUnderTest): string[] {
  return controller.stdout.flatMap((line) => JSON.parse(line).worker_info_msg ?? []);
}

async function firstText(controller: ControllerUnderTest): Promise<string | undefined> {
  await controller.until(() => texts(controller).length > 0, "a line of the worker");
  return texts(controller)[0];
}

/** Listening TCP sockets of a process, as lines of /proc/<pid>/net/tcp. */
function tcpListeners(pid: number): string[] {
  const inodes = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const inode = /^socket:\[(\d+)\]$/u.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
      if (inode !== undefined) inodes.add(inode);
    } catch {
      // It has been closed meanwhile.
    }
  }
  const lines = ["tcp", "tcp6"].flatMap((table) => readFileSync(`/proc/${pid}/net/${table}`, "utf8").split("\n"));
  return lines.filter((line) => {
    const fields = line.trim().split(/\s+/u);
    return fields[3] === "0A" && inodes.has(fields[9] ?? "");
  });
}

function countThreads(pid: number, name: string): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.filter((thread) => readFileSync(`/proc/${pid}/task/${thread}/comm`, "utf8").trim() === name).length;
}

describe("runtime traps", () => {
  test("workers can open /dev/stdout and /dev/stderr", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shell("echo out > /dev/stdout && echo err > /dev/stderr && echo both"),
    });
    await controller.until(() => texts(controller).includes("both"), "both can be opened");
    assert.deepEqual(texts(controller), ["out", "both"]);
    await controller.until(
      () => controller.stderr.some((line) => JSON.parse(line).worker_error_msg === "err"),
      "the line on stderr",
    );
  });

  for (const options of ["--max-old-space-size=77 --inspect=0", "--no-such-option-at-all --inspect-brk=127.0.0.1:0"]) {
    test(`NODE_OPTIONS="${options}" reaches workers unchanged and does not affect the controller`, async () => {
      await using controller = await ControllerUnderTest.start({
        workers: shell('echo "$NODE_OPTIONS"'),
        env: { NODE_OPTIONS: options },
      });
      assert.equal(await firstText(controller), options);
      assert.equal(tcpListeners(controller.pid).length, 1, "only the admin port listens");
      assert.ok(!controller.stderr.join("\n").includes("Debugger"));
      assert.equal((await controller.stop()).code, 0);
    });
  }

  for (const [name, value] of [
    ["NODE_UNIQUE_ID", "1"],
    ["NODE_V8_COVERAGE", "/nonexistent/coverage"],
    ["NODE_DEBUG", "net,http"],
    ["NODE_DEBUG_NATIVE", "HTTP2"],
    // The runtime would create a directory before any of our code runs.
    ["NODE_COMPILE_CACHE", "/dev/null/cache"],
    ["NODE_PENDING_DEPRECATION", "1"],
    ["NODE_EXTRA_CA_CERTS", "/nonexistent.pem"],
    ["NODE_ICU_DATA", "/nonexistent"],
    ["NODE_REDIRECT_WARNINGS", "/nonexistent/warnings"],
    ["NODE_USE_ENV_PROXY", "1"],
    ["HTTP_PROXY", "http://127.0.0.1:1"],
    ["WATCH_REPORT_DEPENDENCIES", "1"],
    ["UV_THREADPOOL_SIZE", "1"],
    ["UV_USE_IO_URING", "1"],
    // Not a valid OpenSSL configuration.
    ["OPENSSL_CONF", "/etc/passwd"],
    ["SSL_CERT_FILE", "/nonexistent.pem"],
    ["SEA_BUILD_CHECK", "1"],
    ["MALLOC_PERTURB_", "165"],
    ["TZ", "Nowhere/Bad"],
    ["LC_ALL", "tr_TR.UTF-8"],
  ] as const) {
    test(`${name}=${value} reaches workers unchanged and does not affect the controller`, async () => {
      await using controller = await ControllerUnderTest.start({
        workers: shell(`echo "$${name}"`),
        env: { [name]: value },
      });
      await controller.ready();
      assert.equal(await firstText(controller), value);
      assert.equal((await controller.status()).pid, controller.pid);
      assert.equal(countThreads(controller.pid, "libuv-worker"), 4);
      assert.equal((await controller.stop()).code, 0);
      // stderr contains only the controller's own records.
      for (const line of controller.stderr) assert.match(line, /^\{"level":/u);
    });
  }

  test("NODE_CHANNEL_FD of a Node.js parent is ignored and not passed to workers", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shell('echo "channel: $NODE_CHANNEL_FD"'),
      env: { NODE_CHANNEL_FD: "0" },
    });
    assert.equal(await firstText(controller), "channel: ");
    assert.equal((await controller.stop()).code, 0);
  });

  test("variables that are removed from the controller's environment can be used in its configuration", async () => {
    await using controller = await ControllerUnderTest.start({
      // Such as the name of a node in a database cluster.
      workers:
        "    - {name: web, exec: /bin/sh, args: [-c, 'echo node $0; exec sleep 1000', \"\u0024{NODE_UNIQUE_ID}\"]}",
      env: { NODE_UNIQUE_ID: "db-7" },
    });
    assert.equal(await firstText(controller), "node db-7");
  });

  test("workers have the soft limit of open files that the controller was started with, not the raised one", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shell("echo $(ulimit -Sn) $(ulimit -Hn)"),
      wrapper: STAYING_SHELL("ulimit -Sn 512"),
    });
    const [soft, hard] = (await firstText(controller))?.split(" ") ?? [];
    assert.equal(soft, "512");
    const [own] = listDescendants(controller.pid);
    const limits = readFileSync(`/proc/${own}/limits`, "utf8");
    assert.equal(hard, /^Max open files\s+\S+\s+(\S+)/mu.exec(limits)?.[1], "the hard limit is unchanged");
  });

  test("rlimits.nofile overrides the inherited soft limit", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shell(
        // The limit may be set shortly after the exec.
        'i=0; while [ "$(ulimit -Sn)" != 300 ] && [ $i -lt 2000 ]; do i=$((i+1)); sleep 0.005; done; echo $(ulimit -Sn)',
        { rlimits: { nofile: 300 } },
      ),
      wrapper: STAYING_SHELL("ulimit -Sn 512"),
    });
    assert.equal(await firstText(controller), "300");
  });

  test("SIGUSR1 opens no debugger port and ends no process", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shell("echo up", { rolling: { min_ready: "60s" } }),
    });
    await firstText(controller);
    const pid = await controller.pidOf("web-0");
    process.kill(controller.pid, "SIGUSR1");
    await controller.until(() => controller.stderr.some((line) => line.includes("SIGUSR1")), "the signal is logged");
    assert.equal(tcpListeners(controller.pid).length, 1, "only the admin port listens");
    assert.ok(!controller.stderr.join("\n").includes("Debugger"));
    assert.equal(await controller.pidOf("web-0"), pid);
  });

  test("descriptors that the controller inherited are not passed to workers", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: PRINTING,
      wrapper: PYTHON("fd = os.open('/etc/hostname', os.O_RDONLY)\nos.dup2(fd, 7)\nos.dup2(fd, 200)"),
    });
    const { fds } = await surroundingsOf(controller);
    assert.ok(!Object.values(fds).includes("/etc/hostname"), JSON.stringify(fds));
    for (const fd of ["7", "200"]) assert.equal(readlinkSync(`/proc/${controller.pid}/fd/${fd}`), "/etc/hostname");
    const pid = await controller.pidOf("web-0");
    for (const fd of ["1", "2"]) assert.match(readlinkSync(`/proc/${pid}/fd/${fd}`), /^pipe:/u);
    assert.equal(readlinkSync(`/proc/${pid}/fd/0`), "/dev/null");
  });

  test("signals that are ignored or blocked at the controller's start are not in workers, and the controller receives them", async () => {
    const setup = `for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE): signal.signal(s, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD})`;
    await using controller = await ControllerUnderTest.start({
      // A shell, because the runtime of processbin would reset its signals first.
      workers: shell("grep -E '^Sig(Blk|Ign)' /proc/self/status"),
      wrapper: PYTHON(setup),
    });
    await controller.until(() => texts(controller).length === 2, "two lines");
    assert.deepEqual(texts(controller), ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]);
    process.kill(await controller.pidOf("web-0"), "SIGKILL");
    await controller.event((event) => event.kind === "spawned" && event.incarnation === 2);
    assert.equal((await controller.stop()).code, 0);
  });

  test("the controller prints no warnings of the Node.js runtime", async () => {
    await using controller = await ControllerUnderTest.start({ workers: shell("echo up") });
    await firstText(controller);
    assert.equal((await controller.stop()).code, 0);
    // stderr contains only the controller's own records.
    for (const line of controller.stderr) assert.ok("msg" in JSON.parse(line), line);
    assert.ok(!/warning|experimental/iu.test(controller.stderr.join("\n")));
  });

  test("NOTIFY_SOCKET, WATCHDOG_* and LISTEN_* of the controller are not passed to workers", async () => {
    const env = {
      NOTIFY_SOCKET: "/nowhere/notify",
      WATCHDOG_USEC: "1000000",
      WATCHDOG_PID: "1",
      LISTEN_FDS: "2",
      LISTEN_PID: "1",
      LISTEN_FDNAMES: "a:b",
      OF_THE_WORKER: "yes",
    };
    await using controller = await ControllerUnderTest.start({ workers: PRINTING, env });
    const { env: workerEnv } = await surroundingsOf(controller);
    assert.equal(workerEnv["OF_THE_WORKER"], "yes");
    for (const key of Object.keys(env)) if (key !== "OF_THE_WORKER") assert.equal(workerEnv[key], undefined, key);
    assert.equal(workerEnv["MULTIPROCESS_WORKER_ID"], "web-0");
  });

  test("SIGPIPE and SIGUSR2 do not end the controller", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shell("echo up", { rolling: { min_ready: "60s" } }),
    });
    await firstText(controller);
    const pid = await controller.pidOf("web-0");
    for (const signal of ["SIGPIPE", "SIGUSR2"] as const) process.kill(controller.pid, signal);
    const isLogged = () => controller.stderr.join("\n").includes("SIGUSR2");
    await eventually(() => (isLogged() ? true : undefined), "the signal is logged");
    assert.equal(await controller.pidOf("web-0"), pid);
  });
});
