import assert from "node:assert/strict";
import { test } from "node:test";
import { untilGone } from "../../test/support/controller.ts";
import { type CommandResult, runCommand } from "./command.ts";
import { SystemCallError } from "./linux.ts";

function sh(script: string, timeoutMs = 10_000): CommandResult {
  return runCommand({ file: "/bin/sh", args: ["-c", script], env: { PATH: "/usr/bin:/bin", A: "b" }, timeoutMs });
}

test("what a program says on both streams is kept, with how it ended", () => {
  assert.deepEqual(sh("echo out $A; echo err >&2; exit 3"), {
    status: { kind: "code", code: 3 },
    output: "out b\nerr\n",
  });
  assert.deepEqual(sh("kill -SEGV $$").status, { kind: "signal", signal: "SIGSEGV" });
  assert.deepEqual(sh("cat"), { status: { kind: "code", code: 0 }, output: "" });
});

test("a program that says more than is kept still comes to its end", () => {
  const { status, output } = sh("head -c 3000000 /dev/zero");
  assert.deepEqual(status, { kind: "code", code: 0 });
  assert.ok(output.length >= 1024 * 1024 && output.length < 1200 * 1024, String(output.length));
});

test("a program that does not end is killed with what it started", async () => {
  const { status, output } = sh("sleep 1000 & echo $!; wait", 200);
  assert.deepEqual(status, { kind: "timeout" });
  await untilGone(Number(output));
});

test("a program that is not there is an error of the system", () => {
  assert.throws(
    () => runCommand({ file: "/no/such", args: [], env: {}, timeoutMs: 1000 }),
    (error: unknown) => error instanceof SystemCallError && error.code === "ENOENT",
  );
});
