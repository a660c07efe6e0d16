/** The page of each command, generated from its data. Pure. */
import type { Command } from "../command.ts";
import { argumentRows, flagRows, usageLine } from "../help.ts";
import { bold, commandLine, entry, inline, type Page, paragraphs } from "./roff.ts";

/** The name of the page of a command: monoceros-config-show for "config show". */
export function pageName({ name }: Pick<Command, "name">): string {
  return `monoceros-${name.replaceAll(" ", "-")}`;
}

export function commandPage(command: Command, version: string): Page {
  const { summary, details } = command;
  return {
    name: pageName(command),
    section: 1,
    summary,
    version,
    parts: {
      SYNOPSIS: [commandLine(usageLine(command))],
      DESCRIPTION: [...paragraphs(`${summary}.`), ...(details === undefined ? [] : paragraphs(details))],
      ARGUMENTS: argumentRows(command).flatMap(([name, doc]) => entry(commandLine(name), inline(`${doc}.`))),
      OPTIONS: flagRows(command).flatMap(([flag, doc]) => entry(commandLine(flag), inline(`${doc}.`))),
      EXAMPLES: command.examples.flatMap((example) => entry(bold(example.command), inline(`${example.doc}.`))),
      "SEE ALSO": [`${bold("monoceros")}(1), ${bold("monoceros.yaml")}(5)`],
    },
  };
}
