/** `monoceros completion`: scripts that let a shell complete commands, flags and names. */
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { usage } from "../commandLine.ts";
import { SHELLS, type Shell } from "../completion.ts";
import { connectController } from "../connectController.ts";

export const completion: Command = {
  name: "completion",
  summary: "Print a script that completes commands, flags and names in a shell",
  details: "Pools and workers of a running controller are completed too: `completion names` prints them.",
  flags: CLIENT_FLAGS,
  arguments: [
    { name: "SHELL", isRequired: true, doc: `One of ${SHELLS.join(", ")}; or names`, values: [...SHELLS, "names"] },
  ],
  examples: [
    {
      command: "monoceros completion bash > /etc/bash_completion.d/monoceros",
      doc: "For bash; or source it in ~/.bashrc",
    },
    { command: "monoceros completion zsh > /usr/local/share/zsh/site-functions/_monoceros", doc: "For zsh" },
    { command: "monoceros completion fish | source", doc: "For fish, in config.fish" },
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
      throw usage(`completion expects one of ${SHELLS.join(", ")} or names, got "${word}"`, "monoceros completion");
    await terminal.write("stdout", await scriptFor(shell));
    return 0;
  },
};

async function scriptFor(shell: Shell): Promise<string> {
  const [{ completionScript }, { COMMANDS }] = await Promise.all([
    import("../completion.ts"),
    import("../commands.ts"),
  ]);
  return completionScript(shell, COMMANDS);
}
