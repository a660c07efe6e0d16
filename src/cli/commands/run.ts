/** `monoceros run`, and the bare flags of the original: checks everything, then becomes the controller. */
import type { ReadAgain } from "../../assembly/controllerProcess.ts";
import { holdSignals } from "../../assembly/heldSignals.ts";
import type { Command } from "../command.ts";

export const run: Command = {
  name: "run",
  summary: "Run the controller in the foreground",
  details: "Checks the configuration and everything it names first; nothing starts where something is wrong.",
  flags: {
    config: { type: "string", short: "c", value: "FILE", isRequired: true, doc: "Configuration to run" },
    debug: { type: "boolean", short: "d", doc: "Readable log on stderr with every decision and its reason" },
    validate: { type: "boolean", short: "k", doc: "Only check the configuration, like the command validate" },
  },
  arguments: [],
  examples: [
    { command: "monoceros run -c config.yaml", doc: "Run the pools of a file" },
    { command: "monoceros -c config.yaml -d", doc: "The same in the original's form, with a readable log" },
  ],
  async run(context) {
    if (context.isSet("validate")) {
      const { validate } = await import("./validate.ts");
      return validate.run(context);
    }
    // The checks take as long as each program they ask, Envoy above all; who stops us meanwhile shall be heard.
    const held = holdSignals();
    const [{ ownEnvironment, preflight, systemChecks }, { runController }] = await Promise.all([
      import("../preflight.ts"),
      import("../../assembly/controllerProcess.ts"),
    ]);
    const env = ownEnvironment(context.env);
    const checked = await preflight(context.text("config") ?? "", env);
    const readAgain: ReadAgain = (run, isProxied) => preflight(checked.file, env, systemChecks(run, isProxied));
    return runController(checked, readAgain, { isDebug: context.isSet("debug"), held });
  },
};
