/** The effective configuration in file format: defaults filled in, values under `env` masked. */
import { stringify } from "yaml";
import { type Config, configKind } from "./config.ts";

/** The text, with a newline at the end. */
export function formatConfig(config: Config, format: "yaml" | "json"): string {
  const shown = configKind.show(config);
  return format === "json" ? `${JSON.stringify(shown, undefined, 2)}\n` : stringify(shown, { lineWidth: 0 });
}
