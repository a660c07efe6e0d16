/** Writes the generated pages of docs/ from the code. test/docs.test.ts checks that they are up to date. */
import { readFileSync, writeFileSync } from "node:fs";
import { apiPage } from "../src/admin/docs.ts";
import { ALL_ROUTES } from "../src/admin/http/server.ts";
import { OPEN_ROUTES } from "../src/admin/routes/openRoutes.ts";
import { errorsPage } from "../src/base/errorsPage.ts";
import { cliPage } from "../src/cli/docs.ts";
import { configurationPage } from "../src/config/docs.ts";
import { statesPage } from "../src/core/statesDoc.ts";
import { metricsPage } from "../src/metrics/docs.ts";
import { programsPage } from "../src/programs/docs.ts";

/** The generated pages and the functions that print them. */
export const PAGES: Readonly<Record<string, () => string>> = {
  "docs/api.md": () => apiPage(ALL_ROUTES, OPEN_ROUTES),
  "docs/cli.md": cliPage,
  "docs/configuration.md": configurationPage,
  "docs/errors.md": errorsPage,
  "docs/metrics.md": metricsPage,
  "docs/programs.md": programsPage,
  "docs/states.md": statesPage,
};

/** Pages whose file differs from the output of the code. */
export function stalePages(): string[] {
  return Object.entries(PAGES)
    .filter(([file, print]) => readFileSync(file, { encoding: "utf8", flag: "a+" }) !== print())
    .map(([file]) => file);
}

if (import.meta.main) {
  const stale = stalePages();
  for (const file of stale) {
    writeFileSync(file, PAGES[file]?.() ?? "");
    process.stdout.write(`${file} written\n`);
  }
}
