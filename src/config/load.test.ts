// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these tests use the syntax of variables
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Config, PoolConfig } from "./config.ts";
import { formatProblem, type ParsedConfig, type Problem, parseConfig } from "./load.ts";
import { renderTemplate, templateText } from "./template.ts";

const POOL = "name: web, exec: ./server";

function load(text: string, env: Record<string, string> = {}): ParsedConfig {
  return parseConfig(text, "config.yaml", env);
}

function accepted(text: string, env: Record<string, string> = {}): Config {
  const parsed = load(text, env);
  assert.ok(parsed.ok, parsed.ok ? "" : parsed.problems.map((problem) => formatProblem("c", problem)).join("\n"));
  return parsed.config;
}

/** The only pool of a file whose pool has these keys too. */
function poolWith(keys: string, env: Record<string, string> = {}): PoolConfig {
  const [pool] = accepted(`supervisor: {workers: [{${POOL}, ${keys}}]}`, env).supervisor.pools;
  assert.ok(pool);
  return pool;
}

function problemsOf(text: string, env: Record<string, string> = {}): readonly Problem[] {
  const parsed = load(text, env);
  assert.ok(!parsed.ok, `accepted: ${text}`);
  assert.ok(parsed.problems.length > 0);
  return parsed.problems;
}

/** The problems of a pool with these keys, as "path below the pool: message". */
function poolProblems(keys: string, env: Record<string, string> = {}): readonly string[] {
  return problemsOf(`supervisor: {workers: [{${POOL}, ${keys}}]}`, env).map(
    ({ path, message }) => `${path.replace(/^supervisor\.workers\[0\]\.?/u, "")}: ${message}`,
  );
}

for (const name of ["basic", "config", "httpbin"]) {
  test(`examples/${name}.yaml loads without warnings`, () => {
    const parsed = load(readFileSync(new URL(`../../examples/${name}.yaml`, import.meta.url), "utf8"));
    assert.deepEqual(parsed.ok ? parsed.warnings : parsed.problems, []);
  });
}

test("a file with only a name and an executable has every default", () => {
  assert.deepEqual(accepted(`supervisor: {workers: [{${POOL}}]}`), {
    admin: { port: 9000, address: "0.0.0.0", socket: undefined, tokenFile: undefined },
    supervisor: {
      shutdownTimeoutMs: 60_000,
      preStopDelayMs: 0,
      startParallelism: undefined,
      runtimeDir: undefined,
      pools: [
        {
          name: "web",
          type: "service",
          dependsOn: {},
          replicas: 1,
          autoscale: undefined,
          exec: "./server",
          command: undefined,
          args: [],
          env: {},
          envFile: undefined,
          cwd: undefined,
          user: undefined,
          group: undefined,
          umask: undefined,
          nice: undefined,
          oomScoreAdj: { value: 500, isRelative: true },
          rlimits: {},
          startupWaitMs: 0,
          stopSignal: "SIGTERM",
          stopSignalTarget: "group",
          signalTimeoutMs: 10_000,
          maxRestarts: undefined,
          restartWindowMs: 600_000,
          restart: {
            condition: "always",
            expectedExitCodes: [],
            backoff: { initialMs: 100, maxMs: 30_000, factor: 2, jitter: 0.2, resetAfterMs: 60_000 },
            onExhausted: "shutdown",
          },
          desiredHealthyPercentage: 75,
          limits: {
            lifespanMs: undefined,
            jitterRatio: 0,
            memoryBytes: undefined,
            memoryHardBytes: undefined,
            memoryKind: "rss",
            requests: undefined,
          },
          probes: undefined,
          rollout: { maxSurge: 1, maxUnavailable: 0, minReadyMs: 5000 },
          standby: 0,
          sockets: [],
          logs: { mode: "annotate", maxLineBytes: 1_048_576, stderrLevel: "info", file: undefined },
          metrics: undefined,
          server: undefined,
        },
      ],
    },
  });
});

test("a key without a value is the same as an absent key", () => {
  assert.deepEqual(
    accepted(`admin:\nsupervisor: {runtime_dir: ~, workers: [{${POOL}, args: , limits: null, server: }]}`),
    accepted(`supervisor: {workers: [{${POOL}}]}`),
  );
});

test("arguments keep their source text", () => {
  const { args } = poolWith('args: [0x10, 1.50, true, 1e3, -5, "null", 007, "", 2001-01-01]');
  assert.deepEqual(args.map(templateText), ["0x10", "1.50", "true", "1e3", "-5", "null", "007", "", "2001-01-01"]);
});

test("values are converted to the units in the names of their properties", () => {
  const pool = poolWith(
    "replicas: auto, umask: 0027, rlimits: {nofile: 65536, core: unlimited, stack: {soft: 1, hard: unlimited}}, " +
      "startup_wait_time: 500ms, stop_signal: usr1, signal_timeout: 1m30s, max_restarts: 0x10, user: 1000, nice: -5, " +
      "limits: {lifespan: 4h, memory: 512MiB, memory_hard: 1073741824}, rolling: {max_surge: 25%, max_unavailable: 1}",
  );
  assert.equal(pool.replicas, "auto");
  assert.equal(pool.umask, 0o27);
  assert.deepEqual(pool.rlimits, {
    nofile: { soft: 65_536, hard: undefined },
    core: { soft: "unlimited", hard: undefined },
    stack: { soft: 1, hard: "unlimited" },
  });
  assert.equal(pool.startupWaitMs, 500);
  assert.equal(pool.stopSignal, "SIGUSR1");
  assert.equal(pool.signalTimeoutMs, 90_000);
  assert.equal(pool.maxRestarts, 16);
  assert.equal(pool.user, "1000");
  assert.equal(pool.nice, -5);
  assert.equal(pool.limits.lifespanMs, 14_400_000);
  assert.equal(pool.limits.memoryBytes, 536_870_912);
  assert.equal(pool.limits.memoryHardBytes, 1_073_741_824);
  assert.deepEqual(pool.rollout, { maxSurge: { percent: 25 }, maxUnavailable: 1, minReadyMs: 5000 });
});

