/** The controller as the HTTP servers see it, assembled from its components. */
import type { LogLine } from "../admin/api.ts";
import type { ControllerHandle } from "../admin/handle.ts";
import { VERSION } from "../base/version.ts";
import type { LogSink } from "../logs/sink.ts";
import type { WorkerOutput } from "../logs/workerOutput.ts";
import { systemClock } from "../runtime/clock.ts";
import type { Changes, Driver, Foundation, Watches, WorkerProcesses } from "./compose.ts";
import { createMetrics } from "./report/metricsSource.ts";
import { readDetails, readProcessDetails } from "./report/statusDetails.ts";

export function createHandle(
  base: Foundation,
  { daemon }: Driver,
  { processes, oomKills }: WorkerProcesses,
  { health, dumps, profiles, numbers, commands, probeTally, workerMetrics }: Watches,
  { order, scale, reload }: Changes,
): ControllerHandle {
  const { events, operations, operationTally, output, sinks, report } = base;
  const readings = () => ({ pools: reload.config.supervisor.pools, ...numbers });
  return {
    version: VERSION,
    events,
    operations,
    view: () => daemon.view(),
    now: () => systemClock.now(),
    // A worker that is ready again waits for nothing, whatever its last attempt returned.
    reportOf: (pool, { slot, incarnation }) => health.statusOf({ pool, slot, incarnation }),
    waitOf: (pool, { phase, slot, incarnation }) =>
      phase === "starting" || phase === "unready" ? health.waitOf({ pool, slot, incarnation }) : undefined,
    details: () => readDetails(readings()),
    detailsWithProcesses: () => readProcessDetails(readings(), commands),
    metrics: createMetrics({
      ...numbers,
      output,
      sinks,
      orphansReaped: () => processes.orphansReaped,
      oomKills: () => oomKills.total,
      probes: probeTally,
      operations: operationTally,
      workerMetrics,
    }),
    workerMetrics: (accept) => workerMetrics.exposition(accept),
    audit: (who, what) => report({ kind: "audited", who, what }),
    shutdown: (reason) => daemon.shutdown(reason),
    restart: (pool, slots, reason) => order(pool, { kind: "restart", slots }, reason),
    stop: (pool, slots, reason) => order(pool, { kind: "stop", slots }, reason),
    start: (pool, slots, reason) => order(pool, { kind: "start", slots }, reason),
    scale,
    reload: (isDryRun) => reload.run(isDryRun),
    dump: (pool, slot, pid) => dumps.dump(pool, slot, pid),
    profileWorker: (pool, slot, request) => profiles.profileWorker(pool, slot, request),
    profileSelf: (subject, seconds, signal) => profiles.profileSelf(subject, seconds, signal),
    tapLogs: (listener) => tapAll(output, sinks, listener),
    reopenLogFiles: () => output.reopenFiles(),
  };
}

/** Records that go only to a log file count as stdout. */
function tapAll(
  output: WorkerOutput,
  sinks: { stdout: LogSink; stderr: LogSink },
  listener: (stream: LogLine["stream"], chunk: Buffer) => void,
): Disposable {
  const toStdout = (chunk: Buffer) => listener("stdout", chunk);
  const stops = [sinks.stdout.tap(toStdout), output.tapFiles(toStdout)];
  if (sinks.stderr !== sinks.stdout) stops.push(sinks.stderr.tap((chunk) => listener("stderr", chunk)));
  return {
    [Symbol.dispose]: () => {
      for (const stop of stops) stop();
    },
  };
}
