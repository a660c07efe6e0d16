/** `monoceros config show` and `config schema`: the effective configuration, and the JSON Schema of the file. */
import type { Command } from "../command.ts";

export const configShow: Command = {
  name: "config show",
  summary: "Print the effective configuration, with defaults and variables filled in",
  details: "Masks the values of env. Checks only the file itself; `monoceros validate` also checks the system.",
  flags: { config: { type: "string", short: "c", value: "FILE", isRequired: true, doc: "Configuration file" } },
  arguments: [],
  examples: [
    { command: "monoceros config show -c config.yaml", doc: "Print it as YAML" },
    { command: "monoceros config show -c config.yaml --json", doc: "Print it as JSON" },
  ],
  async run({ terminal, env, text, isSet }) {
    const { readConfig } = await import("../../controller/configFile.ts");
    const { formatConfig } = await import("../../config/show.ts");
    const { config } = await readConfig(text("config") ?? "", env);
    await terminal.write("stdout", formatConfig(config, isSet("json") ? "json" : "yaml"));
    return 0;
  },
};

export const configSchema: Command = {
  name: "config schema",
  summary: "Print the JSON Schema of the configuration file, for editors",
  flags: {},
  arguments: [],
  examples: [
    { command: "monoceros config schema > monoceros.schema.json", doc: "Save it next to the configuration file" },
  ],
  async run({ terminal }) {
    const { configJsonSchema } = await import("../../config/jsonSchema.ts");
    await terminal.write("stdout", `${JSON.stringify(configJsonSchema(), undefined, 2)}\n`);
    return 0;
  },
};