test("oom_score_adj is absolute, or relative if quoted with a sign; a variable needs no quotes", () => {
  const scoreOf = (value: string) => poolWith(`oom_score_adj: ${value}`, { SCORE: "+7", OTHER: "-7" }).oomScoreAdj;
  assert.deepEqual(scoreOf("-5"), { value: -5, isRelative: false });
  assert.deepEqual(scoreOf('"+300"'), { value: 300, isRelative: true });
  assert.deepEqual(scoreOf("'-300'"), { value: -300, isRelative: true });
  assert.deepEqual(scoreOf('"${SCORE}"'), { value: 7, isRelative: true });
  assert.deepEqual(scoreOf('"${OTHER}"'), { value: -7, isRelative: false });
});

test("values that the predecessor treated as unset are unset", () => {
  const pool = poolWith(
    "max_restarts: -1, signal_timeout: 0, limits: {lifespan: 0s, memory: 0}, " +
      "server: {port_arg: {name: -port, start_port: 9090}, listener_port: 0, admin_port: 0, load_balancer_algorithm: least_request}",
  );
  assert.equal(pool.maxRestarts, undefined);
  assert.equal(pool.signalTimeoutMs, 10_000);
  assert.equal(pool.limits.lifespanMs, undefined);
  assert.equal(pool.limits.memoryBytes, undefined);
  assert.equal(pool.server?.listenerPort, 10_000);
  assert.equal(pool.server?.adminPort, undefined);
  assert.equal(pool.server?.algorithm, "LEAST_REQUEST");
  assert.equal(poolWith("max_restarts: 0").maxRestarts, 0);
});

test("all problems are reported in file order, with line, column and path", () => {
  const text = `admin:
  prot: 9000
supervisor:
  shutdown_timeout: 30
  workers:
    - name: web
      replica: 4
      replicas: -1
      exec: ./server
    - replicas: 2
`;
  assert.deepEqual(
    problemsOf(text).map((problem) => formatProblem("config.yaml", problem)),
    [
      'config.yaml:2:3: admin: unknown key "prot", did you mean "port"?',
      'config.yaml:4:3: supervisor.shutdown_timeout: expected a duration such as "15s", at least 1ms, got 30 (write 30s)',
      'config.yaml:7:7: supervisor.workers[0]: unknown key "replica", did you mean "replicas"?',
      'config.yaml:8:7: supervisor.workers[0].replicas: expected a whole number from 1 to 10000, or "auto", got -1',
      "config.yaml:10:7: supervisor.workers[1].name: required, but missing",
      "config.yaml:10:7: supervisor.workers[1].exec: required, but missing; command is missing too",
    ],
  );
});

