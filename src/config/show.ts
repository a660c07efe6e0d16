/** The effective configuration in file format: defaults filled in, values under `env` masked. */
import { Document, isScalar, stringify, visit } from "yaml";
import { type Config, configKind } from "./config.ts";
import type { Plain } from "./kind.ts";

/** A document in file format, with `comment`, which must be one line, above it. */
export function formatDocument(document: Plain, comment: string): string {
  const yaml = new Document(document);
  // Arguments on one line, as people write them.
  visit(yaml, {
    Seq(_, list) {
      if (list.items.every(isScalar)) list.flow = true;
    },
  });
  return `# ${comment}\n${yaml.toString({ lineWidth: 0, flowCollectionPadding: false })}`;
}

/** The text, with a newline at the end. */
export function formatConfig(config: Config, format: "yaml" | "json"): string {
  const shown = configKind.show(config);
  return format === "json" ? `${JSON.stringify(shown, undefined, 2)}\n` : stringify(shown, { lineWidth: 0 });
}
