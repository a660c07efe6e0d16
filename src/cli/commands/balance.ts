/** `monoceros balance`: how evenly the load of each pool is spread over its workers, and a recommendation. */
import type { PoolStatus, Status } from "../../admin/api.ts";
import { ControllerError } from "../../base/errors.ts";
import { didYouMean } from "../../config/nearest.ts";
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";

export const balance: Command = {
  name: "balance",
  summary: "Show how evenly load is spread over workers, and recommend a change",
  details:
    "Compares ready workers over about the last minute. SHARE is a worker's part of the pool's total. Spread is the highest\nvalue divided by the mean: 1 is even, and 4 means that one of four workers does everything. Requests are counted only\nbehind a proxy.",
  flags: CLIENT_FLAGS,
  arguments: [{ name: "POOL", isRequired: false, doc: "Show only this pool" }],
  examples: [
    { command: "monoceros balance", doc: "Print a table and a recommendation for each pool" },
    { command: "monoceros balance web --json", doc: "Print the same as JSON" },
  ],
  async run(context) {
    const { renderBalance } = await import("../screen/renderBalance.ts");
    const status = await (await connectController(context)).status("detail");
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
    `Cannot show the balance of pool "${name}": no such pool of workers${didYouMean(name, names)}`,
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
