import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { readStat } from "../os/procfs.ts";
import { sampleThreads, type ThreadSampling } from "./threadSampler.ts";

const FOR_EVER = new AbortController().signal;

async function start(context: TestContext, script: string, state: string): Promise<ChildProcess & { pid: number }> {
  const child = spawn("/bin/sh", ["-c", script], { stdio: "ignore" });
  context.after(() => child.kill("SIGKILL"));
  const { pid } = child;
  assert.ok(pid !== undefined);
  while (readStat(pid)?.state !== state && !context.signal.aborted) await turn();
  return Object.assign(child, { pid });
}

/** Share of the samples that have this frame. */
function share({ stacks }: ThreadSampling, frame: string): number {
  const all = stacks.reduce((sum, { count }) => sum + count, 0);
  const those = stacks.reduce((sum, { frames, count }) => sum + (frames.includes(frame) ? count : 0), 0);
  return those / all;
}

test("a busy loop is sampled as running", async (context) => {
  const { pid } = await start(context, "while :; do :; done", "R");
  const sampling = await sampleThreads(pid, { durationMs: 400, hz: 100, signal: FOR_EVER });
  assert.ok(share(sampling, "running") > 0.9, JSON.stringify(sampling));
  assert.deepEqual(sampling.stacks[0]?.frames.slice(0, 2), ["sh", "thread sh"]);
  assert.equal(sampling.hasEnded, false);
  const elapsedMs = sampling.stacks.reduce((sum, stack) => sum + stack.elapsedMs, 0);
  assert.ok(elapsedMs <= sampling.durationMs && elapsedMs > sampling.durationMs / 2, `${elapsedMs}`);
});

test("a stopped process is sampled as stopped", async (context) => {
  const { pid } = await start(context, "kill -STOP $$", "T");
  const sampling = await sampleThreads(pid, { durationMs: 100, hz: 50, signal: FOR_EVER });
  assert.equal(share(sampling, "stopped by a signal"), 1);
});

test("a process that exits meanwhile leaves the samples taken until then [D3]", async (context) => {
  const child = await start(context, "while :; do :; done", "R");
  const sampled = sampleThreads(child.pid, { durationMs: 60_000, hz: 100, signal: FOR_EVER });
  setTimeout(() => child.kill("SIGKILL"), 200);
  const sampling = await sampled;
  assert.equal(sampling.hasEnded, true);
  assert.ok(sampling.stacks.length > 0);
});

test("a missing process yields no samples, and aborting ends the sampling at once", async (context) => {
  const nobody = await sampleThreads(2 ** 22 + 1, { durationMs: 60_000, hz: 1, signal: FOR_EVER });
  assert.deepEqual([nobody.stacks, nobody.hasEnded], [[], true]);
  const { pid } = await start(context, "while :; do :; done", "R");
  const sampling = await sampleThreads(pid, { durationMs: 60_000, hz: 1, signal: AbortSignal.timeout(50) });
  assert.equal(sampling.hasEnded, false);
  assert.ok(sampling.durationMs < 30_000);
});
