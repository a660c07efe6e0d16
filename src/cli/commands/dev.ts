/** `monoceros dev`: runs a configuration for development, and restarts pools when their files change. */
import { MAX_REPLICAS } from "../../core/spec.ts";
import type { Command, Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { runPools, WATCH_PATH_FLAG, watchedDirectories } from "./run.ts";

export const dev: Command = {
  name: "dev",
  summary: "Run a configuration for development: restart pools when their files change",
  details:
    "Watches the working directory of each pool. When files have changed, it restarts the pool without downtime. If the new\nworkers do not start, the old ones keep serving, and the next change tries again. Runs one worker for each pool, with short\ngrace periods, without a restart limit, and with a readable log. Workers write to the terminal directly.",
  flags: {
    config: { type: "string", short: "c", value: "FILE", isRequired: true, doc: "Configuration file" },
    replicas: { type: "string", short: "n", value: "N", doc: "Number of workers of each pool, 1 by default" },
    "watch-path": WATCH_PATH_FLAG,
    debug: { type: "boolean", short: "d", doc: "Log every decision and its reason" },
  },
  arguments: [],
  examples: [
    { command: "monoceros dev -c monoceros.yaml", doc: "Restart the pools of a file when their sources change" },
    { command: "monoceros dev -c monoceros.yaml --watch-path src:lib", doc: "Watch two directories only" },
  ],
  async run(context) {
    const replicas = replicasOf(context);
    const { developmentConfig } = await import("../../controller/development.ts");
    return runPools(context, {
      file: context.text("config") ?? "",
      isDebug: context.isSet("debug"),
      isReadable: true,
      watch: { directories: watchedDirectories(context) },
      adapt: (config) => developmentConfig(config, replicas),
    });
  },
};

/** The value of -n. @throws ControllerError USAGE */
function replicasOf(context: Context): number {
  const text = context.text("replicas") ?? "1";
  const replicas = /^\d+$/u.test(text) ? Number(text) : 0;
  if (replicas >= 1 && replicas <= MAX_REPLICAS) return replicas;
  throw usage(`--replicas: expected a number from 1 to ${MAX_REPLICAS}, got "${text}"`, "monoceros dev");
}
