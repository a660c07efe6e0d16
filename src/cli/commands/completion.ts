/** `monoceros completion`: completion scripts for shells. */
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { usage } from "../commandLine.ts";
import { completionScript, SHELLS } from "../completion.ts";
import { connectController } from "../connectController.ts";

export const completion: Command = {
  name: "completion",
  summary: "Print a completion script for bash, zsh or fish",
  details:
    "The script also completes the pools and workers of a running controller, which `monoceros completion names` prints.",
  flags: CLIENT_FLAGS,
  arguments: [{ name: "SHELL", isRequired: true, doc: `${SHELLS.join(", ")} or names`, values: [...SHELLS, "names"] }],
  examples: [
    {
      command: "monoceros completion bash > /etc/bash_completion.d/monoceros",
      doc: "Install it for bash",
    },
    { command: "monoceros completion zsh > /usr/local/share/zsh/site-functions/_monoceros", doc: "Install it for zsh" },
    { command: "monoceros completion fish | source", doc: "Load it in config.fish" },
  ],
  async run(context) {
    const { terminal } = context;
    const [word = ""] = context.arguments;
    if (word === "names") {
      const { pools } = await (await connectController(context)).status();
      const names = pools.flatMap((pool) => [pool.name, ...pool.workers.map(({ id }) => id)]);
      const text = context.isSet("json") ? JSON.stringify(names) : names.join("\n");
      await terminal.write("stdout", `${text}\n`);
      return 0;
    }
    const shell = SHELLS.find((each) => each === word);
    if (shell === undefined)
      throw usage(`SHELL: expected ${SHELLS.join(", ")} or names, got "${word}"`, "monoceros completion");
    // Imported here, because commands.ts imports this file.
    const { COMMANDS } = await import("../commands.ts");
    await terminal.write("stdout", completionScript(shell, COMMANDS));
    return 0;
  },
};
