/** `monoceros logs`: the output of the controller and its workers, as it is written. */
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";

export const logs: Command = {
  name: "logs",
  summary: "Stream the log lines of the controller and its workers",
  details:
    "Prints each line to the stream (stdout or stderr) that the controller writes it to. The controller keeps no lines, so only\nnew lines appear. If this reader is too slow, lines are dropped here, but never from the controller's own output.",
  flags: {
    follow: { type: "boolean", short: "f", doc: "No effect; logs always follows" },
    ...CLIENT_FLAGS,
  },
  arguments: [],
  examples: [
    { command: "monoceros logs -f", doc: "Stream new lines" },
    { command: "monoceros logs -f --json", doc: "Print one JSON object per line, with the keys stream and line" },
  ],
  async run(context) {
    const client = await connectController(context);
    const { terminal } = context;
    const isJson = context.isSet("json");
    const stream = client.logs({
      onLost: (count) => terminal.write("stderr", `monoceros: ${count} lines were dropped: this reader is too slow\n`),
    });
    for await (const entry of stream) {
      if (isJson) await terminal.write("stdout", `${JSON.stringify(entry)}\n`);
      else await terminal.write(entry.stream, `${entry.line}\n`);
    }
    return 0;
  },
};
