/** The operations that this page offers, and the description of their effects. Pure. */
import type { Action } from "../src/admin/api.ts";

export type Order = {
  /** Starts with the verb: `Restart pool "web"`. */
  readonly title: string;
} & (
  | { readonly what: "reload"; readonly target: undefined }
  | {
      readonly what: "scale";
      readonly target: { readonly kind: "pool"; readonly name: string; readonly replicas: number };
    }
  | {
      readonly what: Action;
      readonly target:
        | { readonly kind: "pool"; readonly name: string }
        | { readonly kind: "worker"; readonly id: string };
    }
);

const VERBS: Readonly<Record<Action, string>> = { restart: "Restart", stop: "Stop", start: "Start" };

/** An operation on a whole pool. */
export function poolOrder(what: Action, name: string): Order {
  return { what, target: { kind: "pool", name }, title: `${VERBS[what]} pool "${name}"` };
}

/** An operation on one worker. */
export function workerOrder(what: Action, id: string): Order {
  return { what, target: { kind: "worker", id }, title: `${VERBS[what]} worker "${id}"` };
}

/** A change of the number of replicas. */
export function scaleOrder(name: string, replicas: number): Order {
  return { what: "scale", target: { kind: "pool", name, replicas }, title: `Scale pool "${name}"` };
}

/** The effect, shown before the user confirms. */
export function consequenceOf({ what, target }: Order): string {
  const isPool = target?.kind === "pool";
  switch (what) {
    case "restart":
      return isPool
        ? "Replaces all workers, a few at a time. If a successor fails, the remaining workers keep running."
        : "Replaces the worker.";
    case "stop":
      return isPool
        ? "Stops all workers until the pool is started again. Until then, the pool serves no requests."
        : "Stops the worker until it is started again.";
    case "start":
      return isPool ? "Starts all stopped or failed workers." : "Starts the worker.";
    case "scale":
      return "Applies until the next scale, or until a reload with another value of replicas in the file.";
    case "reload":
      return "Applies these changes of the configuration file:";
  }
}