const REFUSED: readonly (readonly [keys: string, problem: string])[] = [
  ["replicas: 0", 'replicas: expected a whole number from 1 to 10000, or "auto", got 0'],
  ["replicas: 1.5", 'replicas: expected a whole number from 1 to 10000, or "auto", got 1.5'],
  ['replicas: "4"', 'replicas: expected a whole number from 1 to 10000, or "auto", got "4"'],
  ["replicas: [1]", 'replicas: expected a whole number from 1 to 10000, or "auto", got a list'],
  ["signal_timeout: 30", 'signal_timeout: expected a duration such as "15s", got 30 (write 30s)'],
  ["signal_timeout: -5s", 'signal_timeout: expected a duration such as "15s", got "-5s"'],
  ["startup_wait_time: soon", 'startup_wait_time: expected a duration such as "15s", got "soon"'],
  ["limits: {memory: 5 apples}", 'limits.memory: expected a size such as "512MiB", got "5 apples"'],
  ["limits: {jitter_ratio: 2}", "limits.jitter_ratio: expected a number from 0 to 1, got 2"],
  ["limits: {memory: 2GiB, memory_hard: 1GiB}", "limits.memory_hard: expected at least the value of memory"],
  ["autoscale: {max: 3}", "autoscale: expected either cpu or in_flight, got none"],
  ["autoscale: {cpu: 0.5}", "autoscale.max: required, but missing"],
  ["autoscale: {min: 4, max: 3, cpu: 0.5}", "autoscale.max: expected at least the value of min"],
  ["replicas: 2, autoscale: {min: 3, max: 4, cpu: 0.5}", "replicas: expected at least autoscale.min, which is 3"],
  ["replicas: 5, autoscale: {max: 4, cpu: 0.5}", "replicas: expected at most autoscale.max, which is 4"],
  ["replicas: 10001", 'replicas: expected a whole number from 1 to 10000, or "auto", got 10001'],
  ["replicas: 99999999999", 'replicas: expected a whole number from 1 to 10000, or "auto", got 99999999999'],
  ["autoscale: {max: 4, cpu: 0}", "autoscale.cpu: expected a number from 0.01 to 1024, got 0"],
  ["autoscale: {max: 4, in_flight: 3}", "autoscale.in_flight: requires server, because the proxy counts the requests"],
  [
    "autoscale: {max: 4, in_flight: 3, cpu: 0.5}, server: {socket_arg: {name: u}}",
    "autoscale.in_flight: expected either cpu or in_flight, got both",
  ],
  ["limits: 5", "limits: expected a block with lifespan, jitter_ratio, memory, …, got 5"],
  ["limits: {memory_kind: uss}", 'limits.memory_kind: expected one of rss, pss, got "uss"'],
  ["desired_healthy_percentage: 101", "desired_healthy_percentage: expected a whole number from 0 to 100, got 101"],
  ["max_restarts: many", 'max_restarts: expected a whole number, got "many"'],
  ["stop_signal: SIGSTOP", 'stop_signal: expected a signal that can end a process, such as "SIGTERM", got "SIGSTOP"'],
  [
    "oom_score_adj: +500",
    'oom_score_adj: expected a whole number from -1000 to 1000, or a quoted number with a sign such as "+500", got +500 ' +
      '(YAML reads it as 500; write "+500" for a value relative to the controller\'s own, or 500)',
  ],
  [
    'oom_score_adj: "500"',
    'oom_score_adj: expected a whole number from -1000 to 1000, or a quoted number with a sign such as "+500", got "500" ' +
      '(write 500 without quotes, or "+500" for a relative value)',
  ],
  [
    'oom_score_adj: "+1001"',
    'oom_score_adj: expected a whole number from -1000 to 1000, or a quoted number with a sign such as "+500", got "+1001"',
  ],
  ["umask: 99", 'umask: expected octal digits such as "022", got 99'],
  ["nice: 20", "nice: expected a whole number from -20 to 19, got 20"],
  ["rlimits: {nofil: 1}", 'rlimits.nofil: unknown limit "nofil", did you mean "nofile"?'],
  ["rlimits: {nofile: many}", 'rlimits.nofile: expected a whole number of at least 0, or "unlimited", got "many"'],
  ["rlimits: {core: {soft: 5, hard: 3}}", "rlimits.core.soft: expected at most the hard limit 3, got 5"],
  [
    "rlimits: {core: {soft: unlimited, hard: 3}}",
    "rlimits.core.soft: expected at most the hard limit 3, got unlimited",
  ],
  ["rlimits: {core: {hard: 3}}", "rlimits.core.soft: required, but missing"],
  ["args: ls", 'args: expected a list of strings, got "ls" (write ["ls"])'],
  ["args: [[a]]", "args[0]: expected a string, got a list"],
  ["args: [~]", 'args[0]: expected a string, got nothing (write "" for an empty string)'],
  ['args: ["a\\0b"]', "args[0]: expected text without zero bytes"],
  ['args: ["{{.Prot}}"]', 'args[0]: unknown template "{{.Prot}}", did you mean "Port"?'],
  ['args: [a, "{{.Port}}"]', "args[1]: {{.Port}} has no value without server.start_port or server.port_arg"],
  ['args: ["{{.Socket}}"]', "args[0]: {{.Socket}} has no value without server.socket_arg or server.socket_env"],
  ['env: {A: "{{.Fd}}"}', "env.A: {{.Fd}} has no value without sockets"],
  ["env: [A=b]", "env: expected a map of name to string, got a list (write NAME: value, without a dash)"],
  ['env: {"A=B": c}', 'env.A=B: expected a name without "=" and zero bytes'],
  ["env: {A: {}}", "env.A: expected a string, got a map"],
  ["cwd: ''", 'cwd: expected a string that is not empty, got ""'],
  ["restart: {backoff: {initial: 10s, max: 1s}}", "restart.backoff.max: expected at least the value of initial"],
  ["restart: {policy: sometimes}", 'restart.policy: expected one of always, on-failure, never, got "sometimes"'],
  [
    "restart: {expected_exit_codes: [256]}",
    "restart.expected_exit_codes[0]: expected a whole number from 0 to 255, got 256",
  ],
  ["stop_signal_target: tree", 'stop_signal_target: expected one of group, leader, got "tree"'],
  ["restart: {on_exhausted: die}", 'restart.on_exhausted: expected one of shutdown, give-up-worker, got "die"'],
  [
    "rolling: {max_surge: 0}",
    "rolling.max_surge: max_surge and max_unavailable are both 0, so no worker can be replaced",
  ],
  [
    "rolling: {max_surge: 101%}",
    'rolling.max_surge: expected a whole number of workers or a percentage such as "25%", got "101%"',
  ],
  [
    "server: {listener_port: 1}",
    "server: expected exactly one of start_port, port_arg, socket_arg and socket_env, got none",
  ],
  [
    "server: {port_arg: {name: -p, start_port: 9}, socket_arg: {name: -u}}",
    "server.socket_arg: expected exactly one of start_port, port_arg, socket_arg and socket_env, got port_arg and socket_arg",
  ],
  [
    "server: {start_port: 9, port_arg: {start_port: 9}, socket_arg: {name: -u}}",
    "server.socket_arg: expected exactly one of start_port, port_arg, socket_arg and socket_env, got start_port and port_arg and socket_arg",
  ],
  [
    'args: ["{{.Port}}"], server: {socket_arg: {name: -u}}',
    "args[0]: {{.Port}} has no value without server.start_port or server.port_arg",
  ],
  [
    'args: ["{{.Socket}}"], server: {start_port: 9}',
    "args[0]: {{.Socket}} has no value without server.socket_arg or server.socket_env",
  ],
  [
    "server: {start_port: 9, max_header_size: 9MiB}",
    'server.max_header_size: expected a size of at least 1KiB and at most 8MiB such as "512MiB", got "9MiB"',
  ],
  ["server: {port_arg: {name: -p}}", "server.port_arg.start_port: required, but missing"],
  [
    "server: {socket_arg: {name: -u}, load_balancer_algorithm: MAGLEV}",
    "server.load_balancer_algorithm: MAGLEV requires hash_on",
  ],
  [
    "server: {socket_arg: {name: -u}, protocol: tcp, hash_on: 'header:x'}",
    "server.hash_on: expected source_ip, because protocol tcp can hash nothing else",
  ],
  [
    "server: {socket_arg: {name: -u}, access_log: yes}",
    'server.access_log: expected true or false, got "yes" (write true)',
  ],
  [
    "probes: {liveness: {}}",
    "probes.liveness: expected exactly one of http, tcp, grpc, exec, notify, sd_notify, einhorn, got none",
  ],
  ["probes: {liveness: {notify: true}}", "probes.liveness.notify: a liveness probe does not support notify"],
  ["probes: {startup: {sd_notify: true}}", "probes.startup.sd_notify: a startup probe does not support sd_notify"],
  [
    "probes: {readiness: {einhorn: true}}",
    "probes.readiness.einhorn: requires sockets, because the protocol passes them to the worker",
  ],
  [
    "sockets: [{name: a, listen: /a}, {name: a, listen: /b}]",
    'sockets[1].name: duplicate name "a", another socket of the pool already has it',
  ],
  [
    "probes: {startup: {exec: [a], success_threshold: 2}}",
    "probes.startup.success_threshold: expected 1 for a startup probe, got 2",
  ],
  [
    "server: {start_port: 9}, probes: {liveness: {http: {headers: {a b: x}}}}",
    "probes.liveness.http.headers.a b: expected the name of a header, such as Host",
  ],
  [
    'server: {start_port: 9}, probes: {liveness: {http: {headers: {Host: "x\\ny"}}}}',
    'probes.liveness.http.headers.Host: expected the value of a header: visible ASCII characters, spaces and tabs, got "x\\ny"',
  ],
  [
    "probes: {readiness: {http: {path: x, port: 80}}}",
    'probes.readiness.http.path: expected a path that begins with "/", got "x"',
  ],
  [
    "probes: {readiness: {notify: false}}",
    "probes.readiness: expected exactly one of http, tcp, grpc, exec, notify, sd_notify, einhorn, got none",
  ],
  [
    "probes: {readiness: {tcp: {}}}",
    "probes.readiness.tcp: expected a port, because without server a worker has none of its own",
  ],
  [
    "probes: {liveness: {grpc: {service: a}}}",
    "probes.liveness.grpc: expected a port, because without server a worker has none of its own",
  ],
  [
    'probes: {startup: {exec: [a, "{{.Port}}"]}}',
    "probes.startup.exec[1]: {{.Port}} has no value without server.start_port or server.port_arg",
  ],
  ["metrics: {}", "metrics: expected a port, because without server a worker has none of its own"],
  ["sockets: [{name: http}]", "sockets[0].listen: required, but missing"],
  [
    "metrics: {port: 9100, multiproc: true, scope: worker}",
    "metrics.scope: expected pool, because with multiproc each worker answers for the whole pool",
  ],
  [
    "metrics: {port: 9100, multiproc: true}, env: {PROMETHEUS_MULTIPROC_DIR: /x}",
    "env.PROMETHEUS_MULTIPROC_DIR: metrics.multiproc sets this variable; remove one of them",
  ],
  [
    "logs: {max_line: 10}",
    'logs.max_line: expected a size of at least 1KiB and at most 64MiB such as "512MiB", got 10',
  ],
  ["colour: red", ': unknown key "colour"'],
];

