import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "./load.ts";
import { formatConfig } from "./show.ts";

const TEXT = `
admin: { socket: /run/a.sock }
supervisor:
  workers:
    - name: web
      exec: ./server
      args: [0x10, "true", "$$HOME", "{{.Slot}}", '{{"{{"}}.Slot}}', "multi\\nline", "~"]
      env: { SECRET: hunter2, __proto__: x }
      umask: 0022
      rlimits: { nofile: 5, core: { soft: 1, hard: unlimited } }
      rolling: { max_surge: 25%, max_unavailable: 1 }
      limits: { lifespan: 90m, memory: 1500, memory_kind: pss }
      probes: { readiness: { http: { path: /r } }, liveness: { exec: [./check] } }
      sockets: [{ name: s, listen: "0.0.0.0:80" }]
      server: { socket_arg: { name: --uds }, request_timeout: 1.5s, tls: { cert: c, key: k } }
`;

for (const format of ["yaml", "json"] as const) {
  test(`a configuration shown as ${format} loads again unchanged, except for the values of env`, () => {
    const parsed = parseConfig(TEXT, "c.yaml", {});
    assert.ok(parsed.ok);
    const shown = formatConfig(parsed.config, format);
    assert.doesNotMatch(shown, /hunter2/u);
    const again = parseConfig(shown, "shown", {});
    assert.ok(again.ok, JSON.stringify(again));
    const [pool] = parsed.config.supervisor.pools;
    const [poolAgain] = again.config.supervisor.pools;
    assert.deepEqual(Object.entries(poolAgain?.env ?? {}), [
      ["SECRET", ["***"]],
      ["__proto__", ["***"]],
    ]);
    assert.deepEqual({ ...poolAgain, env: pool?.env }, pool);
    assert.deepEqual(again.config.admin, parsed.config.admin);
  });
}

test("the shown configuration includes defaults", () => {
  const parsed = parseConfig("supervisor: {workers: [{name: a, exec: b}]}", "c.yaml", {});
  assert.ok(parsed.ok);
  assert.match(formatConfig(parsed.config, "yaml"), /^ {6}signal_timeout: 10s$/mu);
});
