/** Metrics of processes, part of the catalog: of the controller, of each worker's leader, and of each worker's process tree. */
import type { ProcessReading, TreeUsage } from "../base/readings.ts";
import type { ControllerView, WorkerView } from "../core/view.ts";
import type { Sample } from "./exposition.ts";
import type { CatalogMetric } from "./scrape.ts";

/** The kernel's value for no limit (RLIM_INFINITY, getrlimit(2)); the predecessor exposes the same value. */
const NO_LIMIT = 2 ** 64 - 1;

/** One array each for all metrics, so that the exposition formats the labels of a worker only once. */
const WORKER_LABEL_NAMES = ["pool", "worker"] as const;
const WORKER_LABELS = new WeakMap<WorkerView, readonly string[]>();

type Figure<Reading> = readonly [
  what: string,
  type: "counter" | "gauge",
  help: string,
  value: (it: Reading) => number | undefined,
];

/** Under the standard names of Prometheus clients; each help text is completed with the process. */
const PROCESS_FIGURES: readonly Figure<ProcessReading>[] = [
  ["cpu_seconds_total", "counter", "User and system CPU time", (it) => it.cpuSeconds],
  ["open_fds", "gauge", "Open file descriptors", (it) => it.openFds],
  ["max_fds", "gauge", "Soft limit of open file descriptors", (it) => limit(it.maxFds)],
  ["resident_memory_bytes", "gauge", "Resident memory", (it) => it.residentBytes],
  ["virtual_memory_bytes", "gauge", "Virtual memory", (it) => it.virtualBytes],
  [
    "virtual_memory_max_bytes",
    "gauge",
    "Soft limit of virtual memory (2^64 - 1: unlimited)",
    (it) => limit(it.virtualMaxBytes),
  ],
  ["start_time_seconds", "gauge", "Start time (seconds since 1970)", (it) => it.startTimeSeconds],
];

const TREE_FIGURES: readonly Figure<TreeUsage>[] = [
  [
    "cpu_seconds_total",
    "counter",
    "User and system CPU time of all processes of the worker, including exited ones. Restarts at 0 with each new process of the slot.",
    (it) => it.cpuSeconds,
  ],
  [
    "resident_memory_bytes",
    "gauge",
    "Resident memory of all processes of the worker; shared pages count in each process.",
    (it) => it.residentBytes,
  ],
  ["processes", "gauge", "Live processes of the worker: its leader and all descendants.", (it) => it.processCount],
];

/** The controller's own process, in print order. */
export const OWN_METRICS: readonly CatalogMetric[] = PROCESS_FIGURES.map(([what, type, help, value]) => ({
  isOriginal: true,
  name: `process_${what}`,
  type,
  help: `${help} of the controller.`,
  labels: [],
  samples: ({ ownReading }) => {
    const known = ownReading && value(ownReading);
    return known === undefined ? [] : [{ labels: [], value: known }];
  },
}));

/** The processes of workers, in print order. */
export const WORKER_PROCESS_METRICS: readonly CatalogMetric[] = [
  ...PROCESS_FIGURES.map(
    ([what, type, help, value]): CatalogMetric => ({
      isOriginal: true,
      name: `monoceros_workerpool_process_${what}`,
      type,
      help: `${help} of the worker's leader.`,
      labels: WORKER_LABEL_NAMES,
      samples: ({ view, readings }) => perWorker(view, readings, value),
    }),
  ),
  ...TREE_FIGURES.map(
    ([what, type, help, value]): CatalogMetric => ({
      name: `monoceros_worker_tree_${what}`,
      type,
      help,
      labels: WORKER_LABEL_NAMES,
      samples: ({ view, trees }) => perWorker(view, trees, value),
    }),
  ),
];

/** One sample for each worker that has a process reading, if `value` is known. */
function perWorker<Reading>(
  { pools }: ControllerView,
  readings: ReadonlyMap<number, Reading>,
  value: (reading: Reading) => number | undefined,
): Sample[] {
  const samples: Sample[] = [];
  for (const worker of pools.flatMap(({ workers }) => workers)) {
    const reading = worker.pid === undefined ? undefined : readings.get(worker.pid);
    const known = reading && value(reading);
    if (known === undefined) continue;
    const labels = WORKER_LABELS.getOrInsertComputed(worker, ({ pool, id }) => [pool, id]);
    samples.push({ labels, value: known });
  }
  return samples;
}

function limit(value: number | undefined): number | undefined {
  return value === Number.POSITIVE_INFINITY ? NO_LIMIT : value;
}
