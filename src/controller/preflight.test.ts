import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerError, type ErrorCode } from "../base/errors.ts";
import { type LaunchKey, type LaunchPlan, planLaunch } from "../runtime/process/launch.ts";
import { ConfigurationError } from "./configFile.ts";
import { type MissingEnvoy, type Preflight, preflight } from "./preflight.ts";
import type { SystemChecks } from "./systemChecks.ts";

const ENV = { PATH: "/usr/bin:/bin" };

const PLAN: LaunchPlan = {
  file: "/bin/x",
  commands: new Map(),
  env: {},
  configured: new Set(),
  cwd: undefined,
  credentials: undefined,
  umask: undefined,
  nice: undefined,
  oomScoreAdj: undefined,
  rlimits: new Map(),
};

interface Outcome {
  readonly passed: Preflight | undefined;
  readonly error: ConfigurationError | undefined;
}

const CHECKS: SystemChecks = {
  availableCpus: () => 6,
  memoryBoundBytes: () => undefined,
  oomScoreAdj: () => 0,
  shimObstacles: () => [],
  ephemeralPorts: () => undefined,
  checkLaunch: () => PLAN,
  findEnvoy: async () => ({ file: "/bin/envoy", version: "1.40.0" }),
  async checkProxy() {},
  fileProblem: async () => undefined,
  checkWatches() {},
  chooseEnvoyUser: () => ({ credentials: undefined, mayLink: false }),
};

