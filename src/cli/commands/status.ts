/** `monoceros status`: the current state of the workers, once or refreshed. */
import { setTimeout as pause } from "node:timers/promises";
import type { ControlClient } from "../client.ts";
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { connectController } from "../connectController.ts";

const WATCH_EVERY_MS = 1000;

/** Control sequences (ECMA-48): move to the first line; clear from the cursor to the end. */
const HOME = "\u001b[H";
const CLEAR_REST = "\u001b[J";
const CLEAR_LINE = "\u001b[K";

export const status: Command = {
  name: "status",
  summary: "Show the phase of each worker and the reason, such as why it is not ready",
  details:
    "REASON says why a worker is in its phase, or what it waits for before it is ready. NEXT says what happens to it next.\nFor what happened before, see `monoceros events`.",
  flags: {
    watch: { type: "boolean", short: "w", doc: "Refresh every second, until Ctrl-C or until the controller exits" },
    ...CLIENT_FLAGS,
  },
  arguments: [],
  examples: [
    { command: "monoceros status", doc: "Print a table of each pool" },
    { command: "monoceros status -w", doc: "Refresh the table every second" },
    { command: "monoceros status --json", doc: "Print the response of GET /v1/status" },
  ],
  async run(context) {
    const client = await connectController(context);
    if (context.isSet("watch")) return watch(context, client);
    const { terminal } = context;
    const document = await client.status();
    if (context.isSet("json")) await terminal.write("stdout", `${JSON.stringify(document, undefined, 2)}\n`);
    else await terminal.writePainted("stdout", (await import("../screen/render.ts")).renderStatus(document, terminal));
    return 0;
  },
};

/** On a terminal, each table replaces the previous one; elsewhere they follow one another, JSON as one line each. */
async function watch(context: Context, client: ControlClient): Promise<number> {
  const { terminal } = context;
  const [{ unlessGone }, { renderStatus }] = await Promise.all([import("../client.ts"), import("../screen/render.ts")]);
  const interruption = new AbortController();
  using _ = terminal.onInterrupt(() => interruption.abort());
  for (let isFirst = true; !interruption.signal.aborted; isFirst = false) {
    const document = await (isFirst ? client.status() : unlessGone(client.status()));
    if (document === undefined) return 0;
    if (context.isSet("json")) await terminal.write("stdout", `${JSON.stringify(document)}\n`);
    else {
      const table = renderStatus(document, terminal);
      const text = terminal.isInteractive
        ? `${isFirst ? HOME + CLEAR_REST : HOME}${table.replaceAll("\n", `${CLEAR_LINE}\n`)}${CLEAR_REST}`
        : `${isFirst ? "" : "\n"}${table}`;
      await terminal.writePainted("stdout", text);
    }
    await pause(WATCH_EVERY_MS, undefined, { signal: interruption.signal }).catch(() => {});
  }
  return 0;
}
