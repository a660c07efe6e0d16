import assert from "node:assert/strict";
import inspector from "node:inspector";
import { test } from "node:test";
import { profileCpu, profileHeap } from "./selfProfile.ts";

const FOR_EVER = new AbortController().signal;

function hotFunctionOfThisTest(untilMs: number): number {
  let sum = 0;
  while (performance.now() < untilMs) sum += Math.sqrt(sum + 1);
  return sum;
}

test("the CPU profile contains the busy function, and no port is opened", async () => {
  const profiled = profileCpu(300, FOR_EVER);
  // Begins when the profiler runs.
  setTimeout(() => hotFunctionOfThisTest(performance.now() + 200), 50);
  const { nodes, samples = [] } = await profiled;
  const hot = nodes.filter(({ callFrame }) => callFrame.functionName === hotFunctionOfThisTest.name);
  assert.ok(hot.some(({ id }) => samples.includes(id)));
  assert.equal(inspector.url(), undefined);
});

test("the heap profile contains retained allocations", async () => {
  const kept: number[][] = [];
  const profiled = profileHeap(200, FOR_EVER);
  setTimeout(function allocateInThisTest() {
    for (let index = 0; index < 1000; index++) kept.push(Array.from({ length: 1000 }, () => index + 0.5));
  }, 50);
  const text = JSON.stringify(await profiled);
  assert.equal(kept.length, 1000);
  assert.match(text, /allocateInThisTest/u);
});

test("aborting ends a profile at once, and another one can follow", async () => {
  const startedAtMs = performance.now();
  await profileCpu(60_000, AbortSignal.timeout(20));
  await profileHeap(60_000, AbortSignal.abort());
  await profileCpu(60_000, AbortSignal.abort());
  assert.ok(performance.now() - startedAtMs < 30_000);
});
