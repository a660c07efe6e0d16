/** What an operator may ask for on this page, and what it says before it is done. Pure. */
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

/** An order about a whole pool. */
export function poolOrder(what: Action, name: string): Order {
  return { what, target: { kind: "pool", name }, title: `${VERBS[what]} pool "${name}"` };
}

/** An order about one worker. */
export function workerOrder(what: Action, id: string): Order {
  return { what, target: { kind: "worker", id }, title: `${VERBS[what]} worker "${id}"` };
}

/** An order for another number of replicas. */
export function scaleOrder(name: string, replicas: number): Order {
  return { what: "scale", target: { kind: "pool", name, replicas }, title: `Scale pool "${name}"` };
}

/** What will happen, before it is confirmed. */
export function consequenceOf({ what, target }: Order): string {
  const isPool = target?.kind === "pool";
  switch (what) {
    case "restart":
      return isPool
        ? "Every worker is replaced, a few at a time; a successor that fails ends it and the rest stays."
        : "The worker is replaced.";
    case "stop":
      return isPool
        ? "Every worker is stopped and stays so until the pool is started. It serves nobody meanwhile."
        : "The worker is stopped and stays so until it is started.";
    case "start":
      return isPool ? "Every worker that was stopped or given up is started." : "The worker is started.";
    case "scale":
      return "The number holds until the next scale, or until replicas changes in the file and is reloaded.";
    case "reload":
      return "The configuration file is read anew. This is what would change:";
  }
}
