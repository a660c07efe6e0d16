import assert from "node:assert/strict";
import { test } from "node:test";
import { type Config, configKind } from "./config.ts";
import { type ConfigDiff, diffConfig, formatPlan, type PoolDiff } from "./diff.ts";
import type { Kind } from "./kind.ts";
import { formatProblem, parseConfig } from "./load.ts";

function load(text: string): Config {
  const parsed = parseConfig(text, "c.yaml", {});
  assert.ok(parsed.ok, parsed.ok ? "" : parsed.problems.map((problem) => formatProblem("c", problem)).join("\n"));
  return parsed.config;
}

function pools(...keys: readonly string[]): Config {
  return load(`supervisor: {workers: [${keys.map((each) => `{exec: ./server, ${each}}`).join(", ")}]}`);
}

/** The difference between two pools as "launch a, b | proxy c | refused d", with paths relative to the pool. */
function poolChange(before: string, after: string): string {
  return summary(diffConfig(pools(`name: web, ${before}`), pools(`name: web, ${after}`)));
}

function summary({ policy, refused, pools: [pool, ...more] }: ConfigDiff): string {
  assert.deepEqual([policy, more], [[], []]);
  const lists: [string, readonly string[]][] = [
    ["launch", pool?.launch ?? []],
    ["proxy", pool?.proxy ?? []],
    ["policy", pool?.policy ?? []],
    ["refused", refused.map(({ path }) => path)],
  ];
  return lists
    .filter(([, paths]) => paths.length > 0)
    .map(([label, paths]) => `${label} ${paths.map((path) => path.replace("supervisor.workers[0].", "")).join(", ")}`)
    .join(" | ");
}

const SERVER = "server: {socket_arg: {name: --uds}";

test("files that differ only in the order of keys have no difference", () => {
  const before = pools("name: web, env: {A: 1, B: 2}, args: [a, b], rlimits: {nofile: 5}, rolling: {max_surge: 25%}");
  const after = pools("rolling: {max_surge: 25%}, rlimits: {nofile: 5}, args: [a, b], env: {B: 2, A: 1}, name: web");
  const diff = diffConfig(before, after);
  assert.deepEqual(diff, { policy: [], refused: [], pools: [] });
  assert.deepEqual(formatPlan(diff), []);
});

test("another notation of a value and an explicit default are no difference", () => {
  assert.equal(poolChange("signal_timeout: 90s", "signal_timeout: 1m30s"), "");
  assert.equal(poolChange("max_restarts: -1", "replicas: 1"), "");
});

for (const [before, after, expected] of [
  ["args: [a]", "args: [b]", "launch args"],
  ["args: [a, b]", "args: [a]", "launch args"],
  ["env: {A: x}", "env: {A: y}", "launch env"],
  ["env: {A: x}", "env: {B: x}", "launch env"],
  ["rlimits: {nofile: 5}", "rlimits: {nofile: unlimited}", "launch rlimits"],
  ["logs: {mode: inherit}", "logs: {mode: annotate}", "launch logs.mode"],
  ["logs: {max_line: 2KiB}", "logs: {max_line: 4KiB}", "policy logs.max_line"],
  ["metrics: {port: 9100}", "metrics: {port: 9100, path: /m}", "policy metrics.path"],
  ["metrics: {port: 9100}", "metrics: {port: 9200}", "launch metrics.port"],
  ["metrics: {port: 9100}", "replicas: 1", "launch metrics"],
  ["nice: 1", "replicas: 1", "launch nice"],
  ["replicas: 1", "probes: {liveness: {exec: [x]}}", "launch probes"],
  ["probes: {liveness: {exec: [x]}}", "probes: {liveness: {exec: [x], period: 5s}}", "launch probes.liveness.period"],
  ["replicas: 1", "replicas: auto", "policy replicas"],
  ["limits: {lifespan: 1h}", "limits: {lifespan: 2h}", "policy limits.lifespan"],
  ["rolling: {max_surge: 1}", "rolling: {max_surge: 1%}", "policy rolling.max_surge"],
  ["restart: {backoff: {max: 9s}}", "replicas: 1", "policy restart.backoff.max"],
  [`${SERVER}}`, `${SERVER}, max_queue: 5, tls: {cert: c, key: k}}`, "proxy server.max_queue, server.tls"],
  [`${SERVER}, tls: {cert: c, key: k}}`, `${SERVER}, tls: {cert: d, key: k}}`, "proxy server.tls.cert"],
  [`${SERVER}}`, `${SERVER}, protocol: tcp}`, "launch server.protocol | proxy server.protocol"],
  [`${SERVER}}`, `server: {port_arg: {name: -p, start_port: 9}}`, "launch server.port_arg, server.socket_arg"],
  [`${SERVER}}`, "server: {start_port: 9}", "launch server.start_port, server.socket_arg"],
  [
    `${SERVER}}`,
    `${SERVER}, max_headers: 5, max_header_size: 1KiB, trusted_hops: 2, health_check_host: x}`,
    "proxy server.health_check_host, server.max_headers, server.max_header_size, server.trusted_hops",
  ],
  [
    "probes: {liveness: {http: {port: 1}}}",
    "probes: {liveness: {http: {port: 1, headers: {Host: a}}}}",
    "launch probes.liveness.http.headers",
  ],
  [`${SERVER}}`, `${SERVER}, drain_timeout: 5s}`, "proxy server.drain_timeout | policy server.drain_timeout"],
  [`${SERVER}}`, `${SERVER}, concurrency: 2}`, "refused server.concurrency"],
  [`${SERVER}}`, "replicas: 1", "refused server"],
  ["replicas: 1", `${SERVER}}`, "refused server"],
  ["replicas: 1", "sockets: [{name: a, listen: '127.0.0.1:81'}]", "refused sockets"],
  [
    "umask: 0022",
    "umask: 0027, replicas: 2, sockets: [{name: a, listen: /s}]",
    "launch umask | policy replicas | refused sockets",
  ],
] as const) {
  test(`changing ${before} to ${after} is ${expected}`, () => assert.equal(poolChange(before, after), expected));
}

