import assert from "node:assert/strict";
import { test } from "node:test";
import { configKind } from "./config.ts";
import { parseConfig } from "./load.ts";
import { blocksByKey } from "./misplaced.ts";

/** Messages about a file that has `key` in a block, which is a path such as `supervisor.workers[].server`. */
function messagesOf(key: string, block: string): string {
  let value = `{${key}: x}`;
  for (const step of block === "" ? [] : block.split(".").reverse()) {
    const name = step.replace("[]", "");
    value = `{${name}: ${step === name ? value : `[${value}]`}}`;
  }
  const result = parseConfig(value, "c.yaml", {});
  return result.ok ? "" : result.problems.map(({ message }) => message).join("\n");
}

test("every key in a wrong block has a hint that names the right block", () => {
  const blocks = blocksByKey(configKind);
  const all = new Set([...blocks.values()].flat());
  let count = 0;
  for (const [key, places] of blocks)
    for (const block of all) {
      if (places.includes(block)) continue;
      count++;
      assert.match(
        messagesOf(key, block),
        new RegExp(`unknown key "${key}"; (?:it belongs (?:in|at) |.*write |.*not supported|.*(?:see|every) )`, "u"),
        `${key} in ${block || "the file"}`,
      );
    }
  assert.ok(count > 500);
});

for (const [key, block, hint] of [
  ["start_port", "supervisor.workers[]", "it belongs in server"],
  ["http", "supervisor.workers[].probes", "it belongs in startup, in readiness or in liveness"],
  ["umask", "", "it belongs in supervisor.workers[]"],
  ["pre_stop_delay", "supervisor.workers[]", "it belongs in supervisor"],
  ["admin", "supervisor", "it belongs at the top level"],
  ["listener_port", "supervisor.workers[].limits", "it belongs in supervisor.workers[].server"],
] as const)
  test(`the hint for ${key} in ${block || "the file"}: ${hint}`, () => {
    const [message] = messagesOf(key, block)
      .split("\n")
      .filter((each) => each.startsWith("unknown key"));
    assert.equal(message, `unknown key "${key}"; ${hint}`);
  });
