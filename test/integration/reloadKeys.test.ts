/**
 * A reload of each key has its documented effect on real processes and affects no others. Steps of one test share a
 * controller. The last test fails if a key has neither a step nor a reason for having none.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { after, type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { isDeepStrictEqual } from "node:util";
import type { ReloadAccepted } from "../../src/admin/api.ts";
import { TEST_CERTIFICATE, TEST_KEY } from "../support/certificate.ts";
import { changeClasses } from "../support/changeClasses.ts";
import { eventually } from "../support/controller.ts";
import type { Block } from "../support/keyCases.ts";
import { type Changes, KeyScene, Listener, writeServer } from "../support/keyScene.ts";
import { freePorts } from "../support/ports.ts";
import { commandOk, envoyPid } from "../support/traffic.ts";
import { type LogRecord, readProc, recordsOf, said, saidBy, statusCode } from "../support/watch.ts";

interface Step {
  /** Keys of the schema whose effect the step shows. Keys of pools are relative to the pool. */
  readonly keys: readonly string[];
  readonly changes: Changes | ((scene: KeyScene) => Changes);
  /** Effect on the workers of pool `web`. `changed`: the keys make some start, stop or be replaced. */
  readonly workers: "replaced" | "kept" | "changed";
  /** Name of a step that does not test a key. */
  readonly also?: string;
  /** Whether the step continues when the operations of the reload have begun. */
  readonly isOnlyBegun?: true;
  readonly needsRoot?: true;
  readonly shows: (scene: KeyScene) => Promise<void> | void;
}

/** Keys that affect only the timing, or have only one valid value. */
const WITHOUT_STEP: Readonly<Record<string, string>> = {
  "limits.jitter_ratio": "only spreads times",
  ...Object.fromEntries(
    ["startup", "readiness", "liveness"].flatMap((purpose) => [
      [`probes.${purpose}.initial_delay`, "only delays the first attempt"],
      [`probes.${purpose}.period`, "only spaces attempts"],
    ]),
  ),
  "probes.startup.notify": "only false is valid",
  "probes.liveness.notify": "only false is valid",
  "probes.startup.sd_notify": "only false is valid",
  "probes.startup.einhorn": "only false is valid",
  "probes.liveness.einhorn": "only false is valid",
  "probes.readiness.einhorn": "needs sockets: test/integration/reporting.test.ts",
  command: "another form of exec and args",
  type: "a change is refused: test/support/keyCases.ts",
  depends_on: "only delays the first start: test/integration/startOrder.test.ts",
  "supervisor.start_parallelism": "only delays starts: test/integration/startOrder.test.ts",
  "probes.startup.success_threshold": "only 1 is valid",
  "probes.liveness.success_threshold": "only 1 is valid",
};

/** A missing effect fails its step, not the whole file. */
const STEP_TIMEOUT_MS = 60_000;

const testedKeys = new Set<string>();

/** One test with one controller. The steps are its subtests, in order. */
function group(
  name: string,
  make: (directory: string) => Readonly<Record<string, Block>>,
  steps: readonly Step[],
  isReady: boolean = true,
): void {
  for (const { keys } of steps) for (const key of keys) testedKeys.add(key);
  test(name, async (t: TestContext) => {
    await using scene = await KeyScene.start(make);
    if (isReady) await scene.controller.ready();
    for (const step of steps) {
      const isSkipped = step.needsRoot === true && process.getuid?.() !== 0;
      const options = { skip: isSkipped, timeout: STEP_TIMEOUT_MS };
      await t.test(step.keys.join(", ") || step.also, options, () => take(scene, step));
    }
  });
}

async function take(scene: KeyScene, { changes, workers, isOnlyBegun, shows }: Step): Promise<void> {
  await scene.change(typeof changes === "function" ? changes(scene) : changes, isOnlyBegun ? "begun" : "done");
  const { before } = scene;
  const now = await scene.controller.pids();
  if (workers === "kept") {
    // A worker that was in backoff before may run now.
    const same = Object.fromEntries(Object.keys(before).map((id) => [id, now[id]]));
    assert.deepEqual(same, before, "no process is replaced");
  }
  if (workers === "replaced") {
    const kept = Object.keys(before).filter(
      (id) => /^web-\d+$/u.test(id) && Object.values(now).includes(before[id] ?? 0),
    );
    assert.deepEqual(kept, [], "every worker is replaced");
  }
  await shows(scene);
}

/** Waits for a property of the worker started since the change, which exists before it has executed its program. */
async function worker<Fact>(scene: KeyScene, look: (pid: number) => Fact, expected: Fact, pool = "web"): Promise<void> {
  const pid = await scene.newPid(pool);
  await eventually(() => (isDeepStrictEqual(look(pid), expected) ? true : undefined), `${look} is ${expected}`);
}

const status = (pid: number, name: string) => new RegExp(`^${name}:\\s+(.*)$`, "mu").exec(readProc(pid, "status"))?.[1];
const variable = (pid: number, name: string) =>
  readProc(pid, "environ")
    .split("\0")
    .find((entry) => entry.startsWith(`${name}=`))
    ?.slice(name.length + 1);
const niceness = (pid: number) => {
  const stat = readProc(pid, "stat");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16];
};
const argument = (pid: number, index: number) => readProc(pid, "cmdline").split("\0")[index];

// Keys of class launch

const launchPorts = await freePorts(8);

