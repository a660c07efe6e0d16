import assert from "node:assert/strict";
import { test } from "node:test";
import { refKey } from "../../core/identity.ts";
import { LivenessVerdicts } from "./livenessVerdicts.ts";

/** Verdicts whose diagnoses end when the test says so, in their order. */
function rig() {
  const diagnoses: ((found: string | undefined) => void)[] = [];
  const reports: string[] = [];
  const verdicts = new LivenessVerdicts(
    () => new Promise((resolve) => diagnoses.push(resolve)),
    (worker, reason) => reports.push(`${refKey(worker)} ${reason}`),
  );
  return { verdicts, diagnoses, reports };
}

test("a verdict is reported with its diagnosis, if there is one", async () => {
  const { verdicts, diagnoses, reports } = rig();
  const first = verdicts.failed({ pool: 0, slot: 1, incarnation: 2 }, "no answer");
  const second = verdicts.failed({ pool: 0, slot: 2, incarnation: 2 }, "no answer");
  assert.deepEqual(reports, []);
  diagnoses[0]?.("sleeps");
  diagnoses[1]?.(undefined);
  await Promise.all([first, second]);
  assert.deepEqual(reports, ["0/1/2 no answer; sleeps", "0/2/2 no answer"]);
});

test("a worker that answers during its diagnosis is not reported", async () => {
  const { verdicts, diagnoses, reports } = rig();
  const first = verdicts.failed({ pool: 0, slot: 1, incarnation: 2 }, "no answer");
  const other = verdicts.failed({ pool: 0, slot: 1, incarnation: 3 }, "no answer");
  verdicts.answered({ pool: 0, slot: 1, incarnation: 2 });
  for (const resolve of diagnoses) resolve(undefined);
  await Promise.all([first, other]);
  assert.deepEqual(reports, ["0/1/3 no answer"]);
});

test("a failure after an answer is reported once, with its own diagnosis", async () => {
  const { verdicts, diagnoses, reports } = rig();
  const first = verdicts.failed({ pool: 0, slot: 1, incarnation: 2 }, "first");
  verdicts.answered({ pool: 0, slot: 1, incarnation: 2 });
  const second = verdicts.failed({ pool: 0, slot: 1, incarnation: 2 }, "second");
  for (const resolve of diagnoses) resolve(undefined);
  await Promise.all([first, second]);
  assert.deepEqual(reports, ["0/1/2 second"]);
});
