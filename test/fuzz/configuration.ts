// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the input contains variables
/** The configuration loader. For any text it returns a configuration or problems with positions, soon and without exception. */
import assert from "node:assert/strict";
import { parseConfig } from "../../src/config/load.ts";
import { formatConfig } from "../../src/config/show.ts";
import type { SeededRandom } from "../support/random.ts";
import { mutated, simpleTarget, textOf } from "./target.ts";

/** Pools that together use every block. They are small, so that an edit is likely to hit something relevant. */
const FILES = [
  `admin: { port: 9000, address: 127.0.0.1, socket: /run/x.sock }
supervisor:
  shutdown_timeout: 60s
  workers:
    - name: web
      replicas: 4
      exec: ./server
      args: [--port, "{{.Port}}", 5]
      env: { KEY: "\${X:-x}", OTHER: 'a"b' }
      server: { port_arg: { name: --port, start_port: 9090 }, listener_port: 10000 }
`,
  `supervisor:
  workers:
    - name: web
      exec: ./server
      rlimits: { nofile: { soft: 1, hard: 2 }, core: unlimited }
      restart: { backoff: { initial: 100ms, max: 30s }, on_exhausted: shutdown }
      limits: { lifespan: 4h, jitter_ratio: 0.1, memory: 512MiB, memory_hard: 1GB }
      probes: { readiness: { http: { path: /r, port: 80, headers: { Host: x } } } }
      sockets: [{ name: http, listen: "0.0.0.0:8080" }]
    - { name: jobs, command: "./jobs -x", umask: "022", replicas: auto }
`,
  `supervisor:
  workers:
  - &base
    name: a
    exec: a
    autoscale: { max: 3, cpu: 0.7 }
    rolling: { max_surge: 25%, max_unavailable: 0 }
  - <<: *base
    name: b
    logs: { max_line: 1MiB, stderr_level: warn }
    metrics: { path: /m, scope: pool }
`,
];

const NOISE = [
  "\t",
  "\n",
  "\n  ",
  ": ",
  "- ",
  "{",
  "}",
  "[",
  "]",
  "&a ",
  "*a",
  "<<: *base\n",
  "\u0000",
  "\r",
  "---\n",
  "? ",
].concat(
  [
    "|",
    ">",
    "%",
    "!!str ",
    "!",
    "#",
    "'",
    '"',
    "${X}",
    "${",
    "$$",
    "{{.Prot}}",
    "{{",
    "-1",
    "0",
    "1e300",
    "auto",
    "10s",
    "5%",
  ],
  [
    "1GiB",
    "512M",
    "null",
    "~",
    "true",
    "[[[[",
    "{a: {a: {",
    "9".repeat(400),
    "name: web",
    "replicas:",
    "__proto__: 1\n",
  ],
  ["constructor", "é", "🎉", "\ud800", "\u0085", "\u2028", "  server: {}\n", "exec: x\n", "*base", "@", "`"],
);

function make(random: SeededRandom): string {
  if (random.chance(0.15)) return textOf(NOISE, random, 20);
  return mutated(random.pick(FILES), NOISE, random);
}

/** CPU time limit for parsing, far more than any of these small texts needs. */
const MAX_CPU_MS = 2000;

function check(text: string, random: SeededRandom): void {
  const before = process.cpuUsage();
  const parsed = parseConfig(text, "fuzz.yaml", { X: "7", EMPTY: "" });
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < MAX_CPU_MS * 1000, `${(user + system) / 1000} ms of CPU time`);
  if (parsed.ok) {
    // Only in some cases, because it takes most of the time.
    if (random.chance(0.9)) return;
    const shown = formatConfig(parsed.config, "json");
    const again = parseConfig(shown, "again", {});
    assert.ok(again.ok, "the printed configuration loads again");
    assert.equal(formatConfig(again.config, "json"), shown, "the printed configuration is equivalent");
    return;
  }
  assert.ok(parsed.problems.length > 0, "a rejected file has a problem");
  const lines = text.split(/\r\n|\n|\r/u);
  for (const { line, column, message } of parsed.problems) {
    assert.ok(line >= 1 && line <= lines.length + 1 && column >= 1 && message !== "", `${line}:${column}: ${message}`);
  }
}

export const CONFIGURATION = simpleTarget("configuration", make, check);
