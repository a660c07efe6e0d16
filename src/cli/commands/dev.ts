/** `monoceros dev`: runs a program or a file for development, and restarts it when files change. */
import type { Command, Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { givenPoolFlags, POOL_FLAGS, readPoolOptions } from "../oneLine/options.ts";
import { startController, WATCH_PATH_FLAG } from "./run.ts";

const NAME = "monoceros dev";

export const dev: Command = {
  name: "dev",
  summary: "Run a program or a configuration file for development: restart it when files change",
  details: `Watches the working directory of each pool. When files have changed, it restarts the pool without downtime. If the new
workers do not start, the old ones keep serving, and the next change tries again. Runs one worker in each pool, with short
grace periods, without a restart limit, and with a readable log. Workers write to the terminal directly. COMMAND and its
flags are those of \`monoceros run\`.`,
  flags: {
    config: { type: "string", short: "c", value: "FILE", doc: "Configuration file" },
    debug: { type: "boolean", short: "d", doc: "Log every decision and its reason" },
    "watch-path": WATCH_PATH_FLAG,
    ...POOL_FLAGS,
    replicas: { type: "string", short: "n", value: "N|auto", doc: "Number of workers of each pool, 1 by default" },
  },
  arguments: [],
  rest: { name: "COMMAND…", doc: "Program to run, with its arguments", insteadOf: "config" },
  examples: [
    { command: "monoceros dev -- uvicorn app:app", doc: "Serve port 8000, and restart uvicorn when files change" },
    { command: "monoceros dev -c monoceros.yaml", doc: "Do so for the pools of a file" },
    { command: "monoceros dev --watch-path src -- node src/server.js", doc: "Watch one directory only" },
  ],
  async run(context) {
    const { developmentConfig } = await import("../../controller/development.ts");
    const replicas = readPoolOptions(context, NAME).replicas ?? 1;
    const line = await oneLineOf(context);
    return startController(line?.source ?? context.text("config") ?? "", line, context, {
      watch: { directories: context.texts("watch-path") },
      isReadable: true,
      adapt: (config) => developmentConfig(config, replicas),
    });
  },
};

async function oneLineOf(context: Context) {
  if (context.rest === undefined) {
    const flag = givenPoolFlags(context).find((each) => each !== "-n");
    if (flag !== undefined) throw usage(`${flag} needs a command after --; with -c, the file decides`, NAME);
    return undefined;
  }
  const { readOneLine } = await import("../oneLine/source.ts");
  // The explanation that is logged names the number of workers.
  const text = (flag: string) => context.text(flag) ?? (flag === "replicas" ? "1" : undefined);
  return readOneLine({ ...context, text }, NAME);
}
