/** The page docs/cli.md, generated from the data of the commands. */
import { ERROR_CODES } from "../base/errors.ts";
import type { Command } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { argumentRows, flagRows, usageLine } from "./help.ts";

const INTRODUCTION = `# Command line

This page is generated from \`src/cli/commands\`; do not edit it. \`monoceros COMMAND --help\` prints the same.

The command line of the original also works: \`monoceros -c FILE [-d]\` is \`run\`, \`monoceros -c FILE -k\` is \`validate\`, and
\`monoceros --version\` is \`version\`.

Commands that connect to a running controller use the first of these control sockets:

1. \`--socket PATH\`
2. \`admin.socket\` in the file given with \`-c\`
3. \`$MONOCEROS_SOCKET\`
4. \`$XDG_RUNTIME_DIR/monoceros/monoceros.sock\`, \`/run/monoceros/monoceros.sock\`, or \`monoceros-UID/monoceros.sock\` in the
   directory for temporary files: the first that a controller of root or of your own user listens on

Every command accepts \`--json\`. With it, an error is one JSON object on stderr: \`{"error":{"code","message","hint"}}\`.
Output has colours only on a terminal, and only if \`NO_COLOR\` is not set.
`;

const EXIT_MEANINGS: Readonly<Record<number, string>> = {
  0: "Success",
  1: "The command failed, or a worker reached its restart limit",
  2: "Invalid command line",
  69: "No controller found",
  70: "A bug in Monoceros",
  78: "Invalid configuration, or it refers to something that does not exist",
  130: "Interrupted by Ctrl-C; the operation continues in the controller",
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
  const lines = [`## ${command.name}`, "", `${command.summary}.`, "", "```", usageLine(command), "```", ""];
  if (command.details !== undefined) lines.push(command.details, "");
  const rows = [...argumentRows(command), ...flagRows(command)];
  lines.push("| Argument or flag | Meaning |", "|---|---|");
  lines.push(...rows.map(([left, doc]) => `| \`${left.replaceAll("|", "\\|")}\` | ${doc.replaceAll("|", "\\|")} |`));
  lines.push("", ...command.examples.map((example) => `- \`${example.command}\`: ${example.doc}`), "");
  return lines.join("\n");
}
