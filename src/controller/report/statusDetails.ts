/** Reads and combines the details of a status document: processes, what the proxies counted, the balance. */
import { MAX_LISTED_PROCESSES, type PoolBalance, type WorkerDetail, type WorkerProcess } from "../../admin/api.ts";
import type { StatusDetails } from "../../admin/status.ts";
import type { ProcessReading, ProxyReadings, TreeUsage } from "../../base/readings.ts";
import type { PoolConfig } from "../../config/config.ts";
import { type Balance, type Distribution, decideAdvice } from "../../core/policy/balance.ts";
import type { PoolView, WorkerView } from "../../core/view.ts";
import type { CommandLines } from "../../runtime/inspect/commandLines.ts";
import type { ProcessUsage } from "../../runtime/inspect/treeUsage.ts";
import { LISTING_AGE_MS, type MetricsSources, pidsOf } from "./metricsSource.ts";

export interface DetailSources extends Pick<MetricsSources, "view" | "processes" | "trees" | "proxies" | "balance"> {
  readonly pools: readonly PoolConfig[];
}

/** Processes of one worker. */
type Listing = ReadonlyMap<number, readonly WorkerProcess[]>;

/** Reads every process once, then its command line. `commands` limits the time. */
export async function readProcessDetails(sources: DetailSources, commands: CommandLines): Promise<StatusDetails> {
  const leaders = pidsOf(sources.view());
  sources.trees.usages.read(leaders, LISTING_AGE_MS);
  const listed = new Map(leaders.map((leader) => [leader, boundedListing(sources.trees.usages.processesOf(leader))]));
  const lines = await commands.read([...listed.values()].flat());
  const listing = new Map(
    Array.from(listed, ([leader, processes]) => [
      leader,
      processes.map((each) => processEntry(each, lines.get(each.pid) ?? "")),
    ]),
  );
  return readDetails(sources, listing);
}

/** The processes with the most CPU time, in their original order. */
function boundedListing(processes: readonly ProcessUsage[]): readonly ProcessUsage[] {
  if (processes.length <= MAX_LISTED_PROCESSES) return processes;
  const kept = new Set(processes.toSorted((a, b) => b.cpuSeconds - a.cpuSeconds).slice(0, MAX_LISTED_PROCESSES));
  return processes.filter((each) => kept.has(each));
}

function processEntry(process: ProcessUsage, command: string): WorkerProcess {
  return {
    pid: process.pid,
    parent_pid: process.parentPid,
    state: process.state,
    cpu_seconds: process.cpuSeconds,
    rss_bytes: process.residentBytes,
    command,
  };
}

/** Reads every process once. `listing`, if given, has the processes of workers by the pid of the leader. */
export function readDetails(sources: DetailSources, listing?: Listing): StatusDetails {
  const view = sources.view();
  const readings = sources.processes.read(pidsOf(view));
  const usages = sources.trees.usages.read(pidsOf(view), LISTING_AGE_MS, readings);
  const proxies = sources.proxies();
  const balances = sources.balance.look((pid) => usages.get(pid)?.cpuSeconds);
  const workers = new Map<string, WorkerDetail>();
  for (const pool of view.pools) {
    const loads = new Map(balances.get(pool.name)?.workers.map((load) => [load.slot, load]));
    for (const worker of pool.workers) {
      if (worker.pid === undefined) continue;
      const { cpuRatio, requestsPerSecond } = loads.get(worker.slot) ?? {};
      workers.set(worker.id, {
        ...treeDetail(usages.get(worker.pid)),
        ...(listing === undefined ? {} : { processes: listing.get(worker.pid) ?? [] }),
        ...descriptorDetail(readings.get(worker.pid)),
        ...requestDetail(pool, worker, proxies),
        cpu_ratio: rounded(cpuRatio),
        requests_per_second: rounded(requestsPerSecond),
      });
    }
  }
  return { balances: new Map(sources.pools.flatMap((pool) => balanceEntry(pool, balances.get(pool.name)))), workers };
}

function treeDetail(usage: TreeUsage | undefined): Pick<WorkerDetail, "cpu_seconds" | "rss_bytes" | "process_count"> {
  return {
    cpu_seconds: usage?.cpuSeconds ?? null,
    rss_bytes: usage?.residentBytes ?? null,
    process_count: usage?.processCount ?? null,
  };
}

function descriptorDetail(reading: ProcessReading | undefined): Pick<WorkerDetail, "open_fds" | "max_fds"> {
  const maxFds = reading?.maxFds;
  return {
    open_fds: reading?.openFds ?? null,
    max_fds: maxFds === undefined || !Number.isFinite(maxFds) ? null : maxFds,
  };
}

/** A worker's numbers count requests from the proxy, a proxy's numbers requests from clients. */
function requestDetail(
  { name, fronts }: PoolView,
  { slot }: WorkerView,
  proxies: ReadonlyMap<string, ProxyReadings>,
): Pick<WorkerDetail, "requests_total" | "failed_requests_total" | "requests_in_flight"> {
  const totals = proxies.get(fronts ?? name);
  const own = totals?.workers.get(slot);
  const [requests, failed, inFlight] =
    totals === undefined
      ? [null, null, null]
      : fronts === undefined
        ? [own?.requestsTotal ?? 0, own?.failedTotal ?? 0, own?.inFlight ?? 0]
        : [totals.downstreamRequestsTotal, totals.downstream5xxTotal, totals.downstreamRequestsActive];
  return { requests_total: requests, failed_requests_total: failed, requests_in_flight: inFlight };
}

function balanceEntry(pool: PoolConfig, balance: Balance | undefined): [string, PoolBalance][] {
  if (balance === undefined) return [];
  const distribution = distributionOf(pool);
  const { verdict, text } = decideAdvice(distribution, balance);
  const windowMs = balance.workers.reduce((longest, { watchedMs }) => Math.max(longest, watchedMs), 0);
  const entry: PoolBalance = {
    mode: distribution.mode,
    algorithm: distribution.mode === "proxy" ? distribution.algorithm : null,
    window_s: rounded(windowMs / 1000) ?? 0,
    cpu_spread: rounded(balance.cpuSpread),
    requests_spread: rounded(balance.requestsSpread),
    verdict,
    advice: text,
  };
  return [[pool.name, entry]];
}

function distributionOf({ server, sockets }: PoolConfig): Distribution {
  if (server !== undefined) return { mode: "proxy", algorithm: server.algorithm };
  return { mode: sockets.length > 0 ? "socket" : "supervisor" };
}

function rounded(value: number | undefined): number | null {
  return value === undefined ? null : Math.round(value * 1000) / 1000;
}
