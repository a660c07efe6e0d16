/** The page monoceros.yaml(5), generated from the declaration of the configuration. Pure. */
import { describedBlocks, NOTES, ON_RELOAD, OVERVIEW, valueWhenAbsent } from "../../config/docs.ts";
import type { Field } from "../../config/field.ts";
import { bold, entry, escapeRoff, inline, type Page, paragraphs } from "./roff.ts";

export const EXAMPLE = `supervisor:
  workers:
    - name: web
      replicas: 4
      exec: ./server
      args: [--port, "{{.Port}}"]
      server:
        listener_port: 8000
        start_port: 9100
      probes:
        readiness: {http: {path: /healthz}}`;

export function configurationManPage(version: string): Page {
  const keys = describedBlocks().flatMap(({ keys, paths }) => [
    `.SS ${paths[0] === "" ? "The file" : paths.map((path) => escapeRoff(path, "literal")).join(", ")}`,
    ...keys.flatMap(keyEntry),
  ]);
  return {
    name: "monoceros.yaml",
    section: 5,
    summary: "Configuration file of Monoceros",
    version,
    parts: {
      DESCRIPTION: [...paragraphs(OVERVIEW), ...paragraphs(NOTES)],
      KEYS: [
        inline(
          "Each key is followed by its type, and by what applies if it is absent. The last line says what a change of it takes while the controller runs.",
        ),
        ...keys,
      ],
      EXAMPLES: [".EX", escapeRoff(EXAMPLE, "literal"), ".EE"],
      "SEE ALSO": [`${bold("monoceros")}(1), ${bold("monoceros-validate")}(1)`],
    },
  };
}

function keyEntry(field: Field): string[] {
  const { yaml, kind, doc, change } = field;
  const reload = change.map((each) => ON_RELOAD[each]).join(", ");
  return entry(
    `${bold(yaml)} (${escapeRoff(kind.label)}; ${inline(valueWhenAbsent(field))})`,
    inline(doc),
    ...(reload === "" ? [] : [".br", `On reload: ${escapeRoff(reload)}.`]),
  );
}
