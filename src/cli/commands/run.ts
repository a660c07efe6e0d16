/** `monoceros run`, and the bare flags of the original: checks everything, then becomes the controller. */
import type { Config } from "../../config/config.ts";
import type { WatchOptions } from "../../controller/compose.ts";
import type { ConfigSource } from "../../controller/configFile.ts";
import type { ReadAgain } from "../../controller/controllerProcess.ts";
import { holdSignals } from "../../controller/watch/heldSignals.ts";
import type { RunProgram } from "../../envoy/control/binary.ts";
import type { Command, Context, Flag } from "../command.ts";
import { usage } from "../commandLine.ts";
import { givenPoolFlags, POOL_FLAGS } from "../oneLine/options.ts";
import type { OneLine } from "../oneLine/source.ts";

const NAME = "monoceros run";

export const WATCH_PATH_FLAG: Flag = {
  type: "string",
  value: "DIR",
  isRepeatable: true,
  doc: "Directory to watch, instead of the working directory of each pool; repeatable",
};

export const run: Command = {
  name: "run",
  summary: "Run a program or a configuration file in the foreground",
  details: `First checks the configuration and everything that it refers to. If a check fails, starts nothing.

With a COMMAND, the configuration is made from the command line. Known programs, such as uvicorn, gunicorn, puma, node
and next, get the mode and the arguments that suit them; one line of the log says which. In the arguments, {port},
{socket}, {fd} and {slot} stand for what each worker gets. Any other program must listen on $PORT. The values of -e are
never logged, but --print-config prints them, and other users may see them in the list of processes.`,
  flags: {
    config: { type: "string", short: "c", value: "FILE", doc: "Configuration file" },
    debug: { type: "boolean", short: "d", doc: "Write a readable log to stderr, with every decision and its reason" },
    validate: { type: "boolean", short: "k", doc: "Only check the configuration, like `monoceros validate`" },
    watch: { type: "boolean", doc: "Restart pools when their files change; see also `monoceros dev`" },
    "watch-path": WATCH_PATH_FLAG,
    ...POOL_FLAGS,
    "print-config": { type: "boolean", doc: "Only print the configuration that COMMAND would run with" },
  },
  arguments: [],
  rest: { name: "COMMAND…", doc: "Program to run, with its arguments", insteadOf: "config" },
  examples: [
    { command: "monoceros run -n 4 -- uvicorn app:app", doc: "Run four uvicorns, and balance port 8000 over them" },
    {
      command: "monoceros run -- ./server --listen 127.0.0.1:{port}",
      doc: "Run any program, which gets its port as an argument",
    },
    {
      command: "monoceros run --print-config -- puma > monoceros.yaml",
      doc: "Write the configuration to a file, to edit it",
    },
    { command: "monoceros run -c config.yaml", doc: "Run the pools of a configuration file" },
    { command: "monoceros -c config.yaml -d", doc: "Same in the short form, with a readable log" },
  ],
  async run(context) {
    const isWatching = context.isSet("watch");
    if (!isWatching && context.isSet("watch-path")) throw usage("--watch-path needs --watch", NAME);
    const line = await oneLineOf(context);
    const source = line?.source ?? context.text("config") ?? "";
    if (line !== undefined && context.isSet("print-config")) {
      const text = context.isSet("json") ? `${JSON.stringify(line.document, undefined, 2)}\n` : line.source.text;
      await context.terminal.write("stdout", text);
      return 0;
    }
    if (context.isSet("validate")) {
      const { validateSource } = await import("./validate.ts");
      return validateSource(source, context);
    }
    const watch = isWatching ? { directories: context.texts("watch-path") } : undefined;
    return startController(source, line, context, { watch });
  },
};

/** The configuration that a command line stands for; undefined with -c. Rejects with a ControllerError. */
async function oneLineOf(context: Context): Promise<OneLine | undefined> {
  if (context.rest !== undefined) {
    const { readOneLine } = await import("../oneLine/source.ts");
    return readOneLine(context, NAME);
  }
  const [flag] = [...givenPoolFlags(context), ...(context.isSet("print-config") ? ["--print-config"] : [])];
  if (flag !== undefined) throw usage(`${flag} needs a command after --; with -c, the file decides`, NAME);
  return undefined;
}

/** How `run` and `dev` differ. */
export interface StartChoices {
  readonly watch?: WatchOptions | undefined;
  readonly isReadable?: boolean;
  /** Changes the configuration each time it is read. */
  readonly adapt?: (config: Config) => Config;
}

/** Checks a configuration, then runs the controller. Resolves with its exit code. Rejects with a ControllerError. */
export async function startController(
  source: ConfigSource,
  line: OneLine | undefined,
  context: Context,
  { adapt, ...choices }: StartChoices,
): Promise<number> {
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
    preflight(source, env, systemChecks(run, isProxied), "problem", adapt);
  const checked = await Promise.race([check(toolRunner(start.tools)), held.stopped]);
  if (typeof checked === "string") {
    await context.terminal.write("stderr", `monoceros: received ${checked} during startup; no worker was started\n`);
    return stoppedExitCode(checked);
  }
  const options = { ...choices, isDebug: context.isSet("debug"), held, start };
  if (line === undefined) return await runController(checked, check, options);
  const { reloadRefusal } = await import("../oneLine/source.ts");
  const refuse: ReadAgain = () => Promise.reject(reloadRefusal());
  return await runController({ ...checked, notes: [line.explanation, ...checked.notes] }, refuse, options);
}
