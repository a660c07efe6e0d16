/** `monoceros scale`: changes the number of replicas of a pool. */
import { MAX_REPLICAS } from "../../core/spec.ts";
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { connectController } from "../connectController.ts";
import { carryOut, findPool, OPERATION_FLAGS } from "../orders.ts";

export const scale: Command = {
  name: "scale",
  summary: "Change the number of workers of a pool",
  details:
    "Prints each step and returns when N workers are ready and surplus workers have exited. Does not change the configuration\nfile: after a restart of the controller, the number in the file applies again.",
  flags: { ...OPERATION_FLAGS, ...CLIENT_FLAGS },
  arguments: [
    { name: "POOL", isRequired: true, doc: "Pool name" },
    { name: "N", isRequired: true, doc: "Number of replicas, at least 1" },
  ],
  examples: [
    { command: "monoceros scale web 8", doc: "Scale pool web to eight workers" },
    { command: "monoceros scale web 2 --json", doc: "Print the finished operation as JSON" },
  ],
  async run(context) {
    const replicas = replicasOf(context);
    const client = await connectController(context);
    const target = findPool(await client.status(), context.arguments[0] ?? "", "scale");
    const accepted = await client.scale(target.name, replicas);
    return carryOut(context, client, { target, what: `scale of pool "${target.name}" to ${replicas}`, accepted });
  },
};

function replicasOf(context: Context): number {
  const text = context.arguments[1] ?? "";
  const replicas = Number(text);
  if (/^\d+$/u.test(text) && replicas >= 1 && replicas <= MAX_REPLICAS) return replicas;
  throw usage(`N: expected a number of replicas from 1 to ${MAX_REPLICAS}, got "${text}"`, "monoceros scale");
}