group("keys of class launch replace the workers", () => ({ web: { exec: "/bin/sleep", args: ["1000"] } }), [
  {
    keys: ["user"],
    changes: { "web/user": "12345" },
    workers: "replaced",
    needsRoot: true,
    shows: (scene) => worker(scene, (pid) => status(pid, "Uid")?.split("\t")[0], "12345"),
  },
  {
    keys: ["group"],
    changes: { "web/user": undefined, "web/group": "12346" },
    workers: "replaced",
    needsRoot: true,
    shows: (scene) => worker(scene, (pid) => status(pid, "Gid")?.split("\t")[0], "12346"),
  },
  {
    keys: ["exec"],
    changes: ({ directory }) => {
      symlinkSync("/bin/sleep", join(directory, "sleep"));
      return { "web/group": undefined, "web/exec": join(directory, "sleep") };
    },
    workers: "replaced",
    shows: (scene) => worker(scene, (pid) => argument(pid, 0), join(scene.directory, "sleep")),
  },
  {
    keys: ["args"],
    changes: { "web/args": ["1001"] },
    workers: "replaced",
    shows: (scene) => worker(scene, (pid) => argument(pid, 1), "1001"),
  },
  {
    keys: ["env"],
    changes: { "web/env": { MARK: "b" } },
    workers: "replaced",
    shows: (scene) => worker(scene, (pid) => variable(pid, "MARK"), "b"),
  },
  {
    keys: ["env_file"],
    changes: ({ directory }) => {
      writeFileSync(join(directory, "env"), "FROM_FILE=c\n");
      return { "web/env_file": join(directory, "env") };
    },
    workers: "replaced",
    shows: (scene) => worker(scene, (pid) => variable(pid, "FROM_FILE"), "c"),
  },
  {
    keys: ["cwd"],
    changes: ({ directory }) => ({ "web/cwd": directory }),
    workers: "replaced",
    shows: (scene) => worker(scene, (pid) => readlinkSync(`/proc/${pid}/cwd`), scene.directory),
  },
  {
    keys: ["umask"],
    changes: { "web/umask": "0027" },
    workers: "replaced",
    shows: (scene) => worker(scene, (pid) => status(pid, "Umask"), "0027"),
  },
  {
    keys: ["nice"],
    changes: { "web/nice": 17 },
    workers: "replaced",
    shows: (scene) => worker(scene, niceness, "17"),
  },
  {
    keys: ["oom_score_adj"],
    changes: { "web/oom_score_adj": 777 },
    workers: "replaced",
    shows: (scene) => worker(scene, (pid) => readProc(pid, "oom_score_adj").trim(), "777"),
  },
  {
    keys: ["rlimits"],
    changes: { "web/rlimits": { nofile: 333 } },
    workers: "replaced",
    shows: (scene) => worker(scene, (pid) => /^Max open files\s+(\d+)/mu.exec(readProc(pid, "limits"))?.[1], "333"),
  },
  {
    keys: ["logs.mode"],
    changes: { "web/logs.mode": "inherit" },
    workers: "replaced",
    shows: (scene) =>
      worker(scene, (pid) => readlinkSync(`/proc/${pid}/fd/1`), readlinkSync(`/proc/${scene.controller.pid}/fd/1`)),
  },
  {
    keys: [],
    also: "the metrics block is added",
    changes: { "web/metrics.port": launchPorts },
    workers: "replaced",
    shows: async (scene) => {
      const { slot } = await scene.happened("spawned");
      await worker(scene, (pid) => variable(pid, "MONOCEROS_METRICS_PORT"), `${launchPorts + slot}`);
    },
  },
  {
    keys: [],
    also: "the metrics block is removed",
    changes: { "web/metrics": undefined },
    workers: "replaced",
    shows: (scene) =>
      worker(scene, (pid) => [argument(pid, 1), variable(pid, "MONOCEROS_METRICS_PORT")], ["1001", undefined]),
  },
]);

// Probes: one pool for each purpose, and listeners that record requests

const PURPOSES = ["startup", "readiness", "liveness"] as const;
type Purpose = (typeof PURPOSES)[number];
const listeners = await Promise.all(Array.from({ length: 6 }, () => Listener.open()));
after(() => Promise.all(listeners.map((listener) => listener[Symbol.asyncDispose]())));
const first = (purpose: Purpose) => listeners[PURPOSES.indexOf(purpose)] as Listener;
const second = (purpose: Purpose) => listeners[3 + PURPOSES.indexOf(purpose)] as Listener;

/** Probes without a verdict, unless a step changes the keys. */
const PATIENT = { period: "50ms", timeout: "5s", failure_threshold: 1_000_000 };

/** The same change for all three purposes. */
function probes(of: (purpose: Purpose, directory: string) => Block): (scene: KeyScene) => Changes {
  return ({ directory }) =>
    Object.fromEntries(
      PURPOSES.map((purpose) => [`${purpose}/probes.${purpose}`, { ...PATIENT, ...of(purpose, directory) }]),
    );
}

const probeKeys = (...names: readonly string[]) =>
  PURPOSES.flatMap((purpose) => names.map((name) => `probes.${purpose}.${name}`));
const forEachPurpose = (look: (scene: KeyScene, purpose: Purpose) => Promise<void>) => async (scene: KeyScene) => {
  await Promise.all(PURPOSES.map((purpose) => look(scene, purpose)));
};

group(
  "keys of probes take effect",
  () => {
    const pool = (purpose: Purpose) => ({
      exec: "/bin/sleep",
      args: ["1000"],
      probes: { [purpose]: { ...PATIENT, http: { port: first(purpose).port, path: "/one" } } },
    });
    return Object.fromEntries(PURPOSES.map((purpose) => [purpose, pool(purpose)]));
  },
  [
    {
      keys: probeKeys("http.path"),
      changes: probes((purpose) => ({ http: { port: first(purpose).port, path: "/two" } })),
      workers: "changed",
      isOnlyBegun: true,
      shows: forEachPurpose((_, purpose) => first(purpose).receives("GET /two ")),
    },
    {
      keys: probeKeys("http.headers"),
      changes: probes((purpose) => ({
        http: { port: first(purpose).port, path: "/two", headers: { "X-Purpose": purpose } },
      })),
      workers: "changed",
      isOnlyBegun: true,
      shows: forEachPurpose((_, purpose) => first(purpose).receives(`X-Purpose: ${purpose}`)),
    },
    {
      keys: probeKeys("http.port"),
      changes: probes((purpose) => ({ http: { port: second(purpose).port, path: "/two" } })),
      workers: "changed",
      isOnlyBegun: true,
      shows: forEachPurpose((_, purpose) => second(purpose).receives("GET /two ")),
    },
    {
      keys: probeKeys("grpc.port"),
      changes: probes((purpose) => ({ grpc: { port: first(purpose).port, service: "one.Service" } })),
      workers: "changed",
      isOnlyBegun: true,
      shows: forEachPurpose((_, purpose) => first(purpose).receives("PRI * HTTP/2.0")),
    },
    {
      keys: probeKeys("grpc.service"),
      changes: probes((purpose) => ({ grpc: { port: first(purpose).port, service: "two.Service" } })),
      workers: "changed",
      isOnlyBegun: true,
      shows: forEachPurpose((_, purpose) => first(purpose).receives("two.Service")),
    },
    {
      keys: probeKeys("exec"),
      changes: probes((purpose, directory) => ({
        exec: ["/bin/sh", "-c", `echo probed > ${join(directory, purpose)}; exit 1`],
      })),
      workers: "changed",
      isOnlyBegun: true,
      shows: forEachPurpose(async ({ directory }, purpose) => {
        await eventually(
          () => (readFile(join(directory, purpose)) === "probed\n" ? true : undefined),
          `${purpose} runs`,
        );
      }),
    },
    {
      keys: probeKeys("tcp.port"),
      changes: (scene) => {
        for (const listener of listeners) listener.connections = 0;
        return probes((purpose) => ({ tcp: { port: second(purpose).port } }))(scene);
      },
      workers: "changed",
      isOnlyBegun: true,
      shows: forEachPurpose(async (_, purpose) => {
        await eventually(() => (second(purpose).connections > 0 ? true : undefined), `${purpose} connects`);
      }),
    },
    {
      keys: probeKeys("timeout"),
      changes: probes(() => ({ exec: ["sleep", "1000"], timeout: "70ms", failure_threshold: 1 })),
      workers: "changed",
      isOnlyBegun: true,
      shows: (scene) => scene.mentions("no answer within 70ms"),
    },
  ],
  false,
);

