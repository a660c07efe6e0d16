import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "./load.ts";
import { findUnsupported } from "./unsupported.ts";

function unsupportedPaths(keys: string, admin = "{}", supervisor = "shutdown_timeout: 60s"): readonly string[] {
  const pools = `[{name: a, exec: b, ${keys}}]`;
  const parsed = parseConfig(`admin: ${admin}\nsupervisor: {${supervisor}, workers: ${pools}}`, "c.yaml", {});
  assert.ok(parsed.ok, JSON.stringify(parsed));
  const found = findUnsupported(parsed.config, parsed.positions);
  for (const { reason, position } of found) assert.ok(reason !== "" && position !== undefined);
  return found.map(({ path }) => path.replace("supervisor.workers[0].", ""));
}

test("each key without machinery is named", () => {
  for (const [path, keys] of [
    ["server", "server: {socket_arg: {name: -u}}"],
    ["probes", "probes: {}"],
    ["limits.memory", "limits: {memory: 1GiB}"],
    ["limits.memory_hard", "limits: {memory_hard: 1GiB}"],
    ["limits.memory_kind", "limits: {memory_kind: pss}"],
    ["limits.requests", "limits: {requests: 5}"],
    ["standby", "standby: 1"],
    ["metrics", "metrics: {}"],
  ] as const) {
    assert.deepEqual(unsupportedPaths(keys), [path]);
  }
  assert.deepEqual(unsupportedPaths("", "{}", "runtime_dir: /r"), ["supervisor.runtime_dir"]);
});

test("values that change nothing are not refused", () => {
  assert.deepEqual(unsupportedPaths("", "{token_file: /t}"), []);
  assert.deepEqual(unsupportedPaths("standby: 0, sockets: [], limits: {memory: 0, memory_kind: rss}, server: "), []);
  assert.deepEqual(
    unsupportedPaths(
      "user: 1, sockets: [{name: s, listen: ':80'}], rlimits: {core: 0}, limits: {lifespan: 1h}, rolling: {max_surge: 2}",
    ),
    [],
  );
});
