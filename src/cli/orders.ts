/**
 * Shared by `restart`, `scale`, `stop`, `start` and `reload`: finds the target, follows the operation in the controller,
 * and reports its outcome. Interrupting the wait leaves the operation running.
 */
import type { Action, EventRecord, Operation, OperationAccepted, Status } from "../admin/api.ts";
import { foldOperation, hasEnded, isOperationEvent } from "../admin/operations.ts";
import { ControllerError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";
import { didYouMean } from "../config/nearest.ts";
import type { ControlClient } from "./client.ts";
import type { Context, Flag } from "./command.ts";
import { connectController } from "./connectController.ts";

/** The exit code that shells use for a command ended by SIGINT (128 + 2). */
const EXIT_INTERRUPTED = 130;

/** Flags of each command that starts an operation. */
export const OPERATION_FLAGS: Readonly<Record<string, Flag>> = {
  "no-wait": { type: "boolean", doc: "Return immediately and print the operation id" },
};

/** The target of an order. */
export interface Target {
  readonly kind: "pool" | "worker";
  /** Name of the pool or id of the worker. */
  readonly name: string;
  /** The pool itself, or the worker's pool. */
  readonly pool: string;
}

/** The pool or worker with this name. @throws ControllerError WORKER_UNKNOWN with the nearest name */
export function findTarget(status: Status, name: string, verb: Action): Target {
  const { pools } = status;
  if (pools.some((pool) => pool.name === name)) return { kind: "pool", name, pool: name };
  const workers = pools.flatMap((pool) => pool.workers);
  const worker = workers.find(({ id }) => id === name);
  if (worker !== undefined) return { kind: "worker", name, pool: worker.pool };
  const guess = didYouMean(name, [...pools.map((pool) => pool.name), ...workers.map(({ id }) => id)]);
  throw new ControllerError("WORKER_UNKNOWN", `Cannot ${verb} "${name}": no such pool or worker${guess}`);
}

/** The pool with this name. @throws ControllerError POOL_UNKNOWN with the nearest name */
export function findPool(status: Status, name: string, verb: "scale"): Target {
  const names = status.pools.map((pool) => pool.name);
  if (names.includes(name)) return { kind: "pool", name, pool: name };
  throw new ControllerError("POOL_UNKNOWN", `Cannot ${verb} pool "${name}": no such pool${didYouMean(name, names)}`);
}

/** An order that the controller has accepted. */
export interface Order {
  readonly target: Target;
  /** For example `restart of pool "web"`. */
  readonly what: string;
  readonly accepted: OperationAccepted;
}

/**
 * Requests `action` of the pool or worker that the first argument names, and waits for its end, except with --no-wait.
 * Returns the exit code. @throws ControllerError
 */
export async function orderAction(context: Context, action: Action): Promise<number> {
  const [name = ""] = context.arguments;
  const client = await connectController(context);
  const target = findTarget(await client.status(), name, action);
  const accepted = await client.order(target, action);
  return carryOut(context, client, { target, what: `${action} of ${target.kind} "${name}"`, accepted });
}

/**
 * Prints each step of an operation until it ends, and then its outcome. Resolves with the exit code.
 * @throws ControllerError OPERATION_FAILED, NO_CONTROLLER if the controller exits first
 */
export async function carryOut(context: Context, client: ControlClient, order: Order): Promise<number> {
  const { terminal } = context;
  const id = order.accepted.operation;
  const isJson = context.isSet("json");
  if (context.isSet("no-wait")) {
    const text = isJson ? JSON.stringify(await client.operation(id)) : id;
    await terminal.write("stdout", `${text}\n`);
    return 0;
  }
  const operation = await follow(context, client, order);
  if (operation === undefined) {
    await terminal.write("stderr", `monoceros: stopped waiting; ${order.what} (${id}) continues in the controller\n`);
    return EXIT_INTERRUPTED;
  }
  if (isJson) await terminal.write("stdout", `${JSON.stringify(operation)}\n`);
  if (operation.state === "failed") throw failure(order, operation);
  if (!isJson) await terminal.write("stdout", `${await summary(client, order, operation)}\n`);
  return 0;
}

/** The finished operation; undefined if the user interrupted the wait. */
async function follow(context: Context, client: ControlClient, order: Order): Promise<Operation | undefined> {
  const { terminal } = context;
  const { accepted, target, what } = order;
  const { renderEvent } = await import("./screen/render.ts");
  const interruption = new AbortController();
  using _ = terminal.onInterrupt(() => interruption.abort());
  let operation: Operation | undefined;
  let shutdownReason: string | undefined;
  let lastSeq = accepted.since;
  const stream = client.events({ since: lastSeq, isFollowing: true, signal: interruption.signal });
  for await (const record of stream) {
    const hasGap = record.seq !== lastSeq + 1;
    lastSeq = record.seq;
    // The controller may have dropped the missing events, including the end of the operation.
    if (hasGap) operation = await client.operation(accepted.operation);
    if (isOperationEvent(record) && record.operation === accepted.operation)
      operation = foldOperation(operation, record, record.time);
    if (record.kind === "controller_stopping") shutdownReason = record.reason;
    if (!context.isSet("json") && isStep(record, target))
      await terminal.writePainted("stdout", renderEvent(record, terminal));
    if (operation !== undefined && hasEnded(operation)) return operation;
  }
  if (interruption.signal.aborted) return undefined;
  if (shutdownReason !== undefined)
    throw new ControllerError(
      "OPERATION_FAILED",
      `Cannot finish ${what}: the controller shut down (${shutdownReason})`,
    );
  throw new ControllerError(
    "NO_CONTROLLER",
    `Cannot determine the result of ${what} (${accepted.operation}): the controller exited`,
    { hint: "See its log for the reason." },
  );
}

/** Whether to print an event while waiting: events of the pool, except those that another line repeats. */
function isStep(record: EventRecord, target: Target): boolean {
  if (record.kind === "controller_stopping" || record.kind === "controller_killing") return true;
  if (!("pool" in record) || record.pool !== target.pool) return false;
  if (record.kind === "starting") return record.delayMs > 0;
  return record.kind !== "spawned" && !(record.kind === "exited" && record.planned);
}

function failure({ what }: Order, { id, done, total, error = "unknown reason" }: Operation): ControllerError {
  const progress = total > 0 ? `, ${done} of ${total} workers done` : "";
  return new ControllerError("OPERATION_FAILED", `Cannot finish ${what} (${id}${progress}): ${error}`, {
    hint: "Run `monoceros status` for the current state, and `monoceros events` for what happened.",
  });
}

/** The outcome of an operation that succeeded. @throws ControllerError if it found nothing to do */
async function summary(client: ControlClient, { target, what }: Order, operation: Operation): Promise<string> {
  const { total, done, started_at: startedAt, ended_at: endedAt } = operation;
  if (total === 0 && operation.what !== "scale" && operation.what !== "reload")
    return nothingToDo(await client.status(), target, operation);
  const tookMs = startedAt === null || endedAt === null ? 0 : Date.parse(endedAt) - Date.parse(startedAt);
  const count = total === 0 ? "" : `, ${done} of ${total} worker${total === 1 ? "" : "s"}`;
  return `${what} finished in ${formatDuration(tookMs)}${count}`;
}

function nothingToDo(status: Status, target: Target, operation: Operation): string {
  if (target.kind === "pool") return `nothing to do: pool "${target.name}" has no worker to ${operation.what}`;
  const worker = status.pools.flatMap((pool) => pool.workers).find(({ id }) => id === target.name);
  const isUp = worker !== undefined && worker.phase !== "down";
  if (operation.what === "start" && isUp)
    return `nothing to do: worker "${target.name}" is already running (${worker.phase})`;
  throw new ControllerError(
    "REQUEST_REFUSED",
    `Cannot ${operation.what} worker "${target.name}": it is ${worker === undefined ? "no longer in use" : `${worker.phase} (${worker.reason})`}`,
    {
      hint:
        operation.what === "start"
          ? "`monoceros start` starts stopped or failed workers; to add workers, use `monoceros scale`."
          : "Run `monoceros status` to see the running workers.",
    },
  );
}
