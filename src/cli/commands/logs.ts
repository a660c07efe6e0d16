/** `monoceros logs`: the output of the controller and its workers, as it is written; `logs reopen`: new log files. */
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

/** For logrotate. */
export const logsReopen: Command = {
  name: "logs reopen",
  summary: "Open the log files of all pools again",
  details:
    "For logrotate, after it has moved the files of logs.file: call this in postrotate. When the command returns, all further\nlines go to new files at the configured paths.",
  flags: { ...CLIENT_FLAGS },
  arguments: [],
  examples: [{ command: "monoceros logs reopen", doc: "Write to new files from now on" }],
  async run(context) {
    const { terminal } = context;
    const files = await (await connectController(context)).reopenLogFiles();
    const lines = files.map(({ pool, path }) => `reopened ${path} of pool "${pool}"`);
    const text = lines.length === 0 ? "no pool has a log file" : lines.join("\n");
    await terminal.write("stdout", `${context.isSet("json") ? JSON.stringify({ files }) : text}\n`);
    return 0;
  },
};
