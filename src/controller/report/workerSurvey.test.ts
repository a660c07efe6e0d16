import assert from "node:assert/strict";
import { test } from "node:test";
import { controllerView, poolView, workerView } from "../../../test/support/view.ts";
import { chooseProcess, WorkerSurvey } from "./workerSurvey.ts";

const survey = new WorkerSurvey(() => controllerView([poolView([workerView(0, "ready")])]), {
  refresh: () => {},
  membersOf: (leader) => (leader === process.pid ? [process.pid, process.ppid] : []),
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
  const subjects = await survey.processesOf(process.pid);
  assert.equal(subjects.length, 2);
  assert.equal(chooseProcess("dump", workerView(0, "ready"), subjects, process.ppid).process.stat.pid, process.ppid);
  const pids = [process.pid, process.ppid].sort((a, b) => a - b).join(", ");
  assert.throws(() => chooseProcess("dump", workerView(0, "ready"), subjects, 0), {
    code: "PROCESS_UNKNOWN",
    message: `Cannot dump pid 0 of worker "web-0": its processes are ${pids}`,
  });
});

test("a leader without known members is its own tree", async () => {
  const subjects = await survey.processesOf(process.ppid);
  assert.deepEqual(
    subjects.map(({ process: { stat } }) => stat.pid),
    [process.ppid],
  );
});