group(
  "thresholds of probes take effect",
  (directory) => ({
    startup: { exec: "/bin/sleep", args: ["1000"], probes: { startup: { ...PATIENT, exec: ["false"] } } },
    readiness: {
      exec: "/bin/sleep",
      args: ["1000"],
      probes: { readiness: { ...PATIENT, period: "300ms", exec: ["/bin/sh", "-c", countIn(directory)] } },
    },
    liveness: { exec: "/bin/sleep", args: ["1000"], probes: { liveness: { ...PATIENT, exec: ["false"] } } },
  }),
  [
    {
      keys: ["probes.startup.failure_threshold"],
      changes: { "startup/probes.startup.failure_threshold": 2 },
      workers: "changed",
      isOnlyBegun: true,
      shows: async (scene) => {
        await scene.mentions("startup failed 2 times in a row");
        scene.undo();
      },
    },
    {
      keys: ["probes.liveness.failure_threshold"],
      changes: { "liveness/probes.liveness.failure_threshold": 2 },
      workers: "changed",
      isOnlyBegun: true,
      shows: async (scene) => {
        await scene.mentions("liveness failed 2 times in a row");
        scene.undo();
      },
    },
    {
      keys: ["probes.readiness.success_threshold"],
      changes: ({ directory }) => {
        writeFileSync(join(directory, "count"), "");
        return { "readiness/probes.readiness.success_threshold": 3 };
      },
      workers: "changed",
      isOnlyBegun: true,
      shows: async (scene) => {
        const { pid } = await scene.happened("spawned", ({ pool }) => pool === "readiness");
        await scene.happened("ready", ({ pool }) => pool === "readiness");
        const probes = (readFile(join(scene.directory, "count")) ?? "").split("\n").filter((line) => line === `${pid}`);
        assert.ok(probes.length >= 3, `ready after ${probes.length} successes`);
      },
    },
    {
      keys: ["probes.readiness.failure_threshold"],
      changes: { "readiness/probes.readiness.failure_threshold": 2, "readiness/probes.readiness.period": "50ms" },
      workers: "changed",
      shows: async (scene) => {
        writeFileSync(join(scene.directory, "fails"), "");
        await scene.mentions("readiness failed 2 times in a row");
      },
    },
    {
      keys: ["probes.readiness.notify"],
      changes: { "readiness/probes.readiness": { notify: true } },
      workers: "changed",
      isOnlyBegun: true,
      shows: (scene) => worker(scene, (pid) => variable(pid, "MONOCEROS_NOTIFY_FD") !== undefined, true, "readiness"),
    },
    {
      keys: ["probes.readiness.sd_notify"],
      changes: { "readiness/probes.readiness": { sd_notify: true } },
      workers: "changed",
      isOnlyBegun: true,
      shows: (scene) => worker(scene, (pid) => variable(pid, "NOTIFY_SOCKET") !== undefined, true, "readiness"),
    },
    {
      keys: ["probes.liveness.sd_notify"],
      changes: { "liveness/probes.liveness": { sd_notify: true, period: "7s" } },
      workers: "changed",
      isOnlyBegun: true,
      shows: (scene) => worker(scene, (pid) => variable(pid, "WATCHDOG_USEC"), "7000000", "liveness"),
    },
  ],
  false,
);

/** A probe that records the worker's pid, and fails if the file `fails` exists. */
function countIn(directory: string): string {
  return `echo "$MONOCEROS_WORKER_PID" >> ${join(directory, "count")}; test ! -e ${join(directory, "fails")}`;
}

function readFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** Prints a line at USR2, and at USR1 more than three files of 64 KiB. */
const LOG_PRINTER = `
trap 'head -c 2500 /dev/zero | tr "\\0" "\\n"; echo flooded' USR1
trap 'echo said' USR2
echo up
sleep 1000 &
while :; do wait; done`;

/** Signals the worker and waits until the file contains its answer. */
async function answers({ controller }: KeyScene, file: string, signal: "SIGUSR1" | "SIGUSR2"): Promise<void> {
  process.kill(await controller.pidOf("web-0"), signal);
  const text = signal === "SIGUSR1" ? '"flooded"' : '"said"';
  await eventually(() => readFile(file)?.includes(text) || undefined, `${file} contains ${text}`);
}

const logFile = ({ directory }: KeyScene, name = "web.log") => join(directory, name);
const small = { "web/logs.file.max_size": "64KiB" };

group(
  "keys of the log file apply to running workers",
  (directory) => ({
    web: { exec: "/bin/sh", args: ["-c", LOG_PRINTER], logs: { file: { path: join(directory, "web.log") } } },
  }),
  [
    {
      keys: ["logs.file.only"],
      changes: { "web/logs.file.only": true },
      workers: "kept",
      shows: async (scene) => {
        await said(scene.controller, "web-0", "up");
        await answers(scene, logFile(scene), "SIGUSR2");
        assert.deepEqual(saidBy(scene.controller, "web-0", "said"), []);
        scene.undo();
      },
    },
    {
      keys: ["logs.file.path"],
      changes: (scene) => ({ "web/logs.file.path": logFile(scene, "other.log") }),
      workers: "kept",
      shows: async (scene) => {
        await answers(scene, logFile(scene, "other.log"), "SIGUSR2");
        await said(scene.controller, "web-0", "said");
        assert.doesNotMatch(readFile(logFile(scene, "other.log")) ?? "", /"up"/u);
      },
    },
    {
      keys: ["logs.file.max_size"],
      changes: (scene) => ({ ...small, "web/logs.file.path": logFile(scene, "small.log") }),
      workers: "kept",
      shows: async (scene) => {
        await answers(scene, logFile(scene, "small.log"), "SIGUSR1");
        assert.ok(readFile(logFile(scene, "small.log.2")) !== undefined);
      },
    },
    {
      keys: ["logs.file.keep"],
      changes: (scene) => ({ "web/logs.file.keep": 1, "web/logs.file.path": logFile(scene, "kept.log") }),
      workers: "kept",
      shows: async (scene) => {
        await answers(scene, logFile(scene, "kept.log"), "SIGUSR1");
        const names = readdirSync(scene.directory).filter((name) => name.startsWith("kept.log"));
        assert.deepEqual(names.sort(), ["kept.log", "kept.log.1"]);
      },
    },
    {
      keys: ["logs.file.compress"],
      changes: { "web/logs.file.compress": "gzip" },
      workers: "kept",
      shows: async (scene) => {
        await eventually(() => readFile(logFile(scene, "kept.log.1.gz")), "the rotated file is compressed");
      },
    },
    {
      keys: ["logs.file.on_error"],
      changes: (scene) => ({ "web/logs.file.on_error": "block", "web/logs.file.path": logFile(scene, "full.log") }),
      workers: "kept",
      shows: async (scene) => {
        const limit = (bytes: string) =>
          execFileSync("prlimit", ["--pid", String(scene.controller.pid), `--fsize=${bytes}:unlimited`]);
        limit("0");
        process.kill(await scene.controller.pidOf("web-0"), "SIGUSR2");
        const { reason } = await scene.happened("log_file_failed");
        assert.ok(reason.endsWith("EFBIG; workers that write wait"), reason);
        limit("unlimited");
        await scene.happened("log_file_recovered");
        assert.match(readFile(logFile(scene, "full.log")) ?? "", /"said"/u);
      },
    },
  ],
);

