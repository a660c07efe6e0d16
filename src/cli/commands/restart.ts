/** `monoceros restart`: replaces the workers of a pool, or one worker, without losing capacity. */
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";
import { OPERATION_FLAGS, orderAction } from "../orders.ts";

export const restart: Command = {
  name: "restart",
  summary: "Replace the workers of a pool, a few at a time, or one worker",
  details:
    "Each successor is ready before its predecessor stops, as `rolling` in the configuration says. It shows each step and\nreturns when all are replaced. Where a successor does not become ready the rest stays as it is, with exit code 1.",
  flags: { ...OPERATION_FLAGS, ...CLIENT_FLAGS },
  arguments: [{ name: "POOL|WORKER", isRequired: true, doc: "Name of a pool, or id of a worker such as web-0" }],
  examples: [
    { command: "monoceros restart web", doc: "Replace all workers of the pool web" },
    { command: "monoceros restart web-0", doc: "Replace one worker" },
    { command: "monoceros restart web --no-wait", doc: "Print the operation's id and return" },
  ],
  async run(context) {
    return orderAction(context, await connectController(context), "restart", context.arguments[0] ?? "");
  },
};
