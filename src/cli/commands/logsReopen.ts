/** `monoceros logs reopen`: opens the log files of all pools again, for logrotate. */
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";

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
