/** Where the proxy of a pool sends requests: a pure function of the view. */
import type { Slot } from "./identity.ts";
import type { PoolView, WorkerView } from "./view.ts";

/**
 * serving: receives requests. standby: receives none yet, but the proxy knows it and can use it at once. draining: no new
 * requests, and the proxy reports when those in flight are done. unready: the same without a report.
 */
export type Route = "serving" | "standby" | "draining" | "unready";

/** Routes of the workers that the proxy must know, by slot. */
export function routesOf({ workers, replicas, standby, readyCount }: PoolView): ReadonlyMap<Slot, Route> {
  const routes = new Map<Slot, Route>();
  const answering: WorkerView[] = [];
  for (const worker of workers) {
    // Without a process its revision is that of the last one, which has exited.
    if (worker.pid === undefined) continue;
    if (worker.answeredAt !== undefined) answering.push(worker);
    const route = routeOf(worker);
    if (route !== undefined) routes.set(worker.slot, route);
  }
  // Workers that are about to be ready serve in the order in which they answered, as far as the pool needs them.
  answering.sort((a, b) => (a.answeredAt ?? 0) - (b.answeredAt ?? 0) || a.slot - b.slot);
  for (const [index, { slot }] of answering.entries())
    routes.set(slot, standby > 0 && readyCount + index >= replicas ? "standby" : "serving");
  return routes;
}

function routeOf({ phase, isStandby, servesInPanic }: WorkerView): Route | undefined {
  if (servesInPanic) return "serving";
  switch (phase) {
    case "ready":
      return isStandby ? "standby" : "serving";
    case "draining":
    case "unready":
      return phase;
    default:
      return undefined;
  }
}