for (const [keys, problem] of REFUSED) {
  test(`refused: ${keys}`, () => {
    assert.deepEqual(poolProblems(keys), [problem]);
  });
}

test("a pool name has at most 63 letters, digits, _ . and -", () => {
  for (const name of ["a b", "", "..", "-a", "a/b", "ü", "a".repeat(64)]) {
    assert.equal(problemsOf(`supervisor: {workers: [{name: ${JSON.stringify(name)}, exec: a}]}`).length, 1, name);
  }
  accepted(`supervisor: {workers: [{name: ${"a".repeat(63)}, exec: a}, {name: A_1.b-c, exec: a}, {name: 7, exec: a}]}`);
});

test("a duplicate pool name is refused at the second pool", () => {
  const [problem] = problemsOf("supervisor:\n  workers:\n    - {name: a, exec: x}\n    - {name: a, exec: y}\n");
  assert.deepEqual(problem, {
    line: 4,
    column: 8,
    path: "supervisor.workers[1].name",
    message: 'duplicate name "a", workers[0] already has it',
  });
});

test("a duplicate socket path is refused at the second socket, also across pools", () => {
  const pool = (name: string) => `{name: ${name}, exec: x, sockets: [{name: http, listen: /run/web.sock}]}`;
  const parsed = parseConfig(`supervisor: {workers: [${pool("a")}, ${pool("b")}]}`, "c.yaml", {});
  assert.ok(!parsed.ok);
  assert.deepEqual(
    parsed.problems.map(({ path, message }) => `${path}: ${message}`),
    ["supervisor.workers[1].sockets[0].listen: duplicate path, workers[0].sockets[0] already listens there"],
  );
});

test("a file without pools is refused", () => {
  assert.match(
    problemsOf("supervisor: {workers: []}")[0]?.message ?? "",
    /expected a list of length 1 or more, got 0/u,
  );
  assert.equal(problemsOf("supervisor: {}")[0]?.path, "supervisor.workers");
  assert.equal(problemsOf("admin: {}")[0]?.path, "supervisor");
});

test("pre_stop_delay must be shorter than shutdown_timeout; a longer grace period is a warning", () => {
  const delay = `supervisor: {shutdown_timeout: 5s, pre_stop_delay: 5s, workers: [{${POOL}}]}`;
  assert.equal(problemsOf(delay)[0]?.path, "supervisor.pre_stop_delay");
  const grace = load(`supervisor: {shutdown_timeout: 5s, workers: [{${POOL}, signal_timeout: 6s}]}`);
  assert.ok(grace.ok);
  assert.deepEqual(
    grace.warnings.map((warning) => warning.path),
    ["supervisor.workers[0].signal_timeout"],
  );
});

test("a probe of a port that all workers share is a warning, a probe of the worker's own port is not", () => {
  const warnedPaths = (keys: string) => {
    const loaded = load(`supervisor: {workers: [{${POOL}, ${keys}}]}`);
    assert.ok(loaded.ok);
    return loaded.warnings.map((warning) => warning.path);
  };
  const probes = "probes: {readiness: {http: {port: 80}}}";
  assert.deepEqual(warnedPaths(`replicas: 2, ${probes}`), ["supervisor.workers[0].probes.readiness.http.port"]);
  assert.deepEqual(warnedPaths(`replicas: 1, ${probes}`), []);
  assert.deepEqual(warnedPaths("replicas: 2, probes: {liveness: {tcp: {}}}, server: {socket_arg: {name: u}}"), []);
  assert.deepEqual(warnedPaths("replicas: 2, probes: {readiness: {notify: true}, liveness: {exec: [./check]}}"), []);
});

test("variables are replaced in values of every kind", () => {
  const env = { N: "4", WAIT: "2s", OFF: "false", SIZE: "1GiB", NAME: "x" };
  const pool = poolWith(
    'replicas: "${N}", signal_timeout: "${WAIT}", args: ["a-${NAME}", "$${NAME}", "${NONE:-d}"], ' +
      'limits: {memory: "${SIZE}"}, server: {socket_arg: {name: u}, access_log: "${OFF}"}',
    env,
  );
  assert.equal(pool.replicas, 4);
  assert.equal(pool.signalTimeoutMs, 2000);
  assert.deepEqual(pool.args.map(templateText), ["a-x", "${NAME}", "d"]);
  assert.equal(pool.limits.memoryBytes, 2 ** 30);
  assert.equal(pool.server?.accessLog, false);
  const text = "supervisor:\n  workers:\n    - name: a\n      exec: b\n      replicas: ${N}\n";
  assert.equal(accepted(text, env).supervisor.pools[0]?.replicas, 4);
});

test("the value of a variable is never parsed as YAML, and keys are not replaced", () => {
  assert.deepEqual(poolWith('args: ["${X}"]', { X: "a, b]\n- c: {d}" }).args, [["a, b]\n- c: {d}"]]);
  assert.deepEqual(poolWith('env: {"${X}": a}', { X: "KEY" }).env, { "${X}": ["a"] });
});