// Keys of class policy

/** Prints the signal that ends it, a long line at USR1, and a line on stderr at USR2. */
const SIGNAL_PRINTER = `
for signal in INT TERM; do trap "echo got $signal; kill \\$!; exit 0" $signal; done
trap 'head -c 5000 /dev/zero | tr "\\0" x; echo' USR1
trap 'echo said >&2' USR2
echo up
sleep 1000 &
while :; do wait; done`;

const long = (scene: KeyScene) => recordsOf(scene.controller.stdout).filter(({ part }) => typeof part === "number");

group(
  "keys of class policy apply to running workers",
  () => ({ web: { exec: "/bin/sh", args: ["-c", SIGNAL_PRINTER] } }),
  [
    {
      keys: ["logs.max_line"],
      changes: { "web/logs.max_line": "1KiB" },
      workers: "kept",
      shows: async (scene) => {
        await said(scene.controller, "web-0", "up");
        process.kill(await scene.controller.pidOf("web-0"), "SIGUSR1");
        await scene.controller.until(() => long(scene).length === 5, "the line is split into five parts");
      },
    },
    {
      keys: ["logs.stderr_level"],
      changes: { "web/logs.stderr_level": "warn" },
      workers: "kept",
      shows: async ({ controller }) => {
        process.kill(await controller.pidOf("web-0"), "SIGUSR2");
        const isSaid = (record: LogRecord) => record["worker_error_msg"] === "said" && record["level"] === "warn";
        await controller.until(() => recordsOf(controller.stderr).some(isSaid), "the line has level warn");
      },
    },
    {
      keys: ["replicas"],
      changes: { "web/replicas": 2 },
      workers: "changed",
      shows: async (scene) => {
        const { "web-0": kept, "web-1": added, ...others } = await scene.controller.pids();
        assert.deepEqual([kept, others], [scene.before["web-0"], {}]);
        assert.ok(added !== undefined);
        await said(scene.controller, "web-1", "up");
      },
    },
    {
      keys: ["desired_healthy_percentage"],
      changes: { "web/desired_healthy_percentage": 50 },
      workers: "kept",
      shows: async (scene) => {
        const { controller } = scene;
        await commandOk(controller, "stop", "web-1");
        assert.equal((await controller.call("GET", "/health")).status, 200);
        await scene.change({ "web/desired_healthy_percentage": 51 });
        assert.equal((await controller.call("GET", "/health")).status, 503);
        await commandOk(controller, "start", "web-1");
        await said(controller, "web-1", "up", 2);
      },
    },
    {
      keys: ["stop_signal"],
      changes: { "web/stop_signal": "SIGINT" },
      workers: "kept",
      shows: async ({ controller }) => {
        assert.deepEqual(saidBy(controller, "web-0", "got INT"), []);
        await commandOk(controller, "restart", "web-0");
        await said(controller, "web-0", "got INT");
      },
    },
    {
      keys: ["stop_signal_target"],
      // The shell waits for its sleep, which only a signal to the group would end.
      changes: { "web/stop_signal": "SIGUSR2", "web/stop_signal_target": "leader", "web/signal_timeout": "300ms" },
      workers: "kept",
      shows: async (scene) => {
        await commandOk(scene.controller, "restart", "web");
        await scene.happened("killed");
        await scene.change({ "web/stop_signal": "SIGINT", "web/stop_signal_target": "group" });
      },
    },
    {
      keys: ["signal_timeout"],
      // The shell ignores this signal.
      changes: { "web/stop_signal": "SIGWINCH", "web/signal_timeout": "50ms" },
      workers: "kept",
      shows: async (scene) => {
        await commandOk(scene.controller, "restart", "web-1");
        assert.equal((await scene.happened("stopping")).graceMs, 50);
        await scene.happened("killed");
      },
    },
    {
      keys: ["rolling.max_surge"],
      changes: { "web/rolling": { max_surge: 0, max_unavailable: 1, min_ready: "0s" } },
      workers: "kept",
      shows: async (scene) => {
        await commandOk(scene.controller, "restart", "web");
        assert.deepEqual(order(scene), ["stopping", "spawned", "stopping", "spawned"]);
      },
    },
    {
      keys: ["rolling.max_unavailable"],
      changes: { "web/rolling.max_unavailable": 2 },
      workers: "kept",
      shows: async (scene) => {
        await commandOk(scene.controller, "restart", "web");
        assert.deepEqual(order(scene), ["stopping", "stopping", "spawned", "spawned"]);
      },
    },
    {
      keys: ["rolling.min_ready"],
      changes: { "web/rolling": { min_ready: "300ms" } },
      workers: "kept",
      shows: async (scene) => {
        await commandOk(scene.controller, "restart", "web");
        const { evidence, afterMs } = await scene.happened("ready");
        assert.ok(evidence === "none" && afterMs >= 300, `ready after ${afterMs} ms`);
        await scene.change({ "web/rolling.min_ready": "0s" });
      },
    },
    {
      keys: ["startup_wait_time"],
      changes: { "web/startup_wait_time": "400ms", "web/replicas": 4 },
      workers: "changed",
      shows: async (scene) => {
        await scene.happened("starting", ({ delayMs }) => delayMs > 300);
        await scene.change({ "web/startup_wait_time": "0s", "web/replicas": 1 });
      },
    },
    {
      keys: ["limits.lifespan"],
      changes: { "web/limits.lifespan": "200ms" },
      workers: "changed",
      isOnlyBegun: true,
      shows: async (scene) => {
        await scene.happened("stopping", ({ cause }) => cause === "lifespan");
        await scene.change({ "web/limits": undefined }, "begun");
      },
    },
    {
      keys: ["limits.memory"],
      changes: { "web/limits.memory": "64KiB" },
      workers: "changed",
      isOnlyBegun: true,
      shows: async (scene) => {
        await scene.happened("limit_reached", ({ limit, reason }) => limit === "memory" && reason.includes("rss"));
        await scene.happened("stopping", ({ cause }) => cause === "memory");
      },
    },
    {
      keys: ["limits.memory_kind"],
      changes: { "web/limits.memory_kind": "pss" },
      workers: "changed",
      isOnlyBegun: true,
      shows: async (scene) => {
        await scene.happened("limit_reached", ({ reason }) => reason.includes("pss"));
      },
    },
    {
      keys: ["limits.memory_hard"],
      changes: { "web/limits": { memory_hard: "64KiB" } },
      workers: "changed",
      isOnlyBegun: true,
      shows: async (scene) => {
        const { reason } = await scene.happened("limit_reached", ({ limit }) => limit === "memory_hard");
        await scene.happened("stopping", (event) => event.signal === "SIGKILL" && event.reason === reason);
        await scene.change({ "web/limits": undefined, "web/signal_timeout": "50s" });
      },
    },
    {
      keys: ["supervisor.pre_stop_delay", "supervisor.shutdown_timeout"],
      changes: { "supervisor.pre_stop_delay": "300ms", "supervisor.shutdown_timeout": "900ms" },
      workers: "kept",
      shows: async (scene) => {
        const { controller } = scene;
        assert.deepEqual(await controller.stop(), { code: 1, signal: null });
        const requested = await scene.happened("controller_stopping");
        const stopping = await scene.happened("stopping");
        assert.ok(Date.parse(stopping.time) - Date.parse(requested.time) >= 290, "workers serve during pre_stop_delay");
        assert.match((await scene.happened("controller_killing")).reason, /900ms/u);
      },
    },
  ],
);