async function check(
  yaml: string,
  checkLaunch: SystemChecks["checkLaunch"] = () => PLAN,
  changes: Partial<SystemChecks> = {},
  missingEnvoy: MissingEnvoy = "problem",
): Promise<Outcome> {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-preflight-"));
  const file = join(directory, "c.yaml");
  writeFileSync(file, yaml);
  try {
    return {
      passed: await preflight(file, ENV, { ...CHECKS, checkLaunch, ...changes }, missingEnvoy),
      error: undefined,
    };
  } catch (error) {
    assert.ok(error instanceof ConfigurationError, String(error));
    return { passed: undefined, error };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function problems(outcome: Outcome): readonly (readonly [ErrorCode, string, number])[] {
  return (outcome.error?.problems ?? []).map(({ code, path, line }) => [code, path, line] as const);
}

test("a valid configuration yields its specification and a launch plan for each pool", async () => {
  const { passed } = await check(`supervisor:
  workers:
    - {name: a, exec: x, replicas: auto, rolling: {max_surge: 50%}}
    - {name: b, exec: y, replicas: 2}
`);
  assert.deepEqual(
    passed?.spec.pools.map(({ name, replicas, rollout }) => [name, replicas, rollout.maxSurge]),
    [
      ["a", 6, { percent: 50 }],
      ["b", 2, 1],
    ],
  );
  assert.equal(passed?.launches.length, 2);
});

test("launch problems of all pools are reported together, in file order", async () => {
  const found: Readonly<Record<string, readonly (readonly [LaunchKey, ErrorCode])[]>> = {
    a: [["exec", "EXEC_NOT_FOUND"]],
    b: [["cwd", "CWD_NOT_FOUND"]],
    d: [
      ["group", "USER_NOT_FOUND"],
      ["exec", "EXEC_NOT_FOUND"],
    ],
  };
  const outcome = await check(
    `supervisor:
  workers:
    - name: a
      exec: x
      replicas: 1
    - name: b
      exec: y
      replicas: 1
      standby: 0
      cwd: /no
    - name: c
      exec: z
      replicas: 1
    - name: d
      exec: z
      replicas: 1
      group: g
`,
    ({ pool }, _, onProblem) => {
      for (const [key, code] of found[pool] ?? [])
        onProblem(key, new ControllerError(code, `Cannot start pool "${pool}"`, { hint: "do it" }));
      return found[pool] === undefined ? PLAN : undefined;
    },
  );
  assert.deepEqual(problems(outcome), [
    ["EXEC_NOT_FOUND", "supervisor.workers[0].exec", 4],
    ["CWD_NOT_FOUND", "supervisor.workers[1].cwd", 10],
    ["EXEC_NOT_FOUND", "supervisor.workers[3].exec", 15],
    ["USER_NOT_FOUND", "supervisor.workers[3].group", 17],
  ]);
  assert.equal(outcome.error?.code, "CONFIG_INVALID");
  assert.match(
    outcome.error?.message ?? "",
    /c\.yaml has 4 problems:\n.*c\.yaml:4:7: supervisor\.workers\[0\]\.exec: Cannot start pool "a" \[EXEC_NOT_FOUND\]\n {2}hint: do it\n/u,
  );
});

test("if all problems have the same code the error has it too, with exit code 78", async () => {
  const { error } = await check("supervisor: {workers: [{name: a, exec: x, replicas: 1}]}", (_, __, onProblem) => {
    onProblem("exec", new ControllerError("EXEC_NOT_FOUND", 'Cannot start pool "a"'));
    return undefined;
  });
  assert.equal(error?.code, "EXEC_NOT_FOUND");
  assert.equal(error?.exitCode, 78);
  assert.match(error?.message ?? "", /has 1 problem:\n/u);
});

test("port ranges are checked with the resolved number of replicas", async () => {
  const ports = (replicas: string) => `admin: {port: 9005}
supervisor:
  workers:
    - name: a
      exec: x
      replicas: ${replicas}
      server: {listener_port: 80, port_arg: {name: -p, start_port: 9000}}
`;
  const found = async (replicas: string) => problems(await check(ports(replicas))).map(([, path]) => path);
  assert.deepEqual(await found("1"), []);
  assert.deepEqual(await found("auto"), ["supervisor.workers[0].server.port_arg.start_port"]);
});

test("Envoy problems are reported for the pool's server, together with all other problems", async () => {
  const yaml = `supervisor:
  workers:
    - name: a
      exec: x
      server:
        socket_arg: {name: -u}
    - name: b
      exec: x
      server:
        socket_arg: {name: -u}
        exec: ./nenvoy
        listener_port: 10001
    - {name: c, exec: x}
`;
  const requested: (string | undefined)[] = [];
  const outcome = await check(yaml, () => PLAN, {
    async findEnvoy({ exec }) {
      requested.push(exec);
      if (exec !== undefined) throw new ControllerError("ENVOY_TOO_OLD", "too old", { hint: "newer" });
      return { file: "/bin/envoy", version: "1.40.0" };
    },
    async checkProxy(_, { pool, drainTimeSeconds }) {
      throw new ControllerError("ENVOY_CONFIG_REFUSED", `${pool} drains ${drainTimeSeconds} s`);
    },
  });
  assert.deepEqual(requested, [undefined, "./nenvoy"]);
  assert.deepEqual(
    problems(outcome).filter(([code]) => code.startsWith("ENVOY")),
    [
      ["ENVOY_CONFIG_REFUSED", "supervisor.workers[0].server", 5],
      ["ENVOY_TOO_OLD", "supervisor.workers[1].server.exec", 11],
    ],
  );
  assert.match(outcome.error?.message ?? "", /a drains 3 s/u);
});

test("a missing Envoy can be reduced to a warning, unless the configuration sets server.exec", async () => {
  const yaml = (more: string) => `supervisor: {workers: [{name: a, exec: x, server: {socket_arg: {name: -u}${more}}}]}`;
  const missing = async () => {
    throw new ControllerError("ENVOY_NOT_FOUND", "no Envoy");
  };
  const codes = async (more: string, missingEnvoy: MissingEnvoy) =>
    problems(await check(yaml(more), () => PLAN, { findEnvoy: missing }, missingEnvoy))
      .map(([code]) => code)
      .filter((code) => code.startsWith("ENVOY"));
  assert.deepEqual(await codes("", "problem"), ["ENVOY_NOT_FOUND"]);
  assert.deepEqual(await codes("", "warning"), []);
  assert.deepEqual(await codes(", exec: ./e", "warning"), ["ENVOY_NOT_FOUND"]);
});

test("limits whose sum exceeds the control group's memory cause a warning that shows the sum [R5]", async () => {
  const yaml = `supervisor:
  workers:
    - name: a
      exec: x
      replicas: 4
      limits:
        memory: 512MiB
        memory_hard: 768MiB
      server:
        socket_arg: {name: -u}
    - {name: b, exec: x, replicas: 2, limits: {memory_hard: 100MiB}, rolling: {max_surge: 0, max_unavailable: 1}}
    - {name: c, exec: x, replicas: 100}
`;
  const warningsWith = async (boundMiB: number | undefined) => {
    const memoryBoundBytes = () => (boundMiB === undefined ? undefined : boundMiB * 2 ** 20);
    return (await check(yaml, undefined, { memoryBoundBytes })).passed?.warnings;
  };
  const needMiB = 5 * 512 + 2 * 100 + 70;
  assert.deepEqual(await warningsWith(undefined), []);
  assert.deepEqual(await warningsWith(needMiB), []);
  const [warning = "", ...others] = (await warningsWith(needMiB - 1)) ?? [];
  assert.deepEqual(others, []);
  assert.match(
    warning,
    /c\.yaml:7:9: supervisor\.workers\[0\]\.limits\.memory: .* need 2\.8 GiB \(5 × 512 MiB of pool "a", 2 × 100 MiB of pool "b", 1 × 70 MiB of pool "a-proxy"\), more than the 2\.8 GiB of this/u,
  );
});

test("traps of known programs are warnings at the position of the argument or key", async () => {
  const { passed } = await check(
    `supervisor:
  workers:
    - name: a
      exec: python3
      args: [-m, uvicorn, "a:a", --workers, 2,
        --reload]
      replicas: 2
      server:
        start_port: 9
        worker_keepalive: 6s
    - {name: b, exec: env, args: [unicorn], stop_signal: SIGQUIT}
    - {name: c, exec: unicorn}
    - {name: d, exec: uvicorn, replicas: auto}
`,
    (request) => ({ ...PLAN, env: request.env }),
  );
  assert.deepEqual(
    passed?.warnings.map((warning) => /(:\d+:\d+: \S+): /u.exec(warning)?.[1]),
    [
      ":5:34: supervisor.workers[0].args[3]",
      ":6:9: supervisor.workers[0].args[5]",
      ":10:9: supervisor.workers[0].server.worker_keepalive",
      ":12:7: supervisor.workers[2].stop_signal",
      ":13:17: supervisor.workers[3].exec",
    ],
  );
});

test("without memory limits the control group is not read", async () => {
  const memoryBoundBytes = () => assert.fail("the control group was read");
  const { passed } = await check(
    "supervisor: {workers: [{name: a, exec: x, server: {socket_arg: {name: -u}}}]}",
    undefined,
    {
      memoryBoundBytes,
    },
  );
  assert.deepEqual(passed?.warnings, []);
});

test("an unexpected exception in a check is rethrown, not reported as a configuration problem", async () => {
  await assert.rejects(
    () =>
      check("supervisor: {workers: [{name: a, exec: x, replicas: 1}]}", () => {
        throw new TypeError("bug");
      }),
    /bug/u,
  );
});

test("the error for an unreadable configuration names the file and the reason", async () => {
  const refused = (file: string, reason: RegExp) =>
    assert.rejects(
      () => preflight(file, ENV),
      (error: unknown) =>
        error instanceof ControllerError && error.code === "CONFIG_UNREADABLE" && reason.test(error.message),
    );
  await refused("/no/such.yaml", /^Cannot read configuration "\/no\/such\.yaml": there is no such file$/u);
  await refused("/", /it is a directory/u);
});

test("the real launch checks report missing executables", async () => {
  const outcome = await check(
    `supervisor:
  workers:
    - {name: a, exec: no-such-program}
    - name: b
      exec: sh
      probes:
        liveness: {exec: [no-such-probe]}
`,
    planLaunch,
  );
  assert.deepEqual(problems(outcome), [
    ["EXEC_NOT_FOUND", "supervisor.workers[0].exec", 3],
    ["EXEC_NOT_FOUND", "supervisor.workers[1].probes.liveness.exec", 7],
  ]);
});

test("a token file that is missing, a directory, empty or contains several words is a problem with its position", async () => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-token-"));
  const file = join(directory, "token");
  const yaml = (path: string) => `admin:\n  token_file: ${path}\nsupervisor: {workers: [{name: a, exec: x}]}\n`;
  try {
    for (const [path, text] of [
      [join(directory, "none"), undefined],
      [directory, undefined],
      [file, ""],
      [file, " \n"],
      [file, "two words"],
    ] as const) {
      if (text !== undefined) writeFileSync(file, text);
      assert.deepEqual(problems(await check(yaml(path))), [["TOKEN_FILE_INVALID", "admin.token_file", 2]]);
    }
    writeFileSync(file, "a-token-that-nobody-can-guess\n");
    chmodSync(file, 0o600);
    assert.deepEqual((await check(yaml(file))).passed?.warnings, []);
    chmodSync(file, 0o644);
    assert.match((await check(yaml(file))).passed?.warnings.join() ?? "", /every user can read it/u);
    writeFileSync(file, "short");
    const [warning = ""] = (await check(yaml(file))).passed?.warnings ?? [];
    assert.match(warning, /the token is short/u);
    assert.ok(!warning.includes('"short"'), "the warning does not reveal the token");
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("worker metrics that would be counted several times cause a warning", async () => {
  const warnings = async (metrics: string, variables: Readonly<Record<string, string>>, configured = false) => {
    const pool = `{name: a, exec: x, metrics: {port: 9100${metrics}}}`;
    const plan = { ...PLAN, env: variables, configured: new Set(configured ? Object.keys(variables) : []) };
    const { passed } = await check(`supervisor:\n  workers:\n    - ${pool}\n`, () => plan);
    return passed?.warnings.map((warning) => warning.replace(/^.*?c\.yaml/u, "c.yaml"));
  };
  const directory = { PROMETHEUS_MULTIPROC_DIR: "/tmp/x" };
  const [warning = ""] = (await warnings("", directory)) ?? [];
  assert.match(
    warning,
    /^c\.yaml:3:26: supervisor\.workers\[0\]\.metrics: PROMETHEUS_MULTIPROC_DIR is set, .*scope to pool/u,
  );
  assert.match((await warnings(", scope: worker", { prometheus_multiproc_dir: "x" }))?.[0] ?? "", /^c\.yaml.* is set/u);
  assert.deepEqual(await warnings("", {}), []);
  assert.deepEqual(await warnings(", scope: pool", directory), []);
  assert.deepEqual(await warnings(", multiproc: true", directory), []);
  assert.match((await warnings(", multiproc: true", directory, true))?.[0] ?? "", /multiproc replaces the PROM/u);
});

test("settings that need the spawn shim are rejected if it cannot be executed; others are accepted", async () => {
  const shimObstacles = () => ["from memory (EACCES)", "from /run/x (EPERM)"];
  const problemsFor = async (keys: string, plan: Partial<LaunchPlan> = {}) =>
    (
      await check(`supervisor: {workers: [{name: web, exec: x${keys}}]}`, () => ({ ...PLAN, ...plan }), {
        shimObstacles,
      })
    ).error?.problems;
  const credentials = { uid: 1, gid: 1, groups: [] };
  const [problem, ...others] = (await problemsFor(", nice: 1, user: app", { nice: 1, credentials })) ?? [];
  assert.deepEqual(others, []);
  assert.deepEqual(
    [problem?.code, problem?.path, problem?.column],
    ["SPAWN_SHIM_BLOCKED", "supervisor.workers[0].user", 54],
  );
  assert.equal(
    problem?.message,
    'Cannot start pool "web": the spawn shim, needed for user, nice, cannot be executed from memory (EACCES) or from /run/x (EPERM)',
  );
  for (const [keys, plan] of [
    [", umask: 022", { umask: 18 }],
    [", oom_score_adj: 500", {}],
    [", rlimits: {core: 0}", { rlimits: new Map([["core", { soft: 0, hard: undefined }]]) }],
    [", sockets: [{name: a, listen: /s}]", {}],
  ] as const)
    assert.equal((await problemsFor(keys, plan))?.[0]?.code, "SPAWN_SHIM_BLOCKED", keys);
  for (const keys of ["", ', oom_score_adj: "+500"', ", cwd: /tmp"]) assert.equal(await problemsFor(keys), undefined);
});

test("an oom_score_adj below the controller's own causes a warning", async () => {
  const warningsFor = async (value: string, own: number | undefined) => {
    const yaml = `supervisor: {workers: [{name: web, exec: x, oom_score_adj: ${value}}]}`;
    return (await check(yaml, undefined, { oomScoreAdj: () => own })).passed?.warnings ?? [];
  };
  const [warning = ""] = await warningsFor("500", 995);
  assert.match(
    warning,
    /c\.yaml:1:45: supervisor\.workers\[0\]\.oom_score_adj: 500 is below the controller's own 995: when memory runs out, the kernel kills the controller or Envoy first; write "\+500"/u,
  );
  assert.match((await warningsFor('"-1"', 995))[0] ?? "", /-1 puts workers below the controller/u);
  for (const [value, own] of [
    ["1000", 1000],
    ["500", 0],
    ['"+1"', 995],
    ["-5", undefined],
  ] as const)
    assert.deepEqual(await warningsFor(value, own), [], value);
});

test("worker, metrics and Envoy ports in the kernel's ephemeral range cause a warning unless they are reserved", async () => {
  const yaml = (start: number) =>
    `supervisor: {workers: [{name: web, exec: x, replicas: 3, server: {listener_port: 10000, port_arg: {name: -p, start_port: ${start}}}}]}`;
  const warningsFor = async (start: number, reserved: readonly { from: number; to: number }[] = []) => {
    const ephemeralPorts = () => ({ from: 32_768, to: 60_999, reserved });
    return (await check(yaml(start), undefined, { ephemeralPorts })).passed?.warnings ?? [];
  };
  assert.deepEqual(await warningsFor(9090), []);
  const [warning = "", ...others] = await warningsFor(40_000);
  assert.deepEqual(others, []);
  assert.match(
    warning,
    /supervisor\.workers\[0\]\.server\.port_arg\.start_port: ports 40000 to 40003 are in the range .*\(32768 to 60999, net\.ipv4\.ip_local_port_range\).*ip_local_reserved_ports=40000-40003$/u,
  );
  assert.match((await warningsFor(32_766))[0] ?? "", /reserved_ports=32768-32769$/u);
  assert.deepEqual(await warningsFor(61_000), []);
  assert.deepEqual(
    await warningsFor(40_000, [
      { from: 40_000, to: 40_001 },
      { from: 40_002, to: 40_010 },
    ]),
    [],
  );
  assert.equal((await warningsFor(40_000, [{ from: 40_000, to: 40_002 }])).length, 1);
});

test("too few inotify instances for the Envoy processes are a problem", async () => {
  const pools: string[][] = [];
  const yaml =
    "supervisor:\n  workers:\n    - { name: jobs, exec: x }\n" +
    "    - name: web\n      exec: x\n      server: { start_port: 9090, listener_port: 10000 }\n";
  const { error } = await check(yaml, undefined, {
    checkWatches(proxies) {
      pools.push(proxies.map(({ pool }) => pool));
      throw new ControllerError("INOTIFY_EXHAUSTED", "too few", { hint: "raise it" });
    },
  });
  assert.deepEqual(pools, [["web"]]);
  assert.match(error?.message ?? "", /too few/u);
});
