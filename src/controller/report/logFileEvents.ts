/** Reports what happens to log files, as events and in the log. */
import { codeOf, messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { formatDuration } from "../../base/units.ts";
import type { LifecycleEvent } from "../../core/event.ts";
import type { LogFilesListener } from "../../logs/file/logFiles.ts";

export function logFilesListener(report: (event: LifecycleEvent) => void, log: Logger): LogFilesListener {
  const reasonOf = (error: unknown) => codeOf(error) ?? messageOf(error);
  const code = "LOG_FILE_FAILED";
  return {
    failed: (pool, path, error, patienceMs) => {
      const bound = Number.isFinite(patienceMs)
        ? ` for up to ${formatDuration(patienceMs)}, then lines are discarded`
        : "";
      report({
        kind: "log_file_failed",
        pool,
        reason: `"${path}": ${reasonOf(error)}; workers that write wait${bound}`,
      });
    },
    recovered: (pool, path, discardedBytes) => {
      const loss = discardedBytes === 0 ? "no line is lost" : `${discardedBytes} bytes of records were discarded`;
      report({ kind: "log_file_recovered", pool, reason: `"${path}": ${loss}` });
    },
    rotationFailed: (pool, path, error) =>
      log.error(
        `the log file of pool "${pool}" cannot be rotated and grows beyond max_size: "${path}": ${reasonOf(error)}`,
        {
          code,
          pool,
        },
      ),
    compressionFailed: (pool, path, error) =>
      log.error(`a rotated log file of pool "${pool}" cannot be compressed: "${path}": ${reasonOf(error)}`, {
        code,
        pool,
      }),
  };
}
