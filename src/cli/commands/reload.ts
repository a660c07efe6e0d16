/** `monoceros reload`: applies changes of the configuration file, or reports what they would do. */
import type { ReloadAccepted } from "../../admin/api.ts";
import { ControllerError } from "../../base/errors.ts";
import type { ControlClient } from "../client.ts";
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { connectController } from "../connectController.ts";
import { carryOut, OPERATION_FLAGS } from "../orders.ts";

export const reload: Command = {
  name: "reload",
  summary: "Apply a changed configuration file",
  details:
    "Applies only what changed. Workers are replaced, a few at a time, only if a changed setting requires it. If the file is\ninvalid, nothing changes, and the command prints every problem.",
  flags: {
    "dry-run": { type: "boolean", doc: "Only show what would change" },
    ...OPERATION_FLAGS,
    ...CLIENT_FLAGS,
  },
  arguments: [],
  examples: [
    { command: "monoceros reload --dry-run", doc: "Show what would change" },
    { command: "monoceros reload", doc: "Apply the changes and wait until they are complete" },
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
  for (const { path, reason } of refused) lines.push(`${path} cannot be changed: ${reason}`);
  for (const { path, reason } of failed) lines.push(`${path} was not changed: ${reason}`);
  if (isDryRun && changes.length > 0) lines.push("(dry run: nothing was done)");
  return `${lines.join("\n")}\n`;
}

/** Waits for all operations, then throws the first error. */
async function followAll(context: Context, client: ControlClient, accepted: ReloadAccepted): Promise<number> {
  const [first] = accepted.failed;
  let failed =
    first && new ControllerError("OPERATION_FAILED", `Cannot apply all changes: ${first.path}: ${first.reason}`);
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
