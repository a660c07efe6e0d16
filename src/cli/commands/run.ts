/** `monoceros run`, and the bare flags of the original: checks everything, then becomes the controller. */
import type { ReadAgain } from "../../controller/controllerProcess.ts";
import { holdSignals } from "../../controller/watch/heldSignals.ts";
import type { RunProgram } from "../../envoy/control/binary.ts";
import type { Command } from "../command.ts";

export const run: Command = {
  name: "run",
  summary: "Run the controller in the foreground",
  details: "First checks the configuration and everything that it refers to. If a check fails, starts nothing.",
  flags: {
    config: { type: "string", short: "c", value: "FILE", isRequired: true, doc: "Configuration file" },
    debug: { type: "boolean", short: "d", doc: "Write a readable log to stderr, with every decision and its reason" },
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
    const check = (file: string, run: RunProgram, isProxied?: (pool: string) => boolean) =>
      preflight(file, env, systemChecks(run, isProxied));
    const checked = await Promise.race([check(context.text("config") ?? "", toolRunner(start.tools)), held.stopped]);
    if (typeof checked === "string") {
      await context.terminal.write("stderr", `monoceros: received ${checked} during startup; no worker was started\n`);
      return stoppedExitCode(checked);
    }
    const readAgain: ReadAgain = (run, isProxied) => check(checked.file, run, isProxied);
    return await runController(checked, readAgain, { isDebug: context.isSet("debug"), held, start });
  },
};
