/** Gathers what one scrape of /metrics needs from the rooms that know it. Part of the composition root. */

import { REVISION, VERSION } from "../cli/version.ts";
import type { ControllerView } from "../core/view.ts";
import type { LogSink } from "../logs/sink.ts";
import type { WorkerOutput } from "../logs/workerOutput.ts";
import { CATALOG, type SinkTotals } from "../metrics/catalog.ts";
import { CONTENT_TYPES, chooseFormat, formatMetrics } from "../metrics/exposition.ts";
import { readSystemUnits } from "../runtime/linux.ts";
import { ProcessReadings } from "../runtime/readings.ts";

/** Where a scrape finds its numbers. */
export interface MetricsSources {
  readonly view: () => ControllerView;
  readonly output: WorkerOutput;
  readonly sinks: { readonly stdout: LogSink; readonly stderr: LogSink };
  readonly orphansReaped: () => number;
}

/** A function that answers a scrape in the format its Accept header asks for. */
export function createMetrics(sources: MetricsSources): (accept: string) => { text: string; contentType: string } {
  const { ticksPerSecond, pageBytes } = readSystemUnits();
  const readings = new ProcessReadings({ ticksPerSecond, pageBytes });
  return (accept) => {
    const view = sources.view();
    const pids = view.pools.flatMap((pool) => pool.workers.flatMap(({ pid }) => (pid === undefined ? [] : [pid])));
    const scrape = {
      view,
      readings: readings.read(pids),
      logs: sources.output.totals(),
      sinks: sinkTotals(sources.sinks),
      orphansReaped: sources.orphansReaped(),
      build: { version: VERSION, revision: REVISION, runtime: process.version },
      proxyMode: false,
    };
    const format = chooseFormat(accept);
    return { text: formatMetrics(CATALOG, scrape, format), contentType: CONTENT_TYPES[format] };
  };
}

function sinkTotals({ stdout, stderr }: MetricsSources["sinks"]): SinkTotals[] {
  const of = (stream: "stdout" | "stderr", sink: LogSink): SinkTotals => ({
    stream,
    bytesWritten: sink.bytesWritten,
    blockedSeconds: sink.blockedMs / 1000,
    discardedBytes: sink.discardedBytes,
  });
  return stdout === stderr ? [of("stdout", stdout)] : [of("stdout", stdout), of("stderr", stderr)];
}