/** Starts and stops since the change, in order. */
function order({ controller, seq }: KeyScene): string[] {
  return controller.events.flatMap((event) =>
    event.seq > seq && /^(?:stopping|spawned)$/u.test(event.kind) ? [event.kind] : [],
  );
}

// Crashes

/** Exits with code 0 at USR1. */
const EXITS_AT_USR1 = 'trap "exit 0" USR1; echo up; sleep 1000 & wait';

/** Kills each new process of a pool until the nth event of this kind, which it returns. */
async function crash(scene: KeyScene, pool: string, kind: "backing_off" | "gave_up", nth = 1) {
  for (let time = 1; ; time++) {
    const spawned = () => scene.controller.events.filter((event) => event.kind === "spawned" && event.pool === pool);
    await scene.controller.until(() => spawned().length >= time, `process ${time} of ${pool}`);
    const last = spawned().at(-1);
    if (last?.kind === "spawned") process.kill(last.pid, "SIGKILL");
    const found = () => scene.eventsOf(kind).filter((event) => event.pool === pool);
    await scene.controller.until(() => found().length >= Math.min(time, nth), `${pool}: ${kind} ${time}`);
    const event = found()[nth - 1];
    if (event !== undefined) return event;
  }
}

async function delayOf(scene: KeyScene, pool: string, nth: number): Promise<number> {
  const event = await crash(scene, pool, "backing_off", nth);
  assert.ok(event.kind === "backing_off");
  return event.delayMs;
}

group("keys about crashes apply to running workers", () => {
  const pool = (more: Block) => ({ exec: "/bin/sleep", args: ["1000"], ...more });
  const backoff = (more: Block) => pool({ restart: { backoff: { initial: "50ms", jitter: 0, ...more } } });
  return {
    initial: backoff({}),
    factor: backoff({}),
    max: backoff({ factor: 10 }),
    jitter: backoff({}),
    reset: backoff({}),
    budget: pool({ restart: { on_exhausted: "give-up-worker" } }),
    window: pool({ max_restarts: 0, restart: { on_exhausted: "give-up-worker" } }),
    policy: { exec: "/bin/sh", args: ["-c", EXITS_AT_USR1] },
    expected: { exec: "/bin/sh", args: ["-c", EXITS_AT_USR1] },
    exhausted: pool({ max_restarts: 0, restart: { on_exhausted: "give-up-worker" } }),
  };
}, [
  {
    keys: [
      ...["initial", "factor", "max", "jitter", "reset_after"].map((key) => `restart.backoff.${key}`),
      "max_restarts",
      "restart_window",
    ],
    changes: {
      "initial/restart.backoff.initial": "70ms",
      "factor/restart.backoff.factor": 5,
      "max/restart.backoff.max": "60ms",
      "jitter/restart.backoff.jitter": 1,
      "reset/restart.backoff.reset_after": "1ms",
      "budget/max_restarts": 0,
      "window/restart_window": "7m",
    },
    workers: "kept",
    shows: async (scene) => {
      const delays = [
        delayOf(scene, "initial", 2),
        delayOf(scene, "factor", 3),
        delayOf(scene, "max", 3),
        delayOf(scene, "jitter", 2),
        delayOf(scene, "reset", 2),
      ];
      const [initial, factor, max, jitter, reset] = await Promise.all(delays);
      assert.deepEqual([initial, factor, max, reset], [70, 250, 60, 0]);
      assert.notEqual(jitter, 50);
      await crash(scene, "budget", "gave_up");
      const gaveUp = await crash(scene, "window", "gave_up");
      assert.match(gaveUp.reason, /within 7m/u);
    },
  },
  {
    keys: ["restart.policy", "restart.expected_exit_codes"],
    changes: { "policy/restart.policy": "on-failure", "expected/restart.expected_exit_codes": [0] },
    workers: "kept",
    shows: async (scene) => {
      for (const pool of ["policy", "expected"]) {
        await said(scene.controller, `${pool}-0`, "up");
        process.kill(await scene.controller.pidOf(`${pool}-0`), "SIGUSR1");
      }
      await scene.happened("ended", (event) => event.pool === "policy" && !event.isFailure);
      await scene.happened("exited", (event) => event.pool === "expected" && event.cause === "expected");
    },
  },
  {
    keys: ["restart.on_exhausted"],
    changes: {
      ...Object.fromEntries(["budget", "window"].map((pool) => [`${pool}/max_restarts`, 5])),
      "exhausted/restart.on_exhausted": "shutdown",
    },
    workers: "changed",
    isOnlyBegun: true,
    shows: async (scene) => {
      const { controller } = scene;
      process.kill(await controller.pidOf("exhausted-0"), "SIGKILL");
      assert.deepEqual(await controller.ended, { code: 1, signal: null });
    },
  },
]);

// Metrics of workers

const metricsPort = await freePorts(20);

const shownMetrics = async ({ controller }: KeyScene) => (await controller.call("GET", "/metrics/workers")).body;

