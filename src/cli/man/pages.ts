/** All manual pages by file name, such as "monoceros-run.1". Pure. */
import type { CommandGroups } from "../command.ts";
import { commandPage } from "./commandPages.ts";
import { configurationManPage } from "./configurationPage.ts";
import { overviewPage } from "./overviewPage.ts";
import { renderPage } from "./roff.ts";

export function manPages(groups: CommandGroups, version: string): Readonly<Record<string, string>> {
  const pages = [
    overviewPage(groups, version),
    ...Object.values(groups)
      .flat()
      .map((command) => commandPage(command, version)),
    configurationManPage(version),
  ];
  return Object.fromEntries(pages.map((page) => [`${page.name}.${page.section}`, renderPage(page)]));
}
