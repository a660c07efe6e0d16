import assert from "node:assert/strict";
import { test } from "node:test";
import { LivenessVerdicts } from "./livenessVerdicts.ts";

/** Verdicts whose diagnoses end when the test says so, in their order. */
function rig() {
  const diagnoses: ((found: string | undefined) => void)[] = [];
  const told: unknown[][] = [];
  const verdicts = new LivenessVerdicts(
    () => new Promise((resolve) => diagnoses.push(resolve)),
    (...verdict) => told.push(verdict),
  );
  return { verdicts, diagnoses, told };
}

test("a verdict is told with its diagnosis, or without where there is none", async () => {
  const { verdicts, diagnoses, told } = rig();
  const first = verdicts.failed(0, 1, 2, "no answer");
  const second = verdicts.failed(0, 2, 2, "no answer");
  assert.deepEqual(told, []);
  diagnoses[0]?.("sleeps");
  diagnoses[1]?.(undefined);
  await Promise.all([first, second]);
  assert.deepEqual(told, [
    [0, 1, 2, "no answer; sleeps"],
    [0, 2, 2, "no answer"],
  ]);
});

test("a worker that answers while it is diagnosed is not told of, another one is", async () => {
  const { verdicts, diagnoses, told } = rig();
  const first = verdicts.failed(0, 1, 2, "no answer");
  const other = verdicts.failed(0, 1, 3, "no answer");
  verdicts.answered(0, 1, 2);
  for (const resolve of diagnoses) resolve(undefined);
  await Promise.all([first, other]);
  assert.deepEqual(told, [[0, 1, 3, "no answer"]]);
});

test("a failure after the answer is told once, by its own diagnosis", async () => {
  const { verdicts, diagnoses, told } = rig();
  const first = verdicts.failed(0, 1, 2, "first");
  verdicts.answered(0, 1, 2);
  const second = verdicts.failed(0, 1, 2, "second");
  for (const resolve of diagnoses) resolve(undefined);
  await Promise.all([first, second]);
  assert.deepEqual(told, [[0, 1, 2, "second"]]);
});
