/** The page docs/cli.md, generated from the data of the commands. */
import { ERROR_CODES } from "../base/errors.ts";
import type { Command } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { flagRows, synopsisTail } from "./help.ts";

const INTRODUCTION = `# Command line

This page is generated from the commands in \`src/cli/commands\`; do not edit it.

\`monoceros COMMAND --help\` prints the same. The form of the predecessor works too: \`monoceros -c FILE [-d]\` is \`run\`,
\`monoceros -c FILE -k\` is \`validate\`, \`monoceros --version\` is \`version\`.

Commands that talk to a running controller look for its control socket here, in this order:

1. \`--socket PATH\`
2. \`admin.socket\` of the file given with \`-c\`
3. \`$MONOCEROS_SOCKET\`
4. the first that answers of \`$XDG_RUNTIME_DIR/monoceros/monoceros.sock\`, \`/run/monoceros/monoceros.sock\` and
   \`monoceros-UID/monoceros.sock\` in the temporary directory, if it belongs to root or to you

Every command takes \`--json\`; errors are then one JSON object on stderr: \`{"error":{"code","message","hint"}}\`.
Colours appear only on a terminal and without \`NO_COLOR\`.
`;

const EXIT_MEANINGS: Readonly<Record<number, string>> = {
  0: "Done",
  1: "A pool gave up, or the command failed",
  2: "The command line is not understood",
  69: "No controller answers",
  70: "A bug",
  78: "The configuration is wrong, or names what does not exist",
  130: "Interrupted by Ctrl-C; an operation that it waited for goes on",
};

/** The whole page, with a newline at the end. */
export function cliPage(): string {
  return [INTRODUCTION, exitCodes(), ...COMMANDS.map(section)].join("\n");
}

function exitCodes(): string {
  const rows = Object.entries(EXIT_MEANINGS).map(([code, meaning]) => {
    const names = Object.entries(ERROR_CODES)
      .filter(([, { exitCode }]) => exitCode === Number(code))
      .map(([name]) => `\`${name}\``);
    return `| ${code} | ${meaning} | ${names.join(", ")} |`;
  });
  return ["## Exit codes", "", "| Code | Meaning | Errors |", "|---|---|---|", ...rows, ""].join("\n");
}

function section(command: Command): string {
  const lines = [
    `## ${command.name}`,
    "",
    `${command.summary}.`,
    "",
    "```",
    `monoceros ${synopsisTail(command)}`,
    "```",
    "",
  ];
  if (command.details !== undefined) lines.push(command.details, "");
  const rows = [...command.arguments.map(({ name, doc }): [string, string] => [name, doc]), ...flagRows(command)];
  lines.push("| Argument or flag | Meaning |", "|---|---|");
  lines.push(...rows.map(([left, doc]) => `| \`${left.replaceAll("|", "\\|")}\` | ${doc.replaceAll("|", "\\|")} |`));
  lines.push("", ...command.examples.map((example) => `- \`${example.command}\`: ${example.doc}`), "");
  return lines.join("\n");
}
