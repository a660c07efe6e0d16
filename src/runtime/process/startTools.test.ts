import assert from "node:assert/strict";
import { test } from "node:test";
import { untilGone } from "../../../test/support/controller.ts";
import { SystemCallError } from "../os/linux.ts";
import { StartTools } from "./startTools.ts";
import { runTool, type ToolAnswer } from "./tool.ts";

async function sh(script: string, boundMs = 10_000): Promise<ToolAnswer> {
  using tools = new StartTools(undefined, "0.0");
  return await runTool(tools, { workerPid: undefined, file: "/bin/sh", argv: ["sh", "-c", script] }, boundMs);
}

test("the output of a tool on both streams is returned with its exit status", async () => {
  assert.deepEqual(await sh("echo out; echo err >&2; exit 3"), {
    status: { kind: "code", code: 3 },
    output: "out\nerr\n",
  });
  assert.deepEqual((await sh("kill -SEGV $$")).status, { kind: "signal", signal: "SIGSEGV" });
  assert.deepEqual(await sh("cat"), { status: { kind: "code", code: 0 }, output: "" });
});

test("a tool with more output than the limit still runs to its end", async () => {
  const { status, output } = await sh("head -c 3000000 /dev/zero");
  assert.deepEqual(status, { kind: "code", code: 0 });
  assert.equal(output.length, 1024 * 1024);
});

test("a tool that exceeds its time limit is killed with its group", async () => {
  const { status, output } = await sh("sleep 1000 & echo $!; wait", 300);
  assert.equal(status, undefined);
  await untilGone(Number(output));
});

test("disposing the start tools kills a running tool", async () => {
  const tools = new StartTools(undefined, "0.0");
  const running = runTool(tools, { workerPid: undefined, file: "/bin/sleep", argv: ["sleep", "1000"] }, 500);
  tools[Symbol.dispose]();
  assert.deepEqual(await running, { output: "", status: undefined });
});

test("a missing tool is a system call error", async () => {
  using tools = new StartTools(undefined, "0.0");
  await assert.rejects(
    runTool(tools, { workerPid: undefined, file: "/no/such", argv: ["x"] }, 1000),
    (error: unknown) => error instanceof SystemCallError && error.code === "ENOENT",
  );
});
