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
    "It shows each step and returns when so many are ready and the others are gone. The configuration file stays as it is:\nthe next start of the controller has its number again.",
  flags: { ...OPERATION_FLAGS, ...CLIENT_FLAGS },
  arguments: [
    { name: "POOL", isRequired: true, doc: "Name of a pool" },
    { name: "N", isRequired: true, doc: "Number of replicas, from 1 on" },
  ],
  examples: [
    { command: "monoceros scale web 8", doc: "Have eight workers" },
    { command: "monoceros scale web 2 --json", doc: "Print the operation at its end as JSON" },
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
  throw usage(`scale expects a number of replicas from 1 to ${MAX_REPLICAS}, got "${text}"`, "monoceros scale");
}
