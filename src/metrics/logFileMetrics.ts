/** Metrics of the log files of pools (logs.file). */
import type { LogFileTotals } from "../base/readings.ts";
import type { CatalogMetric } from "./scrape.ts";

export const LOG_FILE_METRICS: readonly CatalogMetric[] = [
  metric("written_bytes_total", "Bytes written to the log file of the pool.", (file) => file.writtenBytes),
  metric(
    "blocked_seconds_total",
    "Time for which workers were blocked because the log file was slow or could not be written.",
    (file) => file.blockedSeconds,
  ),
  metric(
    "discarded_bytes_total",
    "Bytes missing in the log file because it could not be written for too long.",
    (file) => file.discardedBytes,
  ),
  metric("rotations_total", "Rotations of the log file because of max_size.", (file) => file.rotations),
  metric("errors_total", "Failed attempts to open, write or rotate the log file.", (file) => file.errors),
  metric("failing", "1 while the log file cannot be written, otherwise 0.", (file) => (file.isFailing ? 1 : 0)),
];

function metric(what: string, help: string, value: (file: LogFileTotals) => number): CatalogMetric {
  return {
    name: `monoceros_log_file_${what}`,
    type: what.endsWith("_total") ? "counter" : "gauge",
    help,
    labels: ["pool"],
    samples: ({ logFiles }) => logFiles.map((file) => ({ labels: [file.pool], value: value(file) })),
  };
}
