/** `monoceros validate`: reports every problem that can be detected before anything starts. */

import type { ConfigSource } from "../../controller/configFile.ts";
import type { Preflight } from "../../controller/preflight.ts";
import type { Command, Context } from "../command.ts";

export const validate: Command = {
  name: "validate",
  summary: "Check a configuration file and everything that it refers to",
  details:
    "Checks executables, directories, users, ports and Envoy on this machine. Reports all problems at once, with line and\ncolumn. Exits with code 78 if there is a problem.",
  flags: { config: { type: "string", short: "c", value: "FILE", isRequired: true, doc: "Configuration file" } },
  arguments: [],
  examples: [
    { command: "monoceros validate -c config.yaml", doc: "Print all problems, or one line if the file is valid" },
    { command: "monoceros -c config.yaml -k", doc: "Same in the short form" },
  ],
  run: (context) => validateSource(context.text("config") ?? "", context),
};

/** Checks a configuration, prints the result and resolves with the exit code. Rejects with a ControllerError. */
export async function validateSource(source: ConfigSource, { terminal, env, isSet }: Context): Promise<number> {
  const { preflight } = await import("../../controller/preflight.ts");
  const { ownEnvironment } = await import("../../controller/systemChecks.ts");
  const { ConfigurationError, nameOf } = await import("../../controller/configFile.ts");
  const file = nameOf(source);
  let result: Preflight;
  try {
    result = await preflight(source, ownEnvironment(env), undefined, "warning");
  } catch (error) {
    if (!isSet("json") || !(error instanceof ConfigurationError)) throw error;
    await terminal.write(
      "stdout",
      `${JSON.stringify({ file, valid: false, problems: error.problems }, undefined, 2)}\n`,
    );
    return error.exitCode;
  }
  const ofWorkers = result.spec.pools.filter(({ role }) => role === "workers");
  const pools = ofWorkers.length;
  const workers = ofWorkers.reduce((sum, { replicas, standby }) => sum + replicas + standby, 0);
  if (isSet("json")) {
    const body = { file, valid: true, pools, workers, warnings: result.warnings, problems: [] };
    await terminal.write("stdout", `${JSON.stringify(body, undefined, 2)}\n`);
    return 0;
  }
  for (const warning of result.warnings) await terminal.write("stderr", `warning: ${warning}\n`);
  await terminal.write("stdout", `${file} is valid: ${count(pools, "pool")}, ${count(workers, "worker")}\n`);
  return 0;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
