/** Metrics of the controller's own process, part of the catalog, under the standard names of Prometheus clients. */
import type { Metric } from "./exposition.ts";
import type { ProcessReading, Scrape } from "./scrape.ts";

/** A metric that the predecessor also has. */
type OriginalMetric = Metric<Scrape> & { readonly origin: "original" };

/** The kernel's value for no limit (RLIM_INFINITY, getrlimit(2)). */
const NO_LIMIT = 2 ** 64 - 1;

/** All of them, in print order. */
export const OWN_METRICS: readonly OriginalMetric[] = [
  metric("cpu_seconds_total", "counter", "User and system CPU time of the controller.", (it) => it.cpuSeconds),
  metric("open_fds", "gauge", "Open file descriptors of the controller.", (it) => it.openFds),
  metric("max_fds", "gauge", "Soft limit of open file descriptors of the controller.", (it) => it.maxFds),
  metric("resident_memory_bytes", "gauge", "Resident memory of the controller.", (it) => it.residentBytes),
  metric("virtual_memory_bytes", "gauge", "Virtual memory of the controller.", (it) => it.virtualBytes),
  metric(
    "virtual_memory_max_bytes",
    "gauge",
    "Soft limit of virtual memory of the controller; 2^64 - 1 is none.",
    (it) => it.virtualMaxBytes,
  ),
  metric("start_time_seconds", "gauge", "Start of the controller in seconds since 1970.", (it) => it.startTimeSeconds),
];

function metric(
  what: string,
  type: "counter" | "gauge",
  help: string,
  value: (reading: ProcessReading) => number | undefined,
): OriginalMetric {
  return {
    origin: "original",
    name: `process_${what}`,
    type,
    help,
    labels: [],
    samples: ({ ownReading }) => {
      const known = ownReading === undefined ? undefined : value(ownReading);
      if (known === undefined) return [];
      return [{ labels: [], value: known === Number.POSITIVE_INFINITY ? NO_LIMIT : known }];
    },
  };
}
