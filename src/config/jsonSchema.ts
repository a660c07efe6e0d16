/** The JSON Schema of the file, for editors and other tools. */

import { configKind } from "./config.ts";
import type { JsonSchema } from "./kind.ts";

/** JSON Schema, draft 2020-12. It does not include rules between keys. */
export function configJsonSchema(): JsonSchema {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Monoceros configuration",
    ...configKind.jsonSchema(),
    $defs: {
      variable: {
        description: `A value with a variable in it: \${NAME} or \${NAME:-default}.`,
        type: "string",
        pattern: "\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\}",
      },
    },
  };
}
