/** `monoceros events`: what happened to workers, pools and the controller. */
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { connectController } from "../connectController.ts";

export const events: Command = {
  name: "events",
  summary: "Print what happened to workers, pools and the controller, and why",
  details: "The controller keeps the last 500 events. Times are in UTC.",
  flags: {
    follow: { type: "boolean", short: "f", doc: "Keep printing new events, until the controller exits" },
    since: { type: "string", value: "N", doc: "Only events after number N (seq in the JSON output)" },
    ...CLIENT_FLAGS,
  },
  arguments: [],
  examples: [
    { command: "monoceros events -f", doc: "Print the last events, then new ones" },
    {
      command: "monoceros events --since 120 --json",
      doc: "Print the events after number 120, one JSON object per line",
    },
  ],
  async run(context) {
    const since = sinceOf(context);
    const { renderEvent } = await import("../screen/render.ts");
    const client = await connectController(context);
    const { terminal } = context;
    const isJson = context.isSet("json");
    const stream = client.events({
      since,
      isFollowing: context.isSet("follow"),
      onLost: (count) => terminal.write("stderr", `monoceros: ${count} events were dropped: this reader is too slow\n`),
    });
    for await (const record of stream) {
      if (isJson) await terminal.write("stdout", `${JSON.stringify(record)}\n`);
      else await terminal.writePainted("stdout", renderEvent(record, terminal));
    }
    return 0;
  },
};

function sinceOf(context: Context): number {
  const text = context.text("since") ?? "0";
  const since = Number(text);
  if (/^\d+$/u.test(text) && Number.isSafeInteger(since)) return since;
  throw usage(`--since: expected the number of an event, got "${text}"`, "monoceros events");
}
