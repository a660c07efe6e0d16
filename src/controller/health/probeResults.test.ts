import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import { TARGET, WORKER } from "../../../test/support/probeTarget.ts";
import type { WorkerRef } from "../../core/identity.ts";
import type { PoolSpec } from "../../core/spec.ts";
import { ProbeTally } from "../report/tallies.ts";
import { probeResults } from "./probeResults.ts";
import { ReadinessGate } from "./readinessGate.ts";
import { ReadinessReports } from "./readinessReports.ts";

/** The results of a worker that has just been spawned, and that listens on port 81. */
function rig(changes: Partial<PoolSpec> = {}) {
  const happened: string[] = [];
  const record = (what: string) => (_: WorkerRef, reason?: string) => {
    happened.push(reason === undefined ? what : `${what}: ${reason}`);
  };
  const spec = poolSpec({ readiness: { kind: "probed", timeoutMs: undefined }, ...changes });
  const gate = new ReadinessGate({ becameReady: record("ready"), becameUnready: record("unready") });
  const owners = { listeningOf: () => Promise.resolve(["127.0.0.1:81"]) };
  const reports = new ReadinessReports({ clock: new FakeClock(), owners, report: () => {} });
  const tally = new ProbeTally();
  const results = probeResults({
    daemon: {
      specOf: () => spec,
      report: (_, { kind, ...more }) => happened.push("reason" in more ? `${kind}: ${more.reason}` : kind),
    },
    gate,
    reports,
    tally,
    passed: () => happened.push("passed"),
    diagnose: () => Promise.resolve("it sleeps"),
  });
  gate.begin(WORKER);
  reports.begin(TARGET, "no answer yet", "probed");
  return { results, reports, tally, take: () => happened.splice(0) };
}

test("a worker whose probes pass is ready, after its address was accepted as its own", () => {
  const { results, take } = rig();
  results.becameReady(WORKER);
  assert.deepEqual(take(), ["passed", "ready"]);
  results.becameUnready(WORKER, "HTTP 500");
  assert.deepEqual(take(), ["unready: HTTP 500"]);
});

test("probes of liveness alone make neither a proxy nor a worker ready", () => {
  for (const changes of [{ role: "proxy" }, { readiness: { kind: "observed", surviveMs: 0 } }] as const) {
    const { results, take } = rig(changes);
    results.becameReady(WORKER);
    assert.deepEqual(take(), []);
  }
});

test("failures reach the daemon with what explains them", async () => {
  const { results, take } = rig();
  results.startupFailed(WORKER, "failed 3 times");
  results.livenessFailed(WORKER, "no answer");
  await turn();
  assert.deepEqual(take().sort(), [
    "livenessFailed: no answer; it sleeps",
    "startupFailed: failed 3 times; its processes listen on 127.0.0.1:81",
  ]);
});

test("every attempt is counted, and failures before readiness state what the worker waits for", () => {
  const { results, reports, tally } = rig();
  results.attempted(TARGET, "startup", { kind: "failure", reason: "HTTP 503" });
  results.attempted(TARGET, "liveness", { kind: "failure", reason: "HTTP 500" });
  results.attempted(TARGET, "startup", { kind: "success" });
  assert.equal(reports.textOf(WORKER), "HTTP 503");
  const totals = tally.totals().map(({ pool, purpose, result, count }) => [pool, purpose, result, count].join(" "));
  assert.deepEqual(totals, ["web startup failure 1", "web liveness failure 1", "web startup success 1"]);
});
