/** `monoceros restart`: replaces the workers of a pool, or one worker, without downtime. */
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { OPERATION_FLAGS, orderAction } from "../orders.ts";

export const restart: Command = {
  name: "restart",
  summary: "Restart the workers of a pool without downtime, or one worker",
  details:
    "Replaces a few workers at a time, as configured by `rolling`. By default, each successor is ready before its predecessor\nstops. Prints each step and returns when all workers are replaced. If a successor does not become ready, the remaining\nworkers keep running and the exit code is 1.",
  flags: { ...OPERATION_FLAGS, ...CLIENT_FLAGS },
  arguments: [{ name: "POOL|WORKER", isRequired: true, doc: "Pool name, or worker id such as web-0" }],
  examples: [
    { command: "monoceros restart web", doc: "Replace all workers of pool web" },
    { command: "monoceros restart web-0", doc: "Replace one worker" },
    { command: "monoceros restart web --no-wait", doc: "Print the operation id and return immediately" },
  ],
  run: (context) => orderAction(context, "restart"),
};
