/** `monoceros top`: current usage of each worker and, with p, of each of its processes, refreshed continuously. */
import { setTimeout as pause } from "node:timers/promises";
import type { PoolStatus, Status } from "../../admin/api.ts";
import { ControllerError } from "../../base/errors.ts";
import { parseDuration } from "../../base/units.ts";
import { didYouMean } from "../../config/nearest.ts";
import type { ControlClient } from "../client.ts";
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { connectController } from "../connectController.ts";
import type { Screen } from "../screen/screen.ts";

const USUAL_INTERVAL_MS = 2000;
const LEAST_INTERVAL_MS = 100;
/** The first interval is short, so that rates appear quickly. */
const FIRST_INTERVAL_MS = 1000;

/** Toggles the display of the processes of each worker. */
const PROCESSES_KEY = "p";

export const top: Command = {
  name: "top",
  summary: "Show CPU, memory and requests of each worker, refreshed continuously",
  details:
    "A CPU value of 100 % is one full core. CPU and memory are sums over all processes of a worker. CPU and REQ/S are rates\nsince the last refresh. Requests are counted only behind a proxy. In a pipe, or with --once or --json, the command takes\ntwo samples, prints once and exits. Keys: p shows the processes of each worker, busiest first; q, Escape or Ctrl-C exits.",
  flags: {
    processes: { type: "boolean", short: "p", doc: "Show the processes of each worker" },
    once: { type: "boolean", doc: "Print one table and exit" },
    interval: { type: "string", short: "n", value: "DURATION", doc: "Refresh interval, such as 500ms (default 2s)" },
    ...CLIENT_FLAGS,
  },
  arguments: [{ name: "POOL", isRequired: false, doc: "Show only this pool" }],
  examples: [
    { command: "monoceros top", doc: "Show all workers, refreshed every 2 seconds" },
    { command: "monoceros top web -n 500ms", doc: "Show one pool, refreshed twice a second" },
    { command: "monoceros top web --processes", doc: "Include the processes of each worker" },
    { command: "monoceros top --once --json", doc: "Print one sample for a script" },
  ],
  async run(context) {
    const intervalMs = intervalOf(context);
    const client = await connectController(context);
    const before = await sample(client, context.isSet("processes"));
    poolsOf(before, context.arguments[0]);
    const isOnce = context.isSet("once") || context.isSet("json");
    using screen = isOnce ? undefined : context.terminal.openScreen();
    if (screen === undefined) await printOnce(context, client, before, Math.min(intervalMs, FIRST_INTERVAL_MS));
    else await watch(context, client, screen, before, intervalMs);
    return 0;
  },
};

function sample(client: ControlClient, withProcesses: boolean): Promise<Status> {
  return client.status(withProcesses ? "processes" : "detail");
}

async function printOnce(context: Context, client: ControlClient, before: Status, waitMs: number): Promise<void> {
  const { renderTop, topRows } = await import("../screen/renderTop.ts");
  await pause(waitMs);
  const now = await sample(client, context.isSet("processes"));
  const rows = topRows(before, now, poolsOf(now, context.arguments[0]));
  const { terminal } = context;
  if (context.isSet("json")) {
    const document = rows.map(({ worker, processes, ...rates }) => ({
      ...worker,
      ...rates,
      ...(processes && { processes }),
    }));
    await terminal.write("stdout", `${JSON.stringify(document, undefined, 2)}\n`);
    return;
  }
  const lines = renderTop(now, rows, { hasColours: terminal.hasColours, maxLines: Number.POSITIVE_INFINITY });
  await terminal.writePainted("stdout", `${lines.join("\n")}\n`);
}

async function watch(
  context: Context,
  client: ControlClient,
  screen: Screen,
  first: Status,
  intervalMs: number,
): Promise<void> {
  const { renderTop, topRows } = await import("../screen/renderTop.ts");
  const { hasColours } = context.terminal;
  let before = first;
  let now = first;
  let waitMs = Math.min(intervalMs, FIRST_INTERVAL_MS);
  let withProcesses = context.isSet("processes");
  let pressed = new AbortController();
  screen.onKey((key) => {
    if (key !== PROCESSES_KEY) return;
    withProcesses = !withProcesses;
    pressed.abort();
  });
  while (!screen.ended.aborted) {
    const rows = topRows(before, now, poolsOf(now, context.arguments[0]));
    screen.draw(renderTop(now, rows, { hasColours, maxLines: screen.lines }));
    // Rejected if the user presses a key in the meantime.
    const signal = AbortSignal.any([screen.ended, pressed.signal]);
    await pause(waitMs, undefined, { signal }).catch(() => {});
    if (screen.ended.aborted) return;
    const isPressed = pressed.signal.aborted;
    pressed = new AbortController();
    const next = await sample(client, withProcesses);
    // After a key press the interval is too short for meaningful rates, so the previous base is kept.
    if (!isPressed) before = now;
    now = next;
    waitMs = isPressed ? Math.min(intervalMs, FIRST_INTERVAL_MS) : intervalMs;
  }
}

/** All pools, or the named one with its proxy. @throws ControllerError POOL_UNKNOWN */
function poolsOf({ pools }: Status, name: string | undefined): readonly PoolStatus[] {
  if (name === undefined) return pools;
  const found = pools.filter((pool) => pool.name === name || pool.fronts === name);
  if (found.length > 0) return found;
  const guess = didYouMean(
    name,
    pools.map((pool) => pool.name),
  );
  throw new ControllerError("POOL_UNKNOWN", `Cannot show pool "${name}": no such pool${guess}`);
}

function intervalOf(context: Context): number {
  const text = context.text("interval");
  if (text === undefined) return USUAL_INTERVAL_MS;
  const ms = parseDuration(text);
  if (ms !== undefined && ms >= LEAST_INTERVAL_MS) return ms;
  throw usage(`--interval: expected a duration of at least 100ms, such as 2s, got "${text}"`, "monoceros top");
}
