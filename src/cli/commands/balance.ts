/** `monoceros balance`: how evenly the load of each pool is spread over its workers, and what would help. */
import type { PoolStatus, Status } from "../../admin/api.ts";
import { ControllerError } from "../../base/errors.ts";
import { didYouMean } from "../../config/nearest.ts";
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";

export const balance: Command = {
  name: "balance",
  summary: "Show how evenly work is spread over workers, and what would help",
  details:
    "Workers are compared over the last minute or so, as far as they have been ready for so long. A spread of 1 is even;\nwith four workers, 4 is one that does everything. Requests are known of pools behind a proxy only.",
  flags: CLIENT_FLAGS,
  arguments: [{ name: "POOL", isRequired: false, doc: "Only this pool" }],
  examples: [
    { command: "monoceros balance", doc: "A table for each pool, with advice" },
    { command: "monoceros balance web --json", doc: "The same numbers for a program" },
  ],
  async run(context) {
    const { renderBalance } = await import("../screen/renderBalance.ts");
    const status = await (await connectController(context)).detailedStatus();
    const pools = poolsOf(status, context.arguments[0]);
    const { terminal } = context;
    if (context.isSet("json"))
      await terminal.write("stdout", `${JSON.stringify(pools.map(documentOf), undefined, 2)}\n`);
    else await terminal.writePainted("stdout", renderBalance(pools, terminal));
    return 0;
  },
};

/** The pools of workers, or only the named one. @throws ControllerError POOL_UNKNOWN */
function poolsOf(status: Status, name: string | undefined): readonly PoolStatus[] {
  const pools = status.pools.filter((pool) => pool.balance !== undefined);
  if (name === undefined) return pools;
  const found = pools.filter((pool) => pool.name === name);
  if (found.length > 0) return found;
  const names = pools.map((pool) => pool.name);
  throw new ControllerError(
    "POOL_UNKNOWN",
    `Cannot show the balance of pool "${name}": there is no such pool of workers${didYouMean(name, names)}`,
  );
}

function documentOf({ name, balance, workers }: PoolStatus): object {
  const ready = workers.filter(({ phase }) => phase === "ready");
  return {
    pool: name,
    ...balance,
    workers: ready.map(({ id, detail }) => ({
      id,
      cpu_ratio: detail?.cpu_ratio ?? null,
      requests_per_second: detail?.requests_per_second ?? null,
      requests_in_flight: detail?.requests_in_flight ?? null,
    })),
  };
}
