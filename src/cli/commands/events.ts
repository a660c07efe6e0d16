/** `monoceros events`: what happened to workers, pools and the controller. */
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { connectController } from "../connectController.ts";

export const events: Command = {
  name: "events",
  summary: "Print what happened to workers, pools and the controller",
  details: "The controller keeps the last 500 events. Times are UTC.",
  flags: {
    follow: { type: "boolean", short: "f", doc: "Go on with what happens, until the controller ends" },
    since: { type: "string", value: "N", doc: "Only events after number N (seq in the JSON form)" },
    ...CLIENT_FLAGS,
  },
  arguments: [],
  examples: [
    { command: "monoceros events -f", doc: "Watch" },
    { command: "monoceros events --since 120 --json", doc: "What is new since event 120, one JSON object a line" },
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
      onLost: (count) =>
        terminal.write("stderr", `monoceros: ${count} events were left out, this reader is too slow\n`),
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
  throw usage(`--since expects the number of an event, got "${text}"`, "monoceros events");
}
