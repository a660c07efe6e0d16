/** The effective configuration in file format: defaults filled in, values under `env` masked. */
import { stringify } from "yaml";
import { type Config, configKind } from "./config.ts";
import type { Plain } from "./kind.ts";

/** The configuration as plain values under the keys of the file. */
export function showConfig(config: Config): Plain {
  return configKind.show(config);
}

/** The same as text, with a newline at the end. */
export function formatConfig(config: Config, format: "yaml" | "json"): string {
  const shown = showConfig(config);
  return format === "json" ? `${JSON.stringify(shown, undefined, 2)}\n` : stringify(shown, { lineWidth: 0 });
}
