/** Envoy's command line. Pure. */
import { proxyFiles } from "../resources/files.ts";
import type { ProxyLocation, ProxySettings } from "../resources/settings.ts";

/** Level in brackets, for the log record, then logger and message. The reader of the line adds time and process. */
const LOG_FORMAT = [
  "-l",
  "warning",
  // Envoy warns at each start that allow_custom_methods is marked as work in progress.
  "--component-log-level",
  "misc:error",
  "--log-format",
  "[%l] %n: %v",
  "--log-format-escaped",
];

/** Arguments to run the proxy. */
export function serveArgs(settings: ProxySettings, location: ProxyLocation): string[] {
  return [
    "-c",
    proxyFiles(location).bootstrap,
    // Envoy's default is one thread per CPU of the machine, regardless of the container's limit.
    "--concurrency",
    String(settings.concurrency),
    // Otherwise several Envoys on one machine would conflict over one region of shared memory.
    "--disable-hot-restart",
    // Envoy then closes the connections of a replaced listener. PoolProxy itself limits the drain at shutdown.
    "--drain-time-s",
    // 0 would make Envoy exit at once.
    String(Math.max(1, Math.ceil(settings.drainTimeSeconds), Math.ceil(settings.replacedDrainSeconds))),
    "--drain-strategy",
    "immediate",
    // By default Envoy flushes the access log every ten seconds.
    "--file-flush-interval-msec",
    "1000",
    ...LOG_FORMAT,
  ];
}

/** Arguments to validate an inline bootstrap, which needs no file, and exit: code 0, or 1 with the reason on stderr. */
export function validateInlineArgs(bootstrap: string): string[] {
  return ["--mode", "validate", "--config-yaml", bootstrap, ...LOG_FORMAT];
}