test("pools are compared by name, regardless of their order", () => {
  const before = pools("name: a", "name: b, args: [x]", "name: c");
  const after = pools("name: d", "name: c", "name: b, args: [y]");
  assert.deepEqual(diffConfig(before, after).pools, [
    { name: "d", kind: "added", launch: [], proxy: [], policy: [] },
    { name: "b", kind: "changed", launch: ["supervisor.workers[2].args"], proxy: [], policy: [] },
    { name: "a", kind: "removed", launch: [], proxy: [], policy: [] },
  ] satisfies PoolDiff[]);
});

test("changes of the controller's own keys are refused, except the time limits of its shutdown", () => {
  const workers = "workers: [{name: a, exec: b}]";
  const after = `
admin: { port: 9001, address: "::1", socket: /s, token_file: /t }
supervisor: { shutdown_timeout: 30s, pre_stop_delay: 1s, runtime_dir: /r, ${workers} }`;
  const diff = diffConfig(load(`supervisor: {${workers}}`), load(after));
  assert.deepEqual(diff, {
    policy: ["supervisor.shutdown_timeout", "supervisor.pre_stop_delay"],
    refused: ["admin.port", "admin.address", "admin.socket", "admin.token_file", "supervisor.runtime_dir"].map(
      (path) => ({ path, reason: "needs a restart of the controller" }),
    ),
    pools: [],
  });
});

test("a change of any key is reported at its path", () => {
  const full = load(`
supervisor:
  workers:
    - name: web
      exec: ./server
      probes: { startup: &p { http: {}, period: 1s }, readiness: *p, liveness: *p }
      metrics: {}
      server: { port_arg: { name: -p, start_port: 1 }, tls: { cert: c, key: k } }`);
  const tried: string[] = [];
  // Changes one key after the other.
  const visit = (kind: Kind<unknown>, value: unknown, path: string, put: (value: unknown) => unknown): void => {
    if (kind.keys !== undefined && typeof value === "object" && value !== null) {
      const block = value as Readonly<Record<string, unknown>>;
      for (const [property, { yaml, kind: inner }] of Object.entries(kind.keys)) {
        const at = path === "" ? yaml : `${path}.${yaml}`;
        visit(inner, block[property], at, (changed) => put({ ...block, [property]: changed }));
      }
    } else if (path === "supervisor.workers" && kind.item !== undefined && Array.isArray(value)) {
      visit(kind.item, value[0], `${path}[0]`, (changed) => put([changed]));
    } else if (path !== "supervisor.workers[0].name") {
      tried.push(path);
      const { policy, refused, pools } = diffConfig(full, put("another value") as Config);
      const found = [...policy, ...refused.map((each) => each.path)];
      for (const pool of pools) found.push(...pool.launch, ...pool.proxy, ...pool.policy);
      assert.deepEqual([...new Set(found)], [path]);
    }
  };
  visit(configKind, full, "", (value) => value);
  assert.ok(tried.length > 60, String(tried.length));
  assert.ok(tried.includes("supervisor.workers[0].probes.liveness.http.path"));
});

test("the difference and the plan contain no values", () => {
  const before = pools("name: web, env: {TOKEN: hunter2}, args: [hunter2]");
  const after = pools("name: web, env: {TOKEN: hunter3}, args: [hunter3]");
  const diff = diffConfig(before, after);
  assert.doesNotMatch(JSON.stringify([diff, formatPlan(diff)]), /hunter|TOKEN/u);
});

test("the plan describes each action", () => {
  const before = load(`
supervisor:
  workers:
    - { name: web, exec: a, server: { socket_arg: { name: s } } }
    - { name: one, exec: a }
    - { name: old, exec: a }`);
  const after = load(`
admin: { port: 1 }
supervisor:
  shutdown_timeout: 5s
  workers:
    - { name: web, exec: a, args: [x], env: { K: v }, server: { socket_arg: { name: s }, max_queue: 5 } }
    - { name: one, exec: a, replicas: 3, rolling: { max_surge: 2 } }
    - { name: new, exec: a }`);
  const diff = diffConfig(before, after);
  assert.deepEqual(formatPlan(diff), [
    "controller: supervisor.shutdown_timeout applies at once",
    'pool "web": its workers are replaced because args, env changed',
    'pool "web": Envoy is reconfigured because server.max_queue changed; it is not restarted',
    'pool "one": replicas, rolling.max_surge apply at once; no worker is replaced',
    'pool "new" is added: its workers start',
    'pool "old" is removed: its workers stop',
  ]);
});
