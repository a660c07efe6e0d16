/** `monoceros top`: what each worker uses at this moment, over and over. */
import { setTimeout as pause } from "node:timers/promises";
import type { PoolStatus, Status } from "../../admin/api.ts";
import { ControllerError } from "../../base/errors.ts";
import { parseDuration } from "../../base/units.ts";
import { didYouMean } from "../../config/nearest.ts";
import type { ControlClient } from "../client.ts";
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { connectController } from "../connectController.ts";
import type { Screen } from "../screen.ts";

const USUAL_INTERVAL_MS = 2000;
const LEAST_INTERVAL_MS = 100;
/** The first rates shall not wait for a long interval. */
const FIRST_INTERVAL_MS = 1000;

export const top: Command = {
  name: "top",
  summary: "Show what each worker uses, refreshed until q is pressed",
  details:
    "CPU is the share of one CPU, and both CPU and requests are those since the last look. Requests are known behind a\nproxy only. In a pipe, with --once and with --json it looks twice, prints once and ends.",
  flags: {
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
    { command: "monoceros top --once --json", doc: "One look for a program" },
  ],
  async run(context) {
    const intervalMs = intervalOf(context);
    const client = await connectController(context);
    const before = await client.detailedStatus();
    poolsOf(before, context.arguments[0]);
    const isOnce = context.isSet("once") || context.isSet("json");
    using screen = isOnce ? undefined : context.terminal.openScreen();
    if (screen === undefined) await printOnce(context, client, before, Math.min(intervalMs, FIRST_INTERVAL_MS));
    else await watch(context, client, screen, before, intervalMs);
    return 0;
  },
};

async function printOnce(context: Context, client: ControlClient, before: Status, waitMs: number): Promise<void> {
  const { renderTop, topRows } = await import("../renderTop.ts");
  await pause(waitMs);
  const now = await client.detailedStatus();
  const rows = topRows(before, now, poolsOf(now, context.arguments[0]));
  const { terminal } = context;
  const text = context.isSet("json")
    ? JSON.stringify(
        rows.map(({ worker, ...rates }) => ({ ...worker, ...rates })),
        undefined,
        2,
      )
    : renderTop(now, rows, { hasColours: terminal.hasColours, maxLines: Number.POSITIVE_INFINITY }).join("\n");
  await terminal.write("stdout", `${text}\n`);
}

async function watch(
  context: Context,
  client: ControlClient,
  screen: Screen,
  first: Status,
  intervalMs: number,
): Promise<void> {
  const { renderTop, topRows } = await import("../renderTop.ts");
  const { hasColours } = context.terminal;
  let before = first;
  let now = first;
  let waitMs = Math.min(intervalMs, FIRST_INTERVAL_MS);
  while (!screen.ended.aborted) {
    const rows = topRows(before, now, poolsOf(now, context.arguments[0]));
    screen.draw(renderTop(now, rows, { hasColours, maxLines: screen.lines }));
    // Rejected where the user ends it meanwhile.
    await pause(waitMs, undefined, { signal: screen.ended }).catch(() => {});
    if (screen.ended.aborted) return;
    before = now;
    now = await client.detailedStatus();
    waitMs = intervalMs;
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
