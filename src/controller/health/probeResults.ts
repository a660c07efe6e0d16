/** Passes the results of configured probes to the gate, the reports, the metric and the daemon. */
import { resultOf } from "../../core/policy/probe.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import type { ProbeListener } from "../../runtime/probe/prober.ts";
import type { ProbeTally } from "../report/tallies.ts";
import { LivenessVerdicts } from "./livenessVerdicts.ts";
import type { ReadinessGate, WorkerKey } from "./readinessGate.ts";
import type { ReadinessReports } from "./readinessReports.ts";

export function probeResults(options: {
  readonly daemon: Pick<Daemon, "specOf" | "startupFailed" | "livenessFailed" | "becameAlive">;
  readonly gate: ReadinessGate;
  readonly reports: ReadinessReports;
  readonly tally: ProbeTally;
  /** Called when the probes of a worker pass, before it counts as ready. */
  readonly passed: (worker: WorkerKey) => void;
  /** What a worker or proxy is doing; undefined if it has exited. Never rejects. */
  readonly diagnose: (...worker: WorkerKey) => Promise<string | undefined>;
}): ProbeListener {
  const { daemon, gate, reports, tally, passed, diagnose } = options;
  const verdicts = new LivenessVerdicts(diagnose, (...verdict) => daemon.livenessFailed(...verdict));
  return {
    becameReady: (...worker) => {
      const { role, readiness } = daemon.specOf(worker[0]);
      // An Envoy reports by itself that it serves. Without probes that decide about readiness, none has passed.
      if (role === "proxy" || readiness.kind === "observed") return;
      passed(worker);
      gate.withdraw(worker, "readiness");
    },
    becameUnready: (pool, slot, incarnation, reason) => gate.object([pool, slot, incarnation], "readiness", reason),
    startupFailed: async (pool, slot, incarnation, reason) =>
      daemon.startupFailed(pool, slot, incarnation, await reports.explain([pool, slot, incarnation], reason)),
    livenessFailed: (...verdict) => void verdicts.failed(...verdict),
    becameAlive: (...worker) => {
      verdicts.answered(...worker);
      daemon.becameAlive(...worker);
    },
    attempted: ({ pool, slot, incarnation }, purpose, outcome) => {
      tally.count({ pool: daemon.specOf(pool).name, purpose, result: resultOf(outcome) });
      if (purpose !== "liveness" && outcome.kind !== "success") reports.note([pool, slot, incarnation], outcome.reason);
    },
  };
}
