import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { TARGET, WORKER } from "../../../test/support/probeTarget.ts";
import { ReadinessReports } from "./readinessReports.ts";

/** Reports of workers whose processes listen on port 81. */
function rig() {
  const clock = new FakeClock();
  const reported: string[] = [];
  const reports = new ReadinessReports({
    clock,
    owners: { listeningOf: () => Promise.resolve(["127.0.0.1:81"]) },
    report: (_, reason) => reported.push(reason),
  });
  const pass = async (seconds: number) => {
    for (let second = 0; second < seconds; second++) {
      clock.pass(1000);
      await turn();
    }
    return reported.splice(0);
  };
  return { reports, pass };
}

test("a wait is reported once, with where the processes of the worker listen", async () => {
  const { reports, pass } = rig();
  reports.begin(TARGET, "no answer yet", "probed");
  assert.equal(reports.textOf(WORKER), "no answer yet");
  assert.deepEqual(await pass(9), ["no answer yet; its processes listen on 127.0.0.1:81"]);
  assert.equal(reports.textOf(WORKER), "no answer yet; its processes listen on 127.0.0.1:81");
  reports.note(WORKER, "HTTP 500");
  assert.equal(reports.textOf(WORKER), "HTTP 500", "the listeners were seen before this attempt");
});

test("a worker that becomes unready while it waits keeps its wait, with the new reason", async () => {
  const { reports, pass } = rig();
  reports.begin(TARGET, "no answer yet", "probed");
  await pass(5);
  reports.begin(TARGET, "pid 7 listens on its port", "probed");
  assert.deepEqual(await pass(1), ["pid 7 listens on its port; its processes listen on 127.0.0.1:81"]);
  assert.equal((await pass(5)).length, 1, "the wait has taken 10 s");
});

test("a worker that only has to survive, or that is ready, is not reported", async () => {
  const { reports, pass } = rig();
  reports.begin(TARGET, "it has run for less than 10s", "survival");
  assert.deepEqual(await pass(20), []);
  reports.end(WORKER);
  reports.begin(TARGET, "no answer yet", "probed");
  reports.end(WORKER);
  assert.deepEqual(await pass(20), []);
  assert.equal(reports.textOf(WORKER), undefined);
});

test("a failed startup is explained with where the processes listen, if the worker still waits", async () => {
  const { reports } = rig();
  reports.begin(TARGET, "no answer yet", "probed");
  assert.equal(await reports.explain(WORKER, "failed 3 times"), "failed 3 times; its processes listen on 127.0.0.1:81");
  assert.equal(await reports.explain({ pool: 0, slot: 0, incarnation: 2 }, "failed 3 times"), "failed 3 times");
});
