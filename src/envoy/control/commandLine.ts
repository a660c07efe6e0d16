/** The command line of Envoy. Pure. */
import { proxyFiles } from "../resources/files.ts";
import type { ProxyPlaces, ProxySettings } from "../resources/settings.ts";

/** Level in brackets, so that the record gets it; logger and message. Time and process are added by whoever takes the line. */
const LOG_FORMAT = [
  "-l",
  "warning",
  // It warns at each start that allow_custom_methods is marked as work in progress.
  "--component-log-level",
  "misc:error",
  "--log-format",
  "[%l] %n: %v",
  "--log-format-escaped",
];

/** Arguments to serve. */
export function serveArgs(settings: ProxySettings, places: ProxyPlaces): string[] {
  return [
    "-c",
    proxyFiles(places).bootstrap,
    // Envoy's default is one thread for each of the machine's CPUs, whatever the container may use.
    "--concurrency",
    String(settings.concurrency),
    // Several Envoys on one machine would otherwise fight for one region of shared memory.
    "--disable-hot-restart",
    // After it connections of a replaced listener are cut off; the drain at the end has its own bound, which we keep.
    "--drain-time-s",
    // 0 would have Envoy exit at once.
    String(Math.max(1, Math.ceil(settings.drainTimeSeconds), Math.ceil(settings.replacedDrainSeconds))),
    "--drain-strategy",
    "immediate",
    // Lines of the access log wait ten seconds by default.
    "--file-flush-interval-msec",
    "1000",
    ...LOG_FORMAT,
  ];
}

/** Arguments to check the bootstrap file `file` and end: exit code 0, or 1 and the reason on stderr. */
export function validateArgs(file: string): string[] {
  return ["--mode", "validate", "-c", file, ...LOG_FORMAT];
}

/** Arguments to check a bootstrap that is given as it is, which needs no place to write. */
export function validateInlineArgs(bootstrap: string): string[] {
  return ["--mode", "validate", "--config-yaml", bootstrap, ...LOG_FORMAT];
}
