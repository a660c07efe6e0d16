/** The texts of --help, generated from the data of the commands. */
import { COMMON_FLAGS, type Command, type Flag } from "./command.ts";

/** Printed when no command is given. */
export const SHORT_USAGE = `usage: monoceros -c FILE [-d]           run the workers that FILE describes
       monoceros COMMAND [FLAG …]       see monoceros --help
`;

/** All commands, one line each. */
export function helpOfAll(commands: readonly Command[]): string {
  const rows = commands.map((command) => [synopsisTail(command), command.summary] as const);
  return `Monoceros runs, keeps alive and terminates copies of single-threaded servers.

usage: monoceros COMMAND [FLAG …]
       monoceros -c FILE [-d]           the same as run
       monoceros -c FILE -k             the same as validate
       monoceros --version              the same as version

Commands:
${table(rows)}
monoceros COMMAND --help tells more. Exit codes: 0 done, 1 a pool gave up or the command failed, 2 usage,
69 no controller there, 70 a bug, 78 configuration.
`;
}

/** One command with its flags and examples. */
export function helpOf(command: Command): string {
  const sections = [`${command.summary}.\n\nusage: monoceros ${synopsisTail(command)}\n`];
  if (command.details !== undefined) sections.push(`${command.details}\n`);
  if (command.arguments.length > 0) {
    sections.push(`Arguments:\n${table(command.arguments.map(({ name, doc }) => [name, doc]))}`);
  }
  sections.push(`Flags:\n${table(flagRows(command))}`);
  sections.push(`Examples:\n${table(command.examples.map((example) => [example.command, example.doc]))}`);
  return sections.join("\n");
}

/** Flags and what they do, common ones last. */
export function flagRows(command: Command): [flag: string, doc: string][] {
  return Object.entries({ ...command.flags, ...COMMON_FLAGS }).map(([name, flag]) => {
    const value = flag.type === "string" ? ` ${flag.value ?? "VALUE"}` : "";
    const short = flag.short === undefined ? "" : `-${flag.short}, `;
    return [`${short}--${name}${value}`, `${flag.doc}${flag.isRequired === true ? " (required)" : ""}`];
  });
}

/** The usage line, such as `stop [WORKER] [FLAG …]`, without the program's name. */
export function synopsisTail(command: Command): string {
  const needed = Object.entries(command.flags).filter(([, flag]) => flag.isRequired === true);
  const isAllNeeded = needed.length === Object.keys(command.flags).length;
  return [
    command.name,
    ...needed.map(([name, flag]) => spellFlag(name, flag)),
    ...command.arguments.map(({ name, isRequired }) => (isRequired ? name : `[${name}]`)),
    ...(isAllNeeded ? [] : ["[FLAG …]"]),
  ].join(" ");
}

function spellFlag(name: string, flag: Flag): string {
  const dashed = flag.short === undefined ? `--${name}` : `-${flag.short}`;
  return flag.type === "string" ? `${dashed} ${flag.value ?? "VALUE"}` : dashed;
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join("");
}
