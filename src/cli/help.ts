/** The texts of --help, generated from the data of the commands. */
import { COMMON_FLAGS, type Command, type CommandGroups, type Flag, type Rest } from "./command.ts";
import { spell } from "./commandLine.ts";

const USAGE = `Usage: monoceros COMMAND [FLAGS]
       monoceros -c FILE [-d]   (same as monoceros run)
`;

/** Printed when no command is given. */
export const SHORT_USAGE = `${USAGE}
Run \`monoceros help\` for the list of commands.
`;

/** All commands, one line each. */
export function helpOfAll(groups: CommandGroups): string {
  const rows = (commands: readonly Command[]) =>
    commands.map((command) => [synopsis(command), command.summary] as const);
  const width = widthOf(rows(Object.values(groups).flat()));
  const lists = Object.entries(groups).map(([heading, commands]) => `${heading}:\n${table(rows(commands), width)}`);
  return `Monoceros runs N copies of a single-threaded server, keeps them alive and balances traffic across them.

${USAGE}
${lists.join("\n")}
Run \`monoceros COMMAND --help\` for flags and examples.

Exit codes: 0 success, 1 failure, 2 invalid command line, 69 no controller found, 70 bug, 78 invalid configuration.
`;
}

/** One command with its flags and examples. */
export function helpOf(command: Command): string {
  const sections = [`${command.summary}.\n\nUsage: ${usageLine(command)}\n`];
  if (command.details !== undefined) sections.push(`${command.details}\n`);
  const rows = argumentRows(command);
  if (rows.length > 0) sections.push(`Arguments:\n${table(rows)}`);
  sections.push(`Flags:\n${table(flagRows(command))}`);
  sections.push(`Examples:\n${table(command.examples.map((example) => [example.command, example.doc]))}`);
  return sections.join("\n");
}

/** Arguments and what they are, the words after `--` last. */
export function argumentRows({ arguments: all, rest }: Command): [name: string, doc: string][] {
  return [...all, ...(rest === undefined ? [] : [rest])].map(({ name, doc }) => [name, doc]);
}

/** Flags and what they do, common ones last. */
export function flagRows(command: Command): [flag: string, doc: string][] {
  return Object.entries({ ...command.flags, ...COMMON_FLAGS }).map(([name, flag]) => {
    const value = flag.type === "string" ? ` ${flag.value ?? "VALUE"}` : "";
    const short = flag.short === undefined ? "" : `-${flag.short}, `;
    return [`${short}--${name}${value}`, `${flag.doc}${flag.isRequired === true ? " (required)" : ""}`];
  });
}

/** How to call the command, with the place of its flags. */
export function usageLine(command: Command): string {
  if (command.rest === undefined) return `monoceros ${synopsis(command)} [FLAGS]`;
  return `monoceros ${synopsis({ ...command, name: `${command.name} [FLAGS]` })}`;
}

/** The command with what it requires, such as `logs -c FILE` or `stop [POOL|WORKER]`. */
export function synopsis({ name, flags, arguments: all, rest }: Command): string {
  const required = Object.entries(flags).filter(([, flag]) => flag.isRequired === true);
  return [
    name,
    ...required.map(([flagName, flag]) => spell(flagName, flag)),
    ...all.map((argument) => (argument.isRequired ? argument.name : `[${argument.name}]`)),
    ...(rest === undefined ? [] : [choice(rest, flags[rest.insteadOf])]),
  ].join(" ");
}

/** `(-c FILE | -- COMMAND…)` */
function choice({ name, insteadOf }: Rest, flag: Flag | undefined): string {
  return `(${flag === undefined ? "" : `${spell(insteadOf, flag)} | `}-- ${name})`;
}

type Rows = readonly (readonly [left: string, right: string])[];

function widthOf(rows: Rows): number {
  return Math.max(...rows.map(([left]) => left.length));
}

function table(rows: Rows, width = widthOf(rows)): string {
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join("");
}
