/** `monoceros start`: starts workers that were stopped or marked failed. */
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { OPERATION_FLAGS, orderAction } from "../orders.ts";

export const start: Command = {
  name: "start",
  summary: "Start the stopped or failed workers of a pool, or one such worker",
  details: "Prints each step and returns when the workers are ready.",
  flags: { ...OPERATION_FLAGS, ...CLIENT_FLAGS },
  arguments: [{ name: "POOL|WORKER", isRequired: true, doc: "Pool name, or worker id such as web-0" }],
  examples: [
    { command: "monoceros start web", doc: "Start all workers of pool web that are down" },
    { command: "monoceros start web-0", doc: "Start one worker" },
  ],
  run: (context) => orderAction(context, "start"),
};
