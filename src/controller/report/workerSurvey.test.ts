import assert from "node:assert/strict";
import { test } from "node:test";
import { controllerView, poolView, workerView } from "../../../test/support/view.ts";
import { chooseProcess, WorkerSurvey } from "./workerSurvey.ts";

/** This process is its own tree, which needs no comparison of its processes over time. */
const survey = new WorkerSurvey(() => controllerView([poolView([workerView(0, "ready")])]), {
  refresh: () => {},
  membersOf: () => [],
});

test("a slot that no longer exists is an error", () => {
  assert.equal(survey.workerIn(0, 0).id, "web-0");
  for (const [pool, slot] of [
    [0, 1],
    [1, 0],
  ] as const)
    assert.throws(() => survey.workerIn(pool, slot), { code: "WORKER_UNKNOWN" });
});

test("a process is chosen among those of the worker, and an error names them", async () => {
  const worker = workerView(0, "ready");
  const subjects = await survey.processesOf(process.pid);
  assert.equal(chooseProcess("dump", worker, subjects, process.pid).process.stat.pid, process.pid);
  assert.throws(() => chooseProcess("dump", worker, subjects, 0), {
    code: "PROCESS_UNKNOWN",
    message: `Cannot dump pid 0 of worker "web-0": no such process; its processes are ${process.pid}`,
  });
  assert.throws(() => chooseProcess("profile", worker, [], 7), {
    message: 'Cannot profile pid 7 of worker "web-0": it has no process',
  });
});