/** Waits until /metrics/workers contains exactly these metrics. */
async function shows(scene: KeyScene, ...names: readonly string[]): Promise<void> {
  await eventually(async () => {
    const found = [...(await shownMetrics(scene)).matchAll(/^# TYPE (\S+)/gmu)].map(([, name = ""]) => name);
    return found.join() === names.join() ? true : undefined;
  }, `metrics ${names.join()}`);
}

group(
  "keys of the workers' metrics take effect",
  (directory) => ({ web: { exec: writeServer(directory), replicas: 2, metrics: { port: metricsPort, path: "/one" } } }),
  [
    {
      keys: ["metrics.path"],
      changes: { "web/metrics.path": "/two" },
      workers: "kept",
      shows: (scene) => shows(scene, "shown_two"),
    },
    {
      keys: ["metrics.port"],
      changes: { "web/metrics.port": metricsPort + 10 },
      workers: "replaced",
      shows: async (scene) => {
        assert.equal(
          variable(await scene.newPid(), "MONOCEROS_METRICS_PORT"),
          `${metricsPort + 10 + (await scene.happened("spawned")).slot}`,
        );
        await shows(scene, "shown_two");
      },
    },
    {
      keys: ["metrics.scope"],
      changes: { "web/metrics.scope": "pool" },
      workers: "replaced",
      shows: async (scene) => {
        await eventually(
          async () => ((await shownMetrics(scene)).includes('shown_two{pool="web"} 1\n') ? true : undefined),
          "one worker is scraped for the pool",
        );
      },
    },
    {
      keys: ["metrics.multiproc"],
      changes: { "web/metrics.multiproc": true },
      workers: "replaced",
      shows: (scene) => worker(scene, (pid) => variable(pid, "PROMETHEUS_MULTIPROC_DIR") !== undefined, true),
    },
    {
      keys: [],
      also: "the metrics block is removed",
      changes: { "web/metrics": undefined },
      workers: "replaced",
      shows: (scene) => shows(scene),
    },
  ],
);

// Autoscaling

group(
  "keys of autoscaling take effect",
  () => ({
    web: {
      exec: "/bin/sh",
      args: ["-c", "while :; do :; done"],
      nice: 19,
      autoscale: { max: 3, cpu: 0.01, up_after: "1h", down_after: "1h" },
    },
  }),
  [
    {
      keys: ["autoscale.min"],
      changes: { "web/autoscale.min": 2, "web/replicas": 2 },
      workers: "changed",
      shows: (scene) => hasWorkers(scene, 2),
    },
    {
      keys: ["autoscale.up_after"],
      changes: { "web/autoscale.up_after": "0s" },
      workers: "changed",
      isOnlyBegun: true,
      shows: (scene) => hasWorkers(scene, 3),
    },
    {
      keys: ["autoscale.cpu", "autoscale.down_after"],
      changes: { "web/autoscale.cpu": 1000, "web/autoscale.down_after": "0s" },
      workers: "changed",
      isOnlyBegun: true,
      shows: (scene) => hasWorkers(scene, 2),
    },
    {
      keys: ["autoscale.max"],
      changes: { "web/autoscale.max": 1, "web/autoscale.min": 1, "web/replicas": 1 },
      workers: "changed",
      isOnlyBegun: true,
      shows: (scene) => hasWorkers(scene, 1),
    },
  ],
);

async function hasWorkers({ controller }: KeyScene, count: number): Promise<void> {
  await eventually(async () => {
    const [pool] = (await controller.status()).pools;
    return pool?.workers.filter(({ phase }) => phase === "ready").length === count ? true : undefined;
  }, `${count} workers`);
}

// Behind Envoy

const proxyPorts = await freePorts(80);
const envoyAdmin = proxyPorts + 1;

async function dump(pattern: RegExp): Promise<void> {
  await eventually(async () => {
    const text = (await ask(envoyAdmin, "/config_dump?include_eds")).body.replaceAll(/\s+/gu, "");
    return pattern.test(text) ? true : undefined;
  }, `Envoy's configuration has ${pattern}`);
}

function ask(
  port: number,
  path: string,
  host = "127.0.0.1",
  headers: Readonly<Record<string, string>> = {},
): Promise<{ status: number; body: string }> {
  return new Promise((done, fail) => {
    get({ host, port, path, headers, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => done({ status: response.statusCode ?? 0, body }));
    }).on("error", fail);
  });
}

/** The subject of a TLS port's certificate. */
function certificateOf(port: number): Promise<string | undefined> {
  return new Promise((done, fail) => {
    const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false }, () => {
      done(String(socket.getPeerCertificate().subject["CN"]));
      socket.destroy();
    });
    socket.on("error", fail);
  });
}

const pem = (directory: string, name: string, text: string) => {
  writeFileSync(join(directory, name), text, { mode: 0o600 });
  return join(directory, name);
};

let envoy: number | undefined;

