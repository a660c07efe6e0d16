/** `monoceros status`: what the workers do at this moment. */
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";

export const status: Command = {
  name: "status",
  summary: "Show pools and workers of the running controller",
  flags: CLIENT_FLAGS,
  arguments: [],
  examples: [
    { command: "monoceros status", doc: "A table of all workers" },
    { command: "monoceros status --json", doc: "The document of GET /v1/status" },
  ],
  async run(context) {
    const { renderStatus } = await import("../render.ts");
    const document = await (await connectController(context)).status();
    const { terminal } = context;
    const text = context.isSet("json")
      ? `${JSON.stringify(document, undefined, 2)}\n`
      : renderStatus(document, terminal);
    await terminal.write("stdout", text);
    return 0;
  },
};
