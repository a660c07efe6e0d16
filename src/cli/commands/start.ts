/** `monoceros start`: starts workers that were stopped or marked failed. */
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";
import { OPERATION_FLAGS, orderAction } from "../orders.ts";

export const start: Command = {
  name: "start",
  summary: "Start the workers of a pool, or one, that were stopped or given up",
  details: "It shows each step and returns when they are ready.",
  flags: { ...OPERATION_FLAGS, ...CLIENT_FLAGS },
  arguments: [{ name: "POOL|WORKER", isRequired: true, doc: "Name of a pool, or id of a worker such as web-0" }],
  examples: [
    { command: "monoceros start web", doc: "Start every worker of the pool that is down" },
    { command: "monoceros start web-0", doc: "Start one worker" },
  ],
  async run(context) {
    return orderAction(context, await connectController(context), "start", context.arguments[0] ?? "");
  },
};