test("a problem does not show the value of a variable, which may be a secret", () => {
  assert.deepEqual(poolProblems('replicas: "${SECRET}"', { SECRET: "hunter2" }), [
    'replicas: expected a whole number from 1 to 10000, or "auto", got "${SECRET}", whose value is not shown',
  ]);
  assert.deepEqual(poolProblems('probes: {liveness: {http: {port: 1, path: "${SECRET}"}}}', { SECRET: "hunter2" }), [
    'probes.liveness.http.path: expected a path that begins with "/", got "${SECRET}", whose value is not shown',
  ]);
});

test("a pool with the name of a worker of another pool is a warning", () => {
  const warned = (...names: readonly string[]) => {
    const yaml = names.map((name) => `    - {name: ${name}, exec: x}\n`).join("");
    const loaded = parseConfig(`supervisor:\n  workers:\n${yaml}`, "c.yaml", {});
    assert.ok(loaded.ok);
    return loaded.warnings.map(({ path, message }) => `${path}: ${message}`);
  };
  assert.deepEqual(warned("job-0", "job"), [
    'supervisor.workers[0].name: a worker of pool "job" has the same name; commands use it for this pool',
  ]);
  assert.deepEqual(warned("job-a", "job-01", "job"), []);
});

/** Text that YAML, the syntax of variables and that of templates would each read as something else. */
const ODD_VALUES = [
  ..."yes null ~ 1e3 0x10 007 2001-01-01 #x *a &a !!int - ? | > % @ ` << {} [] {a: [b]} a:b".split(" "),
  ..."a: b|a #x|{{.Slot}}|{{ .Port }}|{{.Unknown}}|${NAME}|${NAME:-x}|$NAME|$$|$|%s%20%|'|\"|\\n|\\".split("|"),
  '{{"{{"}}',
  '{"a":{"b":"${c}"}}',
  "two\nlines\n",
  "\r\t ",
  " spaces ",
  "żółć 🎉",
];

test("the value of a variable reaches args, env and probe commands unchanged", () => {
  for (const value of ODD_VALUES) {
    const pool = poolWith(
      'args: ["${SECRET}", "--a=${SECRET}{{.Slot}}"], env: {A: \'${SECRET}\', B: "x${SECRET}${SECRET}"}, ' +
        'server: {port_arg: {name: --port, start_port: 1, value_template: "{{.Port}}${SECRET}"}}, ' +
        'probes: {readiness: {exec: ["${SECRET}"]}}, cwd: "/${SECRET}"',
      { SECRET: value, NAME: "wrong" },
    );
    const values = { Slot: 3, Port: 80 };
    const rendered = [...pool.args, ...Object.values(pool.env), ...(pool.probes?.readiness?.exec ?? [])];
    const place = pool.server?.portArg?.valueTemplate ?? [];
    assert.deepEqual(
      [...rendered, place].map((parts) => renderTemplate(parts, values)),
      [value, `--a=${value}3`, value, `x${value}${value}`, value, `80${value}`],
    );
    assert.equal(pool.cwd, `/${value}`);
  }
});

test("bytes that are not UTF-8 are kept in args and env and refused elsewhere; lone surrogates are refused", () => {
  const env = { BYTES: "a\udcff" };
  assert.deepEqual(poolWith('args: ["${BYTES}"]', env).args, [["a\udcff"]]);
  assert.deepEqual(poolProblems('cwd: "/${BYTES}"', env), ["cwd: expected UTF-8, got a variable whose value is not"]);
  assert.deepEqual(poolProblems('args: ["\\udcff"]'), [
    "args[0]: expected valid Unicode, got half of a surrogate pair (\\ud800 to \\udfff)",
  ]);
});

test("a pool name with an underscore is a warning, unless env sets MULTIPROCESS_WORKER_ID", () => {
  const warned = (keys: string) => {
    const loaded = load(`supervisor: {workers: [{exec: a, ${keys}}]}`);
    assert.ok(loaded.ok);
    return loaded.warnings.map(({ path, message }) => `${path}: ${message}`);
  };
  assert.match(warned("name: my_web").join(), /^supervisor.workers\[0\].name: .*my_web-0 contains "_".*"my-web"/u);
  assert.deepEqual(warned("name: my-web"), []);
  assert.deepEqual(warned('name: my_web, env: {MULTIPROCESS_WORKER_ID: "{{.Slot}}"}'), []);
});

test("the value of a variable is not parsed as a template, so no problem shows it", () => {
  assert.deepEqual(poolWith('env: {KEY: "${SECRET}"}', { SECRET: "p{{.w}}" }).env, { KEY: ["p{{.w}}"] });
  assert.deepEqual(poolProblems('env: {KEY: "{{.Prot}}${SECRET}"}', { SECRET: "p{{.w}}" }), [
    'env.KEY: unknown template "{{.Prot}}", did you mean "Port"?',
  ]);
});

test("an unset variable is reported at its key; an empty variable is not a number", () => {
  assert.deepEqual(poolProblems('replicas: "${N}"'), [
    "replicas: environment variable N is not set (write ${N:-default} for a default)",
  ]);
  assert.deepEqual(poolProblems('replicas: "${N}"', { N: "" }), [
    'replicas: expected a whole number from 1 to 10000, or "auto", got "${N}", whose value is empty',
  ]);
  assert.match(problemsOf("a: {b: ${N}}")[0]?.message ?? "", /needs quotes/u);
});

test("anchors, aliases and merge keys work; keys of the map itself take precedence", () => {
  const text = `
supervisor:
  workers:
    - &web
      name: web
      exec: ./server
      args: &args [a, b]
      limits: &limits { lifespan: 1h }
    - <<: *web
      name: other
      limits: { <<: [{ jitter_ratio: 0.5 }, *limits], lifespan: 2h }
    - { name: third, exec: c, args: *args }
`;
  const [, other, third] = accepted(text).supervisor.pools;
  assert.equal(other?.exec, "./server");
  assert.equal(other?.limits.lifespanMs, 7_200_000);
  assert.equal(other?.limits.jitterRatio, 0.5);
  assert.deepEqual(third?.args, [["a"], ["b"]]);
});

