/** Turns a scale request into an order, if the configuration allows it. Part of the composition root. Pure. */
import { ControllerError } from "../../base/errors.ts";
import type { Config } from "../../config/config.ts";
import { findPortProblems } from "../../config/ports.ts";
import type { Order } from "../../core/pool/order.ts";
import { MAX_REPLICAS } from "../../core/spec.ts";
import type { ControllerView } from "../../core/view.ts";

/**
 * The order that scales the pool with index `pool` to `replicas`.
 * @throws ControllerError REQUEST_REFUSED if its workers would need ports that others have, or that do not exist
 */
export function scaleOrder(config: Config, view: ControllerView, pool: number, replicas: number): Order {
  const name = view.pools.find(({ index }) => index === pool)?.name;
  const configured = config.supervisor.pools.find((each) => each.name === name);
  if (configured === undefined)
    throw new ControllerError("REQUEST_REFUSED", `Cannot scale pool "${name}": it is not in the configuration`);
  const { minReplicas: min = 1, maxReplicas: max = MAX_REPLICAS } = configured.autoscale ?? {};
  if (replicas < min || replicas > max) {
    const limit = configured.autoscale === undefined ? "the limit is" : "autoscale allows";
    throw new ControllerError(
      "REQUEST_REFUSED",
      `Cannot scale pool "${name}" to ${replicas}: ${limit} ${min} to ${max} replicas`,
    );
  }
  const now = new Map(view.pools.map((each) => [each.name, each.replicas]));
  const replicasOf = (wanted: number) => (each: { readonly name?: string | undefined }) =>
    each.name === name ? wanted : (now.get(each.name ?? "") ?? 1);
  const before = new Set(findPortProblems(config, replicasOf(1)).map(({ message }) => message));
  const problem = findPortProblems(config, replicasOf(replicas)).find(({ message }) => !before.has(message));
  if (problem !== undefined)
    throw new ControllerError("REQUEST_REFUSED", `Cannot scale pool "${name}" to ${replicas}: ${problem.message}`);
  return { kind: "scale", replicas };
}
