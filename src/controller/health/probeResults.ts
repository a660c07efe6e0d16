/** Passes the results of configured probes to the gate, the reports, the metric and the daemon. */
import type { WorkerRef } from "../../core/identity.ts";
import { resultOf } from "../../core/policy/probe.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import type { ProbeListener } from "../../runtime/probe/prober.ts";
import type { ProbeTally } from "../report/tallies.ts";
import { LivenessVerdicts } from "./livenessVerdicts.ts";
import type { ReadinessGate } from "./readinessGate.ts";
import type { ReadinessReports } from "./readinessReports.ts";

export function probeResults(options: {
  readonly daemon: Pick<Daemon, "specOf" | "report">;
  readonly gate: ReadinessGate;
  readonly reports: ReadinessReports;
  readonly tally: ProbeTally;
  /** Called when the probes of a worker pass, before it counts as ready. */
  readonly passed: (worker: WorkerRef) => void;
  /** What a worker or proxy is doing; undefined if it has exited. Never rejects. */
  readonly diagnose: (worker: WorkerRef) => Promise<string | undefined>;
}): ProbeListener {
  const { daemon, gate, reports, tally, passed, diagnose } = options;
  const verdicts = new LivenessVerdicts(diagnose, (worker, reason) =>
    daemon.report(worker, { kind: "livenessFailed", reason }),
  );
  return {
    becameReady: (worker) => {
      const { role, readiness } = daemon.specOf(worker.pool);
      // An Envoy reports by itself that it serves. Without probes that decide about readiness, none has passed.
      if (role === "proxy" || readiness.kind === "observed") return;
      passed(worker);
      gate.withdraw(worker, "readiness");
    },
    becameUnready: (worker, reason) => gate.object(worker, "readiness", reason),
    startupFailed: async (worker, reason) =>
      daemon.report(worker, { kind: "startupFailed", reason: await reports.explain(worker, reason) }),
    livenessFailed: (worker, reason) => void verdicts.failed(worker, reason),
    becameAlive: (worker) => {
      verdicts.answered(worker);
      daemon.report(worker, { kind: "becameAlive" });
    },
    attempted: (worker, purpose, outcome) => {
      tally.count({ pool: daemon.specOf(worker.pool).name, purpose, result: resultOf(outcome) });
      if (purpose !== "liveness" && outcome.kind !== "success") reports.note(worker, outcome.reason);
    },
  };
}
