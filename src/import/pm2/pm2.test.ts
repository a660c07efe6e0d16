import assert from "node:assert/strict";
import { test } from "node:test";
import { type ReadImport, readImport, sourceOf } from "../../../test/support/importing.ts";
import { SourceError } from "../draft.ts";
import { type Json, parsePm2Text, readPm2Export } from "./document.ts";
import { translatePm2 } from "./translate.ts";

function translate(app: Json, env?: string): ReadImport {
  const source = sourceOf(JSON.stringify({ apps: [app] }, undefined, 2), "process.json");
  return readImport(translatePm2(parsePm2Text(source), { env }));
}

/** PM2's defaults, which are always written. */
const DEFAULTS = { stop_signal: "SIGINT", signal_timeout: "1.6s" };

test("an application with every translated key becomes a pool", () => {
  const { workers, ignored } = translate({
    name: "web app",
    script: "./app.js",
    args: "--a 'b c'",
    node_args: ["--max-old-space-size=512"],
    cwd: "/srv",
    instances: 4,
    env: { NODE_ENV: "production", N: 1, LITERAL: "{{.Slot}}" },
    max_memory_restart: "600M",
    kill_timeout: 8000,
    max_restarts: 10,
    min_uptime: "30s",
    restart_delay: 2000,
    stop_exit_codes: [0, 9],
    out_file: "/var/log/a.log",
    error_file: "/var/log/a.log",
    uid: "web",
    gid: 33,
    watch: false,
    vizion: false,
  });
  assert.deepEqual(ignored, []);
  assert.deepEqual(workers, [
    {
      name: "web-app",
      replicas: 4,
      exec: "node",
      args: ["--max-old-space-size=512", "./app.js", "--a", "b c"],
      env: { NODE_ENV: "production", N: "1", LITERAL: '{{"{{"}}.Slot}}', NODE_APP_INSTANCE: "{{.Slot}}" },
      cwd: "/srv",
      user: "web",
      group: "33",
      limits: { memory: "600MiB" },
      restart: {
        policy: "on-failure",
        expected_exit_codes: [9],
        on_exhausted: "give-up-worker",
        backoff: { initial: "2s", max: "2s", factor: 1 },
      },
      max_restarts: 10,
      rolling: { min_ready: "30s" },
      stop_signal: "SIGINT",
      signal_timeout: "8s",
      logs: { file: { path: "/var/log/a.log", max_size: "unlimited", only: true } },
    },
  ]);
});

test("the interpreter follows from the script, as in PM2", () => {
  for (const [app, exec, args] of [
    [{ script: "a.py" }, "python3", ["a.py"]],
    [{ script: "a.js", interpreter: "bun" }, "bun", ["a.js"]],
    [{ script: "./a", interpreter: "none" }, "./a", undefined],
    [{ script: "npm", args: "start" }, "npm", ["start"]],
    [{ script: "serve -s build" }, "serve", ["-s", "build"]],
    [{ script: "a && b" }, "sh", ["-c", "a && b"]],
    [{ exec: "a.rb", interpreterArgs: "-w" }, "ruby", ["-w", "a.rb"]],
  ] as const)
    assert.deepEqual(translate(app).workers[0], {
      name: translate(app).pools[0],
      exec,
      ...(args && { args }),
      ...DEFAULTS,
    });
});

test("instances in cluster mode share the port by Envoy if it is known", () => {
  const { workers, notes } = translate({ script: "a.js", exec_mode: "cluster", instances: "max", env: { PORT: 3000 } });
  assert.deepEqual(workers[0]?.["server"], { listener_port: 3000, start_port: 9100 });
  assert.deepEqual(workers[0]?.["env"], { NODE_APP_INSTANCE: "{{.Slot}}" });
  assert.equal(workers[0]?.["replicas"], "auto");
  assert.match(notes[0] ?? "", /cluster mode/u);
  assert.equal(translate({ script: "a.js", exec_mode: "cluster", instances: 2 }).workers[0]?.["server"], undefined);
});

test("--env merges the variables of an environment", () => {
  const app = { script: "a.js", env: { A: "1", B: "1" }, env_production: { B: "2" }, env_test: { B: "3" } };
  const chosen = translate(app, "production");
  assert.deepEqual(chosen.workers[0]?.["env"], { A: "1", B: "2" });
  assert.deepEqual(chosen.reasons, { "apps[0].env_test": "choose it with --env test" });
  assert.throws(() => translate(app, "prod"), /^SourceError: no application has env_prod$/u);
  assert.deepEqual(Object.keys(translate(app).reasons), ["apps[0].env_production", "apps[0].env_test"]);
});

test("an incremented variable becomes a template only if the slot can be appended", () => {
  const app = { script: "a.js", instances: 4, increment_var: "PORT" };
  const { workers } = translate({ ...app, env: { PORT: 3000 } });
  assert.deepEqual(workers[0]?.["env"], { PORT: "300{{.Slot}}", NODE_APP_INSTANCE: "{{.Slot}}" });
  assert.match(translate({ ...app, env: { PORT: 3001 } }).reasons["apps[0].increment_var"] ?? "", /only be appended/u);
  assert.match(
    translate({ ...app, instances: 12, env: { PORT: 3000 } }).reasons["apps[0].increment_var"] ?? "",
    /only be appended/u,
  );
});

test("what cannot be translated is listed with its line, also if the file is JavaScript", () => {
  const { ignored } = translate({ script: "a.js", cron_restart: "0 3 * * *", wait_ready: true, colour: 1 });
  assert.deepEqual(
    ignored.map(({ key, where }) => [key, where]),
    [
      ["apps[0].cron_restart", "process.json:5"],
      ["apps[0].wait_ready", "process.json:6"],
      ["apps[0].colour", "process.json:7"],
    ],
  );
  const text =
    "module.exports = { apps: [\n  { script: 'a', time: true },\n  { script: 'b', time: true, ...more },\n] };";
  const data = {
    apps: [
      { script: "a", time: true },
      { script: "b", time: true, watch: true },
    ],
  };
  const file = readPm2Export(sourceOf(text, "e.cjs"), data);
  assert.deepEqual([file.whereOf(1, "time"), file.whereOf(1, "watch")], ["e.cjs:3", "e.cjs"]);
});

test("data without applications is refused", () => {
  for (const text of ["{}", "[]", "*nowhere", '{"apps": {"a": 1}}', '{"apps": [1]}', "text", ""])
    assert.throws(() => parsePm2Text(sourceOf(text)), SourceError, text);
  assert.throws(() => parsePm2Text(sourceOf('{"apps": [', "p.json")), /^SourceError: p\.json:1: /u);
});
