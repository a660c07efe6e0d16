/** `monoceros run`, and the bare flags of the original: checks everything, then becomes the controller. */

import type { Config } from "../../config/config.ts";
import type { WatchOptions } from "../../controller/compose.ts";
import type { ReadAgain } from "../../controller/controllerProcess.ts";
import { holdSignals } from "../../controller/watch/heldSignals.ts";
import type { RunProgram } from "../../envoy/control/binary.ts";
import type { Command, Context, Flag } from "../command.ts";
import { usage } from "../commandLine.ts";

/** Which directories are watched for changes. */
export const WATCH_PATH_FLAG: Flag = {
  type: "string",
  value: "DIR",
  doc: "Directories to watch, separated by colons, instead of the working directory of each pool",
};

export const run: Command = {
  name: "run",
  summary: "Run the controller in the foreground",
  details: "First checks the configuration and everything that it refers to. If a check fails, starts nothing.",
  flags: {
    config: { type: "string", short: "c", value: "FILE", isRequired: true, doc: "Configuration file" },
    debug: { type: "boolean", short: "d", doc: "Write a readable log to stderr, with every decision and its reason" },
    watch: {
      type: "boolean",
      doc: "Restart pools when their files change, like `monoceros dev` but with the settings of the file",
    },
    "watch-path": WATCH_PATH_FLAG,
    validate: { type: "boolean", short: "k", doc: "Only check the configuration, like `monoceros validate`" },
  },
  arguments: [],
  examples: [
    { command: "monoceros run -c config.yaml", doc: "Run the pools of a configuration file" },
    { command: "monoceros -c config.yaml -d", doc: "Same in the short form, with a readable log" },
  ],
  async run(context) {
    if (context.isSet("validate")) {
      const { validate } = await import("./validate.ts");
      return validate.run(context);
    }
    const isWatching = context.isSet("watch");
    if (!isWatching && context.isSet("watch-path")) throw usage("--watch-path needs --watch", "monoceros run");
    return runPools(context, {
      file: context.text("config") ?? "",
      isDebug: context.isSet("debug"),
      watch: isWatching ? { directories: watchedDirectories(context) } : undefined,
    });
  },
};

/** The value of --watch-path. */
export function watchedDirectories(context: Context): string[] {
  return (context.text("watch-path") ?? "").split(":").filter((each) => each !== "");
}

export interface RunPoolsOptions {
  readonly file: string;
  readonly isDebug: boolean;
  readonly isReadable?: boolean;
  readonly watch?: WatchOptions | undefined;
  /** Changes the configuration each time it is read. */
  readonly adapt?: (config: Config) => Config;
}

/** Checks a configuration, then runs the controller. Resolves with its exit code. @throws ControllerError */
export async function runPools(context: Context, { file, adapt, ...options }: RunPoolsOptions): Promise<number> {
  // Each check may take as long as the program it runs, Envoy above all, so handle stop requests in the meantime.
  const held = holdSignals();
  const [{ preflight }, { ownEnvironment, systemChecks, toolRunner }, { runController }, { Start, stoppedExitCode }] =
    await Promise.all([
      import("../../controller/preflight.ts"),
      import("../../controller/systemChecks.ts"),
      import("../../controller/controllerProcess.ts"),
      import("../../controller/start.ts"),
    ]);
  const env = ownEnvironment(context.env);
  using start = Start.begin();
  const check = (run: RunProgram, isProxied?: (pool: string) => boolean) =>
    preflight(file, env, systemChecks(run, isProxied), "problem", adapt);
  const checked = await Promise.race([check(toolRunner(start.tools)), held.stopped]);
  if (typeof checked === "string") {
    await context.terminal.write("stderr", `monoceros: received ${checked} during startup; no worker was started\n`);
    return stoppedExitCode(checked);
  }
  const readAgain: ReadAgain = (run, isProxied) => check(run, isProxied);
  return await runController(checked, readAgain, { ...options, held, start });
}