/** The hint for a key or value of a pool, as it appears in the problem. */
const HINTS: readonly (readonly [keys: string, hint: RegExp])[] = [
  // supervisord
  ["command: python app.py", /exec: conflicts with command; remove one of them/u],
  ["directory: /app", /write cwd/u],
  ["numprocs: 4", /write replicas/u],
  ["stopsignal: TERM", /write stop_signal/u],
  ["stopwaitsecs: 10", /write signal_timeout, such as 10s/u],
  ["autorestart: true", /write restart/u],
  ["startretries: 3", /write max_restarts/u],
  ["startsecs: 3", /write probes\.startup/u],
  ["stdout_logfile: /dev/stdout", /lines go to the controller's stdout/u],
  ["stopasgroup: true", /write stop_signal_target/u],
  // PM2
  ["instances: max", /write replicas/u],
  ["script: app.js", /write command .*, or exec/u],
  ["exec_mode: cluster", /write replicas/u],
  ["kill_timeout: 3000", /write signal_timeout/u],
  ["max_memory_restart: 300M", /write limits\.memory/u],
  ["wait_ready: true", /write probes/u],
  // docker compose, Kubernetes
  ["environment: {A: b}", /write env, a map/u],
  ["working_dir: /app", /write cwd/u],
  ["stop_grace_period: 10s", /write signal_timeout/u],
  ["healthcheck: {}", /write probes/u],
  ["ports: ['80:80']", /write server\.listener_port/u],
  ["image: x", /programs, not containers/u],
  ["terminationGracePeriodSeconds: 30", /write signal_timeout/u],
  ["readinessProbe: {}", /write probes/u],
  // systemd, circus, gunicorn, uWSGI
  ["WorkingDirectory: /app", /write cwd/u],
  ["ExecStart: /bin/app", /write command .*, or exec/u],
  ["EnvironmentFile: /etc/x", /write env_file/u],
  ["LimitNOFILE: 10", /write rlimits/u],
  ["OOMScoreAdjust: 10", /write oom_score_adj/u],
  ["numprocesses: 2", /write replicas/u],
  ["warmup_delay: 1", /write startup_wait_time/u],
  ["graceful_timeout: 30", /write signal_timeout/u],
  ["max_requests: 1000", /write limits\.requests/u],
  ["max-requests: 1000", /write limits\.requests/u],
  ["workdir: /app", /write cwd/u],
  ["cmd: app", /write command .*, or exec/u],
  // Blocks
  ["server: {socket_arg: {name: u}, port: 80}", /server: unknown key "port"; write listener_port/u],
  ["server: {socket_arg: {name: u}, timeout: 3s}", /write request_timeout/u],
  ["probes: {readiness: {tcp: {port: 1}, periodSeconds: 3}}", /write period, such as 10s/u],
  ["probes: {readiness: {httpGet: {path: /}}}", /write http/u],
  ["limits: {max_requests: 3}", /write requests/u],
  // Values
  ["limits: {memory: 512M}", /\(write 512MiB for powers of 1024, 512MB for powers of 1000\)/u],
  ["limits: {memory: 512mb}", /\(write 512MiB for powers of 1024, 512MB/u],
  ["limits: {memory: 512mib}", /\(write 512MiB\)/u],
  ["limits: {memory: 1g}", /\(write 1GiB for powers of 1024/u],
  ["signal_timeout: 10", /\(write 10s\)/u],
  ["signal_timeout: 5 min", /\(write 5m\)/u],
  ["signal_timeout: 1d", /\(write 24h\)/u],
  ["signal_timeout: 10 seconds", /\(write 10s\)/u],
  ["stop_signal: 15", /\(write SIGTERM\)/u],
  ["replicas: max", /\(write "auto" for one worker per CPU\)/u],
  ["args: --port 80", /\(write \["--port", "80"\]\)/u],
  ["args: 'a && b'", /\(write a list with an item for each word; no shell is involved\)/u],
  ["probes: {readiness: {exec: curl -f localhost}}", /\(write \["curl", "-f", "localhost"\]\)/u],
  ["env: [A=b]", /\(write NAME: value, without a dash\)/u],
  ["cwd: ~/app", /cwd: "~" is not expanded; write \$\{HOME\}\/app/u],
  ["env_file: '~'", /write \$\{HOME\}$/u],
  ["env_file: ~deploy/env", /write the path of the home directory/u],
];

for (const [keys, hint] of HINTS) {
  test(`a hint says what to write instead of ${keys}`, () => {
    assert.match(poolProblems(keys).join("\n"), hint);
  });
}

test("a hint says what to write at the top level, in supervisor and in admin, and for other file formats", () => {
  for (const [text, hint] of [
    ["services: {web: {}}", /unknown key "services"; write supervisor\.workers/u],
    ["apps: []", /write supervisor\.workers/u],
    ["supervisor: {pools: []}", /write workers, a list of pools/u],
    ["supervisor: {workers: [{name: a, exec: ~/a}]}", /exec: "~" is not expanded/u],
    ["admin: {host: 0.0.0.0}", /write address/u],
    ["[program:web]\ncommand=python app.py\n", /a supervisord configuration; expected YAML/u],
    [
      "[Unit]\nDescription=x\n[Service]\nExecStart=/x\n",
      /a systemd unit; .*\(`monoceros import systemd FILE` translates it\)/u,
    ],
    ["[watcher:web]\ncmd = x\n", /a circus configuration/u],
    ["module.exports = { apps: [] }\n", /a PM2 configuration in JavaScript/u],
    ["import os\nbind = '0.0.0.0:80'\nworkers = 4\n", /a gunicorn configuration/u],
    ["# comment\nweb: gunicorn app:app --workers 2\nworker: celery -A app worker\n", /a Procfile; .*for each line/u],
  ] as const)
    assert.ok(
      problemsOf(text).some(({ message, path }) => hint.test(`${path}: ${message}`)),
      `${text}: ${JSON.stringify(problemsOf(text))}`,
    );
});

test("a hint never shows the value of a variable", () => {
  assert.deepEqual(poolProblems('limits: {memory: "${S}"}', { S: "5M" }), [
    'limits.memory: expected a size such as "512MiB", got "${S}", whose value is not shown',
  ]);
});

const SYNTAX: readonly (readonly [what: string, text: string, line: number, column: number, message: RegExp])[] = [
  ["an empty file", "", 1, 1, /the file is empty/u],
  ["a file of comments", "# nothing\n\n", 1, 1, /the file is empty/u],
  ["a list at the top", "- a\n", 1, 1, /expected a block with admin, supervisor, got a list/u],
  ["a word at the top", "hello", 1, 1, /expected a block with admin, supervisor, got "hello"/u],
  ["a duplicate key", "admin: {}\nadmin: {}\n", 2, 1, /duplicate key "admin"/u],
  ["two documents", "admin: {}\n---\nadmin: {}\n", 2, 1, /^expected the end of the file, got another document/u],
  ["an open bracket", "admin: [1\n", 2, 1, /YAML: /u],
  ["a tab as indentation", "admin:\n\tport: 1\n", 2, 1, /YAML: .*[Tt]ab/u],
  ["an unknown anchor", "admin: *nobody\n", 1, 8, /nobody/u],
  ["an alias inside its anchor", "admin: &a [*a]\n", 1, 12, /is inside its own anchor/u],
  ["a merge of a word", "<<: x\n", 1, 1, /expected a map or a list of maps after <</u],
  ["a map as key", "{a: 1}: 2\n", 1, 1, /expected a string as key/u],
  ["nesting that is only deep", `a: ${"[".repeat(70)}${"]".repeat(70)}`, 1, 68, /deeper than 64 levels/u],
  ["an unknown tag", "admin: !thing x\n", 1, 8, /tag/u],
];

for (const [what, text, line, column, message] of SYNTAX) {
  test(`refused with its position: ${what}`, () => {
    const problem = problemsOf(text).find((candidate) => message.test(candidate.message));
    assert.ok(problem, JSON.stringify(problemsOf(text)));
    assert.deepEqual([problem?.line, problem?.column], [line, column]);
  });
}

test("very deep nesting is refused with one problem", () => {
  const deep = ["[", "{", "- ", "? ", "a: [", "&a [", "!a {"];
  for (const unit of deep) {
    const problems = problemsOf(unit.repeat(Math.floor(400_000 / unit.length)));
    assert.equal(problems.length, 1, unit);
    assert.match(problems[0]?.message ?? "", /^nested deeper than 64 levels$/u, unit);
    assert.ok((problems[0]?.column ?? 0) < 600, "the position of the first level beyond the limit");
  }
});

test("a file with too many tokens is refused before it is parsed completely", () => {
  for (const text of [`[${",".repeat(900_000)}`, "- b\n".repeat(200_000), "]".repeat(400_000), '"a" '.repeat(200_000)])
    assert.deepEqual(
      problemsOf(text).map(({ message }) => message),
      ["the file has more than 100000 YAML tokens"],
    );
});

test("a file of more than 1 MiB is refused without parsing", () => {
  assert.deepEqual(problemsOf("#".repeat(1024 * 1024 + 1)), [
    { line: 1, column: 1, path: "", message: "the file is longer than 1 MiB (1048577 characters)" },
  ]);
});

test("aliases and merge keys cannot expand a small file beyond the limits", () => {
  const items = Array.from({ length: 1000 }, () => "*a").join(",");
  const long = `supervisor: {workers: [{name: x, exec: &a ${"b".repeat(100_000)}, args: [${items}]}]}`;
  assert.match(problemsOf(long)[0]?.message ?? "", /aliases expand/u);
  const big = Array.from({ length: 5000 }, (_, index) => `k${index}: 1`).join(", ");
  const merges = `a: &a {${big}}\nb: [${Array.from({ length: 100 }, () => "{<<: *a}").join(", ")}]\n`;
  assert.ok(problemsOf(merges).some(({ message }) => /merge keys expand/u.test(message)));
});

test("the first 100 problems are listed and the others counted", () => {
  const keys = Array.from({ length: 150 }, (_, index) => `key${index}: 1`).join("\n");
  const problems = problemsOf(keys);
  assert.equal(problems.length, 101);
  assert.match(problems.at(-1)?.message ?? "", /^51 more problems$/u);
});

test("control characters of the file do not reach the terminal", () => {
  const [problem] = problemsOf('"\\e[31mred\\n": 1\nsupervisor: {workers: [{name: a, exec: b}]}\n');
  assert.ok(problem);
  const line = formatProblem("c.yaml", problem);
  assert.doesNotMatch(line, /[\u0000-\u001f]/u);
  assert.match(line, /red/u);
});

test("the positions of all set keys are available by path", () => {
  const parsed = load(`supervisor:\n  workers:\n    - name: a\n      exec: b\n      limits:\n        memory: 1GiB\n`);
  assert.ok(parsed.ok);
  assert.deepEqual(parsed.positions.get("supervisor.workers[0].limits.memory"), { line: 6, column: 9 });
  assert.equal(parsed.positions.has("supervisor.workers[0].args"), false);
});

test("keys that require a proxy or a port of each worker are refused without server", () => {
  const messages = (pool: string): readonly string[] => {
    const parsed = parseConfig(`supervisor: {workers: [{name: web, exec: b, ${pool}}]}`, "c.yaml", {});
    return parsed.ok ? [] : parsed.problems.map(({ path, message }) => `${path}: ${message}`);
  };
  assert.deepEqual(messages("limits: {requests: 5}"), [
    "supervisor.workers[0].limits.requests: requires server, because the proxy counts the requests",
  ]);
  assert.deepEqual(messages("probes: {readiness: {http: {path: /r}}, liveness: {tcp: {port: 80}}}"), [
    "supervisor.workers[0].probes.readiness.http: expected a port, because without server a worker has none of its own",
  ]);
  const server = "server: {socket_arg: {name: -u}}";
  assert.deepEqual(messages(`${server}, limits: {requests: 5}, probes: {readiness: {http: {}}}`), []);
});

test("behind a proxy, a limit that a server applies to itself is a warning with the key to use", () => {
  const warnings = (pool: string): readonly string[] => {
    const parsed = parseConfig(`supervisor: {workers: [{name: web, exec: b, ${pool}}]}`, "c.yaml", {});
    assert.ok(parsed.ok);
    return parsed.warnings.map(({ path, message }) => `${path}: ${message}`);
  };
  const server = "server: {socket_arg: {name: -u}}";
  for (const [keys, path, option, key] of [
    ["args: [--limit-max-requests, 100]", "args[0]", "--limit-max-requests", "requests"],
    ["args: [app, --max-requests=100]", "args[1]", "--max-requests", "requests"],
    ["args: [-c, 'exec uvicorn --limit-max-requests 9 a:b']", "args[1]", "--limit-max-requests", "requests"],
    ["args: [--workers-lifetime, 1h]", "args[0]", "--workers-lifetime", "lifespan"],
    ["env: {GUNICORN_CMD_ARGS: --max-requests 9}", "env.GUNICORN_CMD_ARGS", "--max-requests", "requests"],
    [
      "env: {UVICORN_LIMIT_MAX_REQUESTS: 9}",
      "env.UVICORN_LIMIT_MAX_REQUESTS",
      "UVICORN_LIMIT_MAX_REQUESTS",
      "requests",
    ],
  ] as const) {
    const [warning = "", ...others] = warnings(`${server}, ${keys}`);
    assert.ok(
      warning.startsWith(`supervisor.workers[0].${path}: ${option} makes all workers exit`),
      `${keys}: ${warning}`,
    );
    assert.ok(warning.includes(`write limits.${key},`), warning);
    assert.deepEqual(others, []);
    assert.deepEqual(warnings(`${server}, ${keys}, restart: {expected_exit_codes: [0]}`), []);
    assert.deepEqual(warnings(keys), []);
  }
  assert.deepEqual(warnings(`${server}, args: [--max-requests-jitter, 5, --no-max-requests]`), []);
  assert.deepEqual(warnings(`${server}, args: [--max-requests, 0, --limit-max-requests=0, app]`), []);
});

test("a pool with the name of a proxy is refused", () => {
  const parsed = parseConfig(
    "supervisor: {workers: [{name: web, exec: b, server: {socket_arg: {name: -u}}}, {name: web-proxy, exec: b}]}",
    "c.yaml",
    {},
  );
  assert.ok(!parsed.ok);
  assert.deepEqual(
    parsed.problems.map(({ path, message }) => `${path}: ${message}`),
    ["supervisor.workers[1].name: reserved for the proxy of workers[0]"],
  );
});

const WORKERS = (...pools: readonly string[]) =>
  pools.length === 1
    ? `supervisor: {workers: [{name: a, ${pools[0]}}]}`
    : `supervisor: {workers: [${pools.join(", ")}]}`;

/** The problems of a file, without file and position. */
function messagesOf(text: string): readonly string[] {
  const parsed = load(text);
  return parsed.ok
    ? []
    : parsed.problems.map(({ path, message }) => `${path.replace("supervisor.workers", "")}: ${message}`);
}

test("command is shell words, and an alternative to exec and args", () => {
  const [pool] = accepted(WORKERS(`command: "gunicorn -b '0.0.0.0:80' \${X:-a b}"`)).supervisor.pools;
  assert.deepEqual(pool?.command, [["gunicorn"], ["-b"], ["0.0.0.0:80"], ["a"], ["b"]]);
  assert.deepEqual(messagesOf(WORKERS("command: a, exec: b, args: [c]")), [
    "[0].exec: conflicts with command; remove one of them",
    "[0].args: conflicts with command; remove one of them",
  ]);
  assert.deepEqual(messagesOf(WORKERS("command: a, args: []")), [], "as config show prints it");
  assert.deepEqual(messagesOf(WORKERS("replicas: 2")), ["[0].exec: required, but missing; command is missing too"]);
  assert.deepEqual(messagesOf(WORKERS('command: " "')), [
    "[0].command: expected a program and its arguments, got an empty command",
  ]);
  assert.deepEqual(messagesOf(WORKERS("command: RAILS_ENV=production puma")), [
    "[0].command: the first word sets a variable; write env: {RAILS_ENV: …}",
  ]);
  assert.match(messagesOf(WORKERS('command: "{{.Slot}} a"'))[0] ?? "", /first word, got a template/u);
  assert.match(messagesOf(WORKERS('command: "a --port {{.Port}}"'))[0] ?? "", /command: \{\{\.Port\}\} has no value/u);
  assert.match(messagesOf(WORKERS("command: a | b"))[0] ?? "", /command: an unquoted "\|"; no shell runs/u);
});

test("a oneshot pool rejects the keys of services", () => {
  const rejected = (keys: string) => messagesOf(WORKERS(`exec: b, type: oneshot, ${keys}`)).join();
  for (const key of [
    "standby: 0",
    "probes: {liveness: {exec: [x]}}",
    "desired_healthy_percentage: 50",
    "limits: {lifespan: 1h}",
  ])
    assert.match(rejected(key), /has no effect in a oneshot pool, whose workers run once to completion/u, key);
  assert.match(rejected("max_restarts: -1"), /max_restarts: expected 0 or more/u);
  assert.equal(rejected("max_restarts: 2, limits: {memory_hard: 1GiB}, replicas: 2"), "");
});

test("depends_on names pools that can reach what is required, without a cycle", () => {
  const web = (on: string) => `{name: web, exec: a, depends_on: {${on}}}`;
  const migrate = "{name: migrate, type: oneshot, exec: a}";
  assert.deepEqual(messagesOf(WORKERS(web("migrate: completed"), migrate)), []);
  assert.deepEqual(messagesOf(WORKERS(web("migrte: completed"), migrate)), [
    '[0].depends_on.migrte: there is no pool "migrte", did you mean "migrate"?',
  ]);
  assert.match(messagesOf(WORKERS(web("migrate: ready"), migrate))[0] ?? "", /is oneshot, so it is never ready/u);
  assert.match(messagesOf(WORKERS(web("db: completed"), "{name: db, exec: a}"))[0] ?? "", /is a service, which never/u);
  assert.match(messagesOf(WORKERS(web("migrate: healthy"), migrate))[0] ?? "", /one of started, ready, completed/u);
  const cycle = ["c: started", "a: started", "b: ready"].map(
    (on, index) => `{name: ${"abc"[index]}, exec: a, depends_on: {${on}}}`,
  );
  assert.deepEqual(messagesOf(WORKERS("{name: x, exec: a, depends_on: {a: started}}", ...cycle)), [
    "[1].depends_on: these pools wait for each other: a → c → b → a",
  ]);
  assert.match(messagesOf(WORKERS(web("web: started"), migrate))[0] ?? "", /web → web/u);
});