group(
  "keys of the proxy take effect",
  (directory) => ({
    web: {
      exec: writeServer(directory),
      server: {
        port_arg: { name: "--port", start_port: proxyPorts + 10, value_template: "{{.Port}}" },
        listener_address: "127.0.0.1",
        listener_port: proxyPorts,
        admin_port: envoyAdmin,
        health_check_path: "/first",
        drain_timeout: "5s",
      },
    },
  }),
  [
    {
      keys: ["server.health_check_path"],
      changes: { "web/server.health_check_path": "/second" },
      workers: "kept",
      shows: async ({ controller }) => {
        envoy = envoyPid(controller);
        // Envoy probes the running worker, and the controller probes the one that starts.
        await said(controller, "web-0", "asked /second");
        await commandOk(controller, "restart", "web");
        const [id = ""] = Object.keys(await controller.pids()).filter((each) => /^web-\d+$/u.test(each));
        await said(controller, id, "asked /second");
        assert.notEqual(id, "web-0");
        assert.deepEqual(saidBy(controller, id, "asked /first"), []);
      },
    },
    {
      keys: ["server.load_balancer_algorithm"],
      changes: { "web/server.load_balancer_algorithm": "LEAST_REQUEST" },
      workers: "kept",
      shows: () => dump(/policies\.least_request/u),
    },
    {
      keys: ["server.hash_on"],
      changes: { "web/server.load_balancer_algorithm": "MAGLEV", "web/server.hash_on": "header:x-one" },
      workers: "kept",
      shows: () => dump(/"header_name":"x-one"/u),
    },
    {
      keys: ["server.request_timeout"],
      changes: { "web/server.request_timeout": "200ms" },
      workers: "kept",
      shows: async () => assert.equal(await statusCode(proxyPorts, "/hang"), 504),
    },
    {
      keys: ["server.max_concurrent_per_worker"],
      changes: { "web/server.max_concurrent_per_worker": 7 },
      workers: "kept",
      shows: () => dump(/"per_host_thresholds":\[\{"max_connections":7/u),
    },
    {
      keys: ["server.max_queue"],
      changes: { "web/server.max_queue": 77 },
      workers: "kept",
      shows: () => dump(/"max_pending_requests":77/u),
    },
    {
      keys: ["server.worker_keepalive"],
      changes: { "web/server.worker_keepalive": "2500ms" },
      workers: "kept",
      shows: () => dump(/"idle_timeout":"2\.500s"/u),
    },
    {
      keys: ["server.access_log"],
      changes: { "web/server.access_log": true },
      workers: "kept",
      shows: async ({ controller }) => {
        await statusCode(proxyPorts, "/logged");
        await controller.until(
          () => recordsOf(controller.stdout).some(({ path }) => path === "/logged"),
          "the request is logged",
        );
      },
    },
    {
      keys: ["server.health_check_host"],
      changes: { "web/server.health_check_host": "example.com" },
      workers: "kept",
      shows: async ({ controller }) => {
        const [id = ""] = Object.keys(await controller.pids()).filter((each) => /^web-\d+$/u.test(each));
        await said(controller, id, "host example.com");
      },
    },
    {
      keys: ["server.max_headers"],
      changes: { "web/server.max_headers": 15 },
      workers: "kept",
      shows: async () => {
        const headers = Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`x-${index}`, "1"]));
        assert.equal((await ask(proxyPorts, "/", "127.0.0.1", headers)).status, 431);
      },
    },
    {
      keys: ["server.max_header_size"],
      changes: { "web/server.max_header_size": "2KiB" },
      workers: "kept",
      shows: async () => {
        assert.equal((await ask(proxyPorts, "/", "127.0.0.1", { "x-long": "x".repeat(4000) })).status, 431);
      },
    },
    {
      keys: ["server.trusted_hops"],
      changes: { "web/server.trusted_hops": 3 },
      workers: "kept",
      shows: () => dump(/"xff_num_trusted_hops":2/u),
    },
    {
      keys: ["server.listener_port"],
      changes: { "web/server.listener_port": proxyPorts + 2 },
      workers: "kept",
      shows: async () => assert.equal(await statusCode(proxyPorts + 2, "/"), 200),
    },
    {
      keys: ["server.listener_address"],
      changes: { "web/server.listener_address": "127.0.0.2" },
      workers: "kept",
      shows: async () => assert.equal((await ask(proxyPorts + 2, "/", "127.0.0.2")).status, 200),
    },
    {
      keys: [],
      also: "the tls block is added",
      changes: ({ directory }) => ({
        "web/server.listener_address": "127.0.0.1",
        "web/server.tls.cert": pem(directory, "cert-1.pem", TEST_CERTIFICATE),
        "web/server.tls.key": pem(directory, "key-1.pem", TEST_KEY),
      }),
      workers: "kept",
      shows: async () => assert.equal(await certificateOf(proxyPorts + 2), "localhost"),
    },
    {
      keys: ["server.tls.cert"],
      changes: ({ directory }) => ({ "web/server.tls.cert": pem(directory, "cert-2.pem", TEST_CERTIFICATE) }),
      workers: "kept",
      shows: () => dump(/cert-2\.pem/u),
    },
    {
      keys: ["server.tls.key"],
      changes: ({ directory }) => ({ "web/server.tls.key": pem(directory, "key-2.pem", TEST_KEY) }),
      workers: "kept",
      shows: async (scene) => {
        assert.equal(await certificateOf(proxyPorts + 2), "localhost");
        // Envoy does not show the path of its key, but its error names a key that it cannot read.
        const bad = pem(scene.directory, "key-3.pem", "no key");
        await assert.rejects(scene.change({ "web/server.tls.key": bad }), /key-3\.pem/u);
        scene.undo();
      },
    },
    {
      keys: ["server.drain_timeout"],
      changes: { "web/server.tls": undefined, "web/server.drain_timeout": "7s" },
      workers: "kept",
      shows: async (scene) => {
        await commandOk(scene.controller, "restart", "web");
        assert.equal((await scene.happened("draining")).boundMs, 7000);
      },
    },
    {
      keys: ["standby"],
      changes: { "web/standby": 1 },
      workers: "changed",
      shows: async (scene) => {
        const { controller, before } = scene;
        const now = await controller.pids();
        assert.equal(Object.keys(now).length, Object.keys(before).length + 1);
        for (const [id, pid] of Object.entries(before)) assert.equal(now[id], pid);
        await scene.change({ "web/standby": 0 });
      },
    },
    {
      keys: ["autoscale.in_flight"],
      changes: { "web/autoscale": { max: 2, in_flight: 1000, up_after: "0s" }, "web/server.request_timeout": "0s" },
      workers: "kept",
      shows: async (scene) => {
        const request = get({ host: "127.0.0.1", port: proxyPorts + 2, path: "/hang", agent: false }).on(
          "error",
          () => {},
        );
        try {
          await scene.change({ "web/autoscale.in_flight": 0.01 });
          await hasWorkers(scene, 2);
        } finally {
          request.destroy();
        }
        await scene.change({ "web/autoscale": undefined, "web/replicas": 2 });
        await scene.change({ "web/replicas": 1 });
      },
    },
    {
      keys: ["limits.requests"],
      changes: { "web/limits.requests": 3 },
      workers: "kept",
      shows: async (scene) => {
        for (let sent = 0; sent < 5; sent++) await statusCode(proxyPorts + 2, "/");
        await scene.happened("limit_reached", ({ limit }) => limit === "requests");
        await scene.happened("stopped");
        await scene.change({ "web/limits": undefined });
      },
    },
    {
      keys: ["server.port_arg.name"],
      changes: { "web/server.port_arg.name": "--listen" },
      workers: "replaced",
      shows: (scene) => worker(scene, (pid) => argument(pid, 2), "--listen"),
    },
    {
      keys: ["server.port_arg.value_template"],
      changes: { "web/server.port_arg.value_template": "127.0.0.1:{{.Port}}" },
      workers: "replaced",
      shows: (scene) => worker(scene, (pid) => argument(pid, 3)?.replace(/\d+$/u, ""), "127.0.0.1:"),
    },
    {
      keys: ["server.port_arg.start_port"],
      changes: { "web/server.port_arg.start_port": proxyPorts + 40 },
      workers: "replaced",
      shows: async (scene) => {
        const { slot } = await scene.happened("spawned");
        await worker(scene, (pid) => argument(pid, 3), `127.0.0.1:${proxyPorts + 40 + slot}`);
        assert.equal(await statusCode(proxyPorts + 2, "/"), 200);
      },
    },
    {
      keys: [],
      also: "a change from an argument to PORT",
      changes: { "web/server.port_arg": undefined, "web/server.start_port": proxyPorts + 50 },
      workers: "replaced",
      shows: async () => assert.equal(await statusCode(proxyPorts + 2, "/"), 200),
    },
    {
      keys: ["server.start_port"],
      changes: { "web/server.start_port": proxyPorts + 60 },
      workers: "replaced",
      shows: async (scene) => {
        const { slot } = await scene.happened("spawned");
        await worker(scene, (pid) => variable(pid, "PORT"), `${proxyPorts + 60 + slot}`);
        assert.equal(await statusCode(proxyPorts + 2, "/"), 200);
      },
    },
    {
      keys: [],
      also: "a change from ports to Unix sockets",
      changes: { "web/server.start_port": undefined, "web/server.socket_arg": { name: "--socket" } },
      workers: "replaced",
      shows: async () => assert.equal(await statusCode(proxyPorts + 2, "/"), 200),
    },
    {
      keys: ["server.socket_arg.name"],
      changes: { "web/server.socket_arg.name": "--uds" },
      workers: "replaced",
      shows: (scene) => worker(scene, (pid) => argument(pid, 2), "--uds"),
    },
    {
      keys: ["server.socket_arg.value_template"],
      changes: { "web/server.socket_arg.value_template": "unix:{{.Socket}}" },
      workers: "replaced",
      shows: async (scene) => {
        await worker(scene, (pid) => argument(pid, 3)?.slice(0, 6), "unix:/");
        assert.equal(await statusCode(proxyPorts + 2, "/"), 200);
      },
    },
    {
      keys: ["server.socket_env"],
      also: "a change from an argument to a variable",
      changes: {
        "web/server.socket_arg": undefined,
        "web/server.socket_env": "SOCKET",
        "web/args": ["--socket", "{{.Socket}}"],
      },
      workers: "replaced",
      shows: async (scene) => {
        const { slot } = await scene.happened("spawned");
        await worker(scene, (pid) => variable(pid, "SOCKET")?.endsWith(`/${slot}.sock`), true);
        assert.equal(await statusCode(proxyPorts + 2, "/"), 200);
      },
    },
    {
      keys: ["server.protocol"],
      changes: {
        "web/server.load_balancer_algorithm": "ROUND_ROBIN",
        "web/server.hash_on": undefined,
        "web/server.health_check_path": undefined,
        "web/server.protocol": "tcp",
      },
      workers: "replaced",
      shows: async ({ controller }) => {
        await dump(/filters\.network\.tcp_proxy/u);
        assert.equal(envoyPid(controller), envoy, "Envoy has not been restarted");
      },
    },
    {
      keys: ["server.signal_timeout"],
      changes: { "web/server.signal_timeout": "4s" },
      workers: "kept",
      shows: async (scene) => {
        await commandOk(scene.controller, "restart", "web-proxy");
        assert.equal((await scene.happened("stopping", ({ pool }) => pool === "web-proxy")).graceMs, 4000);
      },
    },
  ],
);

