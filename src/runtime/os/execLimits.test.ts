import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { findExecLimitProblem } from "./execLimits.ts";

const STACK_BYTES = 8 << 20;

/** Whether the kernel starts a program with these. */
function starts(args: readonly string[], env: Readonly<Record<string, string>>): boolean {
  const { error } = spawnSync("/bin/true", args, { env });
  if (error !== undefined) assert.match(error.message, /E2BIG/u);
  return error === undefined;
}

test("the limits for one argument and one variable match the kernel's", () => {
  for (const bytes of [131_071, 131_072]) {
    const arg = "x".repeat(bytes);
    const value = "x".repeat(bytes - "BIG=".length);
    assert.equal(findExecLimitProblem([arg], {}, STACK_BYTES) === undefined, starts([arg], {}));
    assert.equal(findExecLimitProblem([], { BIG: value }, STACK_BYTES) === undefined, starts([], { BIG: value }));
  }
});

test("a value that is too long is named with its size in bytes, not characters", () => {
  assert.match(
    findExecLimitProblem(["a", "ü".repeat(70_000)], {}, STACK_BYTES)?.text ?? "",
    /^argument 2 has 140000 bytes, and the kernel accepts at most 131071/u,
  );
  const secret = "s".repeat(200_000);
  const problem = findExecLimitProblem([], { TOKEN: secret }, STACK_BYTES);
  assert.equal(problem?.key, "env");
  assert.match(problem?.text ?? "", /^variable TOKEN has 200006 bytes/u);
  assert.ok(!JSON.stringify(problem).includes("sss"), "a value is never part of a message");
});

test("all values together may take a quarter of the stack limit, at least 128 KiB and at most 6 MiB", () => {
  const env = (kilobytes: number) =>
    Object.fromEntries(Array.from({ length: kilobytes / 100 }, (_, index) => [`V${index}`, "x".repeat(102_400)]));
  assert.equal(findExecLimitProblem([], env(1900), STACK_BYTES), undefined);
  assert.match(findExecLimitProblem([], env(2200), STACK_BYTES)?.text ?? "", /2[23]\d{5} bytes together/u);
  assert.equal(findExecLimitProblem([], env(5900), "unlimited"), undefined);
  assert.notEqual(findExecLimitProblem([], env(6300), "unlimited"), undefined);
  assert.equal(findExecLimitProblem([], env(100), 65_536), undefined);
  assert.notEqual(findExecLimitProblem([], env(200), 65_536), undefined);
});
