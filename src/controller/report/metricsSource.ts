/** Gathers the data for one scrape of /metrics from all components. Part of the composition root. */

import type { ProxyReadings } from "../../base/readings.ts";
import { REVISION, VERSION } from "../../base/version.ts";
import type { ControllerView } from "../../core/view.ts";
import type { LogSink } from "../../logs/sink.ts";
import type { WorkerOutput } from "../../logs/workerOutput.ts";
import { CATALOG } from "../../metrics/catalog.ts";
import { CONTENT_TYPES, chooseFormat, type ExpositionFormat, formatMetrics } from "../../metrics/exposition.ts";
import type { Scrape, SinkTotals } from "../../metrics/scrape.ts";
import type { ProcessReadings } from "../../runtime/inspect/readings.ts";
import type { BalanceWatch } from "../watch/balanceWatch.ts";
import type { WorkerTrees } from "../watch/workerTrees.ts";
import type { OperationTally, ProbeTally } from "./tallies.ts";
import type { WorkerMetrics } from "./workerMetrics.ts";

/** Maximum age of the listing of processes for a scrape of what workers use. */
export const LISTING_AGE_MS = 200;

/** Sources of the numbers for a scrape. */
export interface MetricsSources {
  readonly view: () => ControllerView;
  readonly output: WorkerOutput;
  readonly sinks: { readonly stdout: LogSink; readonly stderr: LogSink };
  readonly orphansReaped: () => number;
  readonly oomKills: () => number | undefined;
  readonly processes: ProcessReadings;
  readonly trees: WorkerTrees;
  /** What the proxies counted, by name of the pool. */
  readonly proxies: () => ReadonlyMap<string, ProxyReadings>;
  readonly balance: BalanceWatch;
  readonly probes: ProbeTally;
  readonly operations: OperationTally;
  readonly workerMetrics: WorkerMetrics;
}

/**
 * A function that answers a scrape in the format that its Accept header requests. Scrapes in one turn of the event
 * loop, in which nothing can change, share their text.
 */
export function createMetrics(sources: MetricsSources): (accept: string) => { text: string; contentType: string } {
  const texts = new Map<ExpositionFormat, string>();
  return (accept) => {
    const format = chooseFormat(accept);
    const contentType = CONTENT_TYPES[format];
    const known = texts.get(format);
    if (known !== undefined) return { text: known, contentType };
    const view = sources.view();
    const readings = sources.processes.read([process.pid, ...pidsOf(view)]);
    const trees = sources.trees.usages.read(pidsOf(view), LISTING_AGE_MS, readings);
    const scrape: Scrape = {
      view,
      readings,
      trees,
      logs: sources.output.totals(),
      logFiles: sources.output.fileTotals(),
      sinks: sinkTotals(sources.sinks),
      orphansReaped: sources.orphansReaped(),
      oomKills: sources.oomKills(),
      ownReading: readings.get(process.pid),
      build: { version: VERSION, revision: REVISION, runtime: process.version },
      proxies: sources.proxies(),
      balances: sources.balance.look((pid) => trees.get(pid)?.cpuSeconds),
      probes: sources.probes.totals(),
      operations: sources.operations.totals(),
      workerMetrics: sources.workerMetrics.totals(),
    };
    const text = formatMetrics(CATALOG, scrape, format);
    if (texts.size === 0) setImmediate(() => texts.clear());
    texts.set(format, text);
    return { text, contentType };
  };
}

/** Every process of a worker or a proxy. */
export function pidsOf(view: ControllerView): number[] {
  return view.pools.flatMap((pool) => pool.workers.flatMap(({ pid }) => (pid === undefined ? [] : [pid])));
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
