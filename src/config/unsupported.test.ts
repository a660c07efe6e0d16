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
  for (const [path, keys] of [["autoscale", "autoscale: {max: 3, cpu: 0.5}"]] as const) {
    assert.deepEqual(unsupportedPaths(keys), [path]);
  }
});

test("values that change nothing are not refused", () => {
  assert.deepEqual(unsupportedPaths("", "{token_file: /t}"), []);
  assert.deepEqual(unsupportedPaths("", "{}", "runtime_dir: /r"), []);
  assert.deepEqual(
    unsupportedPaths("standby: 0, sockets: [], limits: {memory: 1GiB, memory_hard: 2GiB, memory_kind: pss}, server: "),
    [],
  );
  assert.deepEqual(
    unsupportedPaths(
      "user: 1, probes: {}, server: {socket_arg: {name: -u}}, sockets: [{name: s, listen: ':80'}], rlimits: {core: 0}, limits: {lifespan: 1h}, rolling: {max_surge: 2}",
    ),
    [],
  );
});
