/** `monoceros reload`: applies changes of the configuration file, or reports what they would do. */
import type { ReloadAccepted } from "../../admin/api.ts";
import { ControllerError } from "../../base/errors.ts";
import type { ControlClient } from "../client.ts";
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { connectController } from "../connectController.ts";
import { carryOut, OPERATION_FLAGS } from "../orders.ts";

export const reload: Command = {
  name: "reload",
  summary: "Apply what has changed in the configuration file",
  details:
    "Only what changed is touched: workers are replaced a few at a time where they have to be, and nothing is where a\nsetting takes effect without it. An invalid file changes nothing, and every problem in it is shown.",
  flags: {
    "dry-run": { type: "boolean", doc: "Only show what would change" },
    ...OPERATION_FLAGS,
    ...CLIENT_FLAGS,
  },
  arguments: [],
  examples: [
    { command: "monoceros reload --dry-run", doc: "Show what would change" },
    { command: "monoceros reload", doc: "Apply it and wait until it is done" },
  ],
  async run(context) {
    const client = await connectController(context);
    const isDryRun = context.isSet("dry-run");
    const accepted = await client.reload(isDryRun);
    if (context.isSet("json")) await context.terminal.write("stdout", `${JSON.stringify(accepted)}\n`);
    else await context.terminal.write("stdout", planText(accepted, isDryRun));
    return isDryRun ? 0 : followAll(context, client, accepted);
  },
};

function planText({ changes, refused, failed }: ReloadAccepted, isDryRun: boolean): string {
  const lines = changes.length === 0 ? ["nothing has changed"] : [...changes];
  for (const { path, reason } of refused) lines.push(`${path} stays as it is: ${reason}`);
  for (const { path, reason } of failed) lines.push(`${path} is as it was: ${reason}`);
  if (isDryRun && changes.length > 0) lines.push("(dry run: nothing was done)");
  return `${lines.join("\n")}\n`;
}

/** Runs all of them in sequence, then throws the first error. */
async function followAll(context: Context, client: ControlClient, accepted: ReloadAccepted): Promise<number> {
  const [first] = accepted.failed;
  let failed =
    first && new ControllerError("OPERATION_FAILED", `Not all of it is in force: ${first.path}: ${first.reason}`);
  for (const { id, pool } of accepted.operations) {
    const target = { kind: "pool", name: pool, pool } as const;
    const order = { accepted: true, operation: id, since: accepted.since } as const;
    try {
      const code = await carryOut(context, client, { target, what: `reload of pool "${pool}"`, accepted: order });
      if (code !== 0) return code;
    } catch (error) {
      if (!(error instanceof ControllerError) || error.code !== "OPERATION_FAILED") throw error;
      failed ??= error;
    }
  }
  if (failed !== undefined) throw failed;
  return 0;
}
