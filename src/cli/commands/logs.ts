/** `monoceros logs`: the output of the controller and its workers as it is written. */
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";

export const logs: Command = {
  name: "logs",
  summary: "Print the log lines of controller and workers as they come",
  details:
    "Lines of stdout go to stdout and lines of stderr to stderr, as the controller writes them. It keeps no lines, so only\nnew ones come; what this reader is too slow for is left out here, never in the controller's own output.",
  flags: {
    follow: { type: "boolean", short: "f", doc: "What it does anyway, for the habit" },
    ...CLIENT_FLAGS,
  },
  arguments: [],
  examples: [
    { command: "monoceros logs -f", doc: "Watch" },
    { command: "monoceros logs -f --json", doc: "One JSON object a line: stream and line" },
  ],
  async run(context) {
    const client = await connectController(context);
    const { terminal } = context;
    const isJson = context.isSet("json");
    const stream = client.logs({
      onLost: (count) => terminal.write("stderr", `monoceros: ${count} lines were left out, this reader is too slow\n`),
    });
    for await (const entry of stream) {
      if (isJson) await terminal.write("stdout", `${JSON.stringify(entry)}\n`);
      else await terminal.write(entry.stream, `${entry.line}\n`);
    }
    return 0;
  },
};
