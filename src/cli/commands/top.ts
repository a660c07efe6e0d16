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
  summary: "Show what each worker uses, refreshed until q is pressed",
  details:
    "CPU is the share of one CPU. CPU and memory are sums over all processes of the worker. CPU and requests are rates since\nthe last refresh; requests are known behind a proxy only. In a pipe, with --once and with --json it takes two samples,\nprints once and exits. Keys: p shows or hides the processes of each worker, the busiest first; q, Escape and Ctrl-C exit.",
  flags: {
    processes: { type: "boolean", short: "p", doc: "Show the processes of each worker" },
    once: { type: "boolean", doc: "Print one table and end" },
    interval: {
      type: "string",
      short: "n",
      value: "DURATION",
      doc: "Time between looks, such as 500ms; 2s unless told",
    },
    ...CLIENT_FLAGS,
  },
  arguments: [{ name: "POOL", isRequired: false, doc: "Only this pool" }],
  examples: [
    { command: "monoceros top", doc: "Watch all workers" },
    { command: "monoceros top web -n 500ms", doc: "Watch one pool closely" },
    { command: "monoceros top web --processes", doc: "Also what each process of its workers uses" },
    { command: "monoceros top --once --json", doc: "One look for a program" },
  ],
  async run(context) {
    const intervalMs = intervalOf(context);
    const client = await connectController(context);
    const before = await look(client, context.isSet("processes"));
    poolsOf(before, context.arguments[0]);
    const isOnce = context.isSet("once") || context.isSet("json");
    using screen = isOnce ? undefined : context.terminal.openScreen();
    if (screen === undefined) await printOnce(context, client, before, Math.min(intervalMs, FIRST_INTERVAL_MS));
    else await watch(context, client, screen, before, intervalMs);
    return 0;
  },
};

function look(client: ControlClient, withProcesses: boolean): Promise<Status> {
  return withProcesses ? client.processStatus() : client.detailedStatus();
}

async function printOnce(context: Context, client: ControlClient, before: Status, waitMs: number): Promise<void> {
  const { renderTop, topRows } = await import("../screen/renderTop.ts");
  await pause(waitMs);
  const now = await look(client, context.isSet("processes"));
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
    const next = await look(client, withProcesses);
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
  throw new ControllerError("POOL_UNKNOWN", `Cannot watch pool "${name}": there is no such pool${guess}`);
}

function intervalOf(context: Context): number {
  const text = context.text("interval");
  if (text === undefined) return USUAL_INTERVAL_MS;
  const ms = parseDuration(text);
  if (ms !== undefined && ms >= LEAST_INTERVAL_MS) return ms;
  throw usage(`--interval expects a duration of at least 100ms such as 2s, got "${text}"`, "monoceros top");
}