// Keys of class refused

const refusedPorts = await freePorts(12);

/** Keys that need a restart of the controller, with a change of each. */
const REFUSED: Readonly<Record<string, (scene: KeyScene) => Changes>> = {
  "admin.port": () => ({ "admin.port": refusedPorts + 3 }),
  "admin.token_file": ({ directory }) => {
    return { "admin.token_file": pem(directory, "token", `${"t".repeat(40)}\n`) };
  },
  "supervisor.runtime_dir": ({ directory }) => ({ "supervisor.runtime_dir": directory }),
  "sockets[].name": () => ({ "shared/sockets[].name": "other" }),
  "sockets[].listen": () => ({ "shared/sockets[].listen": `127.0.0.1:${refusedPorts + 4}` }),
  "sockets[].backlog": () => ({ "shared/sockets[].backlog": 99 }),
  "server.exec": () => ({ "web/server.exec": "dist/envoy" }),
  ...(process.getuid?.() === 0 ? { "server.user": () => ({ "web/server.user": "nobody" }) } : {}),
  "server.admin_port": () => ({ "web/server.admin_port": refusedPorts + 5 }),
  "server.proxy_config_path": ({ directory }) => ({ "web/server.proxy_config_path": directory }),
  "server.concurrency": () => ({ "web/server.concurrency": 2 }),
};
for (const key of [...Object.keys(REFUSED), "server.user", "admin.address", "admin.socket"]) testedKeys.add(key);

test("changes of keys that need a restart of the controller are reported and affect no worker", async (t) => {
  await using scene = await KeyScene.start((directory) => ({
    web: {
      exec: writeServer(directory),
      server: {
        port_arg: { name: "--port", start_port: refusedPorts + 7 },
        listener_address: "127.0.0.1",
        listener_port: refusedPorts,
      },
    },
    shared: {
      exec: "/bin/sleep",
      args: ["1000"],
      probes: { readiness: { exec: ["true"], period: "50ms" } },
      sockets: [{ name: "http", listen: `127.0.0.1:${refusedPorts + 1}`, backlog: 10 }],
    },
  }));
  const { controller } = scene;
  await controller.ready();
  const before = await controller.pids();
  for (const [key, changes] of Object.entries(REFUSED))
    await t.test(key, async () => {
      const { refused, operations } = await scene.change(changes(scene));
      const [{ path = "", reason = "" } = {}] = refused;
      assert.deepEqual([refused.length, operations, reason], [1, [], "needs a restart of the controller"]);
      assert.ok(path.endsWith(key.replace(/\[\].*/u, "")), path);
      // The next reload reports the key again, so the old value is in force.
      assert.deepEqual((await scene.reload()).refused, refused);
      assert.deepEqual(await controller.pids(), before);
      scene.undo();
    });
  await t.test("admin.address, admin.socket", async () => {
    await scene.reload();
    controller.configure({ address: "127.0.0.2" });
    const text = readFileSync(controller.configFile, "utf8");
    writeFileSync(controller.configFile, text.replace(controller.socket, `${controller.socket}-2`));
    const { status: code, body } = await controller.call("POST", "/v1/reload");
    assert.equal(code, 202, body);
    assert.deepEqual(
      (JSON.parse(body) as ReloadAccepted).refused.map(({ path }) => path),
      ["admin.address", "admin.socket"],
    );
  });
});

test("every key of the schema has a step that shows its effect, or a reason for having none", () => {
  const keys = [...changeClasses().keys()].map((path) => path.replace("supervisor.workers[].", ""));
  const known = new Set([...testedKeys, ...Object.keys(WITHOUT_STEP)]);
  assert.deepEqual({ without: keys.filter((key) => key !== "name" && !known.has(key)) }, { without: [] });
  assert.deepEqual({ unknown: [...known].filter((key) => !keys.includes(key)) }, { unknown: [] });
});
