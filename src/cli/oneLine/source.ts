/** The command line of a program as the source of a configuration. */
import { dirname } from "node:path";
import { ControllerError } from "../../base/errors.ts";
import type { Plain } from "../../config/kind.ts";
import type { ConfigSource } from "../../controller/configFile.ts";
import type { Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { readPoolOptions } from "./options.ts";
import { planLine } from "./plan.ts";

/** A configuration that was made from a command line. */
export interface OneLine {
  readonly source: Exclude<ConfigSource, string>;
  readonly document: Plain;
  /** One line: which mode, why, and what was changed. */
  readonly explanation: string;
}

/** What messages call the configuration. */
const NAME = "command line";

/**
 * The configuration for the words after `--` and the flags of `called`, such as `monoceros run`. The same function makes
 * what runs and what --print-config prints. Rejects with a ControllerError USAGE or ENVOY_NOT_FOUND.
 */
export async function readOneLine(context: Context, called: string): Promise<OneLine> {
  const [{ hasEnvoy }, { formatDocument }] = await Promise.all([
    import("../../envoy/control/binary.ts"),
    import("../../config/show.ts"),
  ]);
  const { env, rest = [] } = context;
  const options = readPoolOptions(context, called);
  const binary = { exec: undefined, path: env["PATH"], ownDirectory: dirname(process.execPath) };
  const plan = planLine(rest, options, { port: env["PORT"], hasEnvoy: hasEnvoy(binary) });
  if (!plan.ok) {
    if (plan.code === "USAGE") throw usage(plan.message, called);
    throw new ControllerError(plan.code, plan.message, { hint: plan.hint });
  }
  const { document, explanation } = plan;
  return { source: { name: NAME, text: formatDocument(document, explanation) }, document, explanation };
}

/** Why a controller that was started from a command line does not reload. */
export function reloadRefusal(): ControllerError {
  return new ControllerError(
    "REQUEST_REFUSED",
    "Cannot reload: the controller was started from a command line, so it has no configuration file; write one with `monoceros run --print-config`, and start it with -c",
  );
}
