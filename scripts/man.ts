/** Writes the manual pages into dist/man, from where packages take them. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { COMMAND_GROUPS } from "../src/cli/commands.ts";
import { manPages } from "../src/cli/man/pages.ts";

const DIRECTORY = "dist/man";

const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { readonly version: string };
rmSync(DIRECTORY, { recursive: true, force: true });
mkdirSync(DIRECTORY, { recursive: true });
const pages = Object.entries(manPages(COMMAND_GROUPS, version));
for (const [file, text] of pages) writeFileSync(`${DIRECTORY}/${file}`, text);
process.stdout.write(`${DIRECTORY}: ${pages.length} pages\n`);
