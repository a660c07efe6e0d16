import assert from "node:assert/strict";
import { test } from "node:test";
import { stacksOfCpuProfile, stacksOfHeapProfile } from "./v8.ts";

function frame(functionName: string, lineNumber = -1): { functionName: string; url: string; lineNumber: number } {
  return { functionName, url: lineNumber < 0 ? "" : "main.js", lineNumber };
}

test("each CPU sample counts until the next sample; waiting is left out", () => {
  const stacks = stacksOfCpuProfile({
    nodes: [
      { id: 1, callFrame: frame("(root)"), children: [2, 3, 5] },
      { id: 2, callFrame: frame("(idle)") },
      { id: 3, callFrame: frame("main", 9), children: [4] },
      { id: 4, callFrame: frame("", 19) },
      { id: 5, callFrame: frame("(garbage collector)") },
    ],
    samples: [4, 2, 4, 5],
    timeDeltas: [100, 1000, 50_000, 3000],
    startTime: 1_000_000,
    endTime: 1_054_600,
  });
  assert.deepEqual(stacks, [
    {
      frames: [
        { name: "main", file: "main.js", line: 10 },
        { name: "(anonymous)", file: "main.js", line: 20 },
      ],
      values: [2, 4_000_000],
    },
    { frames: [{ name: "(garbage collector)", file: "", line: 0 }], values: [1, 500_000] },
  ]);
});

test("bytes in use belong to the stack that allocated them", () => {
  const leaf = { callFrame: frame("keep", 4), selfSize: 4096, children: [] };
  const main = { callFrame: frame("main", 0), selfSize: 0, children: [leaf] };
  assert.deepEqual(stacksOfHeapProfile({ head: { callFrame: frame("(root)"), selfSize: 0, children: [main] } }), [
    {
      frames: [
        { name: "main", file: "main.js", line: 1 },
        { name: "keep", file: "main.js", line: 5 },
      ],
      values: [4096],
    },
  ]);
});
