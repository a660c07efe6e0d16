/** The page docs/configuration.md, generated from the declarations in keys/. */
import { configKind } from "./config.ts";
import { type ChangeClass, everyKey, type Field } from "./field.ts";
import type { Kind, Plain } from "./kind.ts";

/** What the file is, in Markdown. */
export const OVERVIEW = `A configuration is one YAML file, given with \`-c\`. \`monoceros validate\` reports all its problems at once, with line and
column. \`monoceros config show\` prints the effective configuration, defaults included. \`monoceros config schema\` prints a
JSON Schema for editors.`;

/** How values are written, as a Markdown list. */
export const NOTES = `- Unknown and duplicate keys are errors. A key without a value is the same as an absent key.
- Durations are written as in Go: \`500ms\`, \`15s\`, \`1h30m\`. A number without a unit is an error, except 0.
- Sizes are \`512MiB\`, \`512Mi\` or \`1GB\`; a number without a unit is bytes. \`512M\` is an error, because it means
  1000² to Kubernetes and 1024² to systemd and docker.
- If you write a key or value as for another process manager (supervisord, PM2, docker compose, systemd, circus, gunicorn), the
  error message says what to write here.
- \`\${NAME}\` and \`\${NAME:-default}\` in values, not in keys, are replaced from the controller's environment; \`$$\` is a
  dollar sign. A variable that is not set and has no default is an error. The default also replaces an empty value.
- The value of a variable is literal: it is not read as YAML, as a variable or as a template. A secret that contains
  \`{{.Slot}}\`, \`$\`, \`%\`, quotes or newlines reaches the worker unchanged, byte for byte.
- \`{{.Name}}\` in \`args\`, \`env\`, \`value_template\` and the commands of probes is replaced by a value of the worker.
  \`{{"{{"}}\` is a literal \`{{\`; other double braces are left alone.
- Anchors, aliases and merge keys (\`<<\`) work. A file has one document and at most 1 MiB.`;

const INTRODUCTION = `# Configuration

This page is generated from \`src/config/keys\`; do not edit it.

${OVERVIEW}

${NOTES}
- **New** keys are those that the predecessor's files do not have.
- **On reload** is what a change of the key takes while the controller runs: see [operation.md](operation.md#reload). For a block
  that can be absent, it is what adding or removing the block takes.
- [examples.md](examples.md) has complete files.
`;

/** The whole page, with a newline at the end. */
export function configurationPage(): string {
  return [INTRODUCTION, ...describedBlocks().map(section)].join("\n");
}

/** A block with the paths at which it occurs, at least one. */
export interface DescribedBlock {
  readonly keys: readonly Field[];
  readonly paths: readonly string[];
}

/** Blocks in file order; a block that occurs in several places is described once. */
export function describedBlocks(): readonly DescribedBlock[] {
  const blocks = new Map<Kind<unknown>, Set<string>>();
  for (const { block, blockPath } of everyKey(configKind))
    blocks.set(block, (blocks.get(block) ?? new Set()).add(blockPath));
  return [...blocks].map(([{ keys = {} }, paths]) => ({ keys: Object.values(keys), paths: [...paths] }));
}

function section({ keys, paths }: DescribedBlock): string {
  const title = paths[0] === "" ? "The file" : paths.map((path) => `\`${path}\``).join(", ");
  const rows = keys.map((field) => `| ${cells(field).join(" | ")} |`);
  const head = ["| Key | Type | Default | New | On reload | Meaning |", "|---|---|---|---|---|---|"];
  return [`## ${title}`, "", ...head, ...rows, ""].join("\n");
}

/** What a change takes; docs/operation.md explains each. */
export const ON_RELOAD: Readonly<Record<ChangeClass, string>> = {
  policy: "applies at once",
  launch: "replaces workers",
  proxy: "reconfigures Envoy",
  refused: "refused",
};

function cells(field: Field): readonly string[] {
  return [
    `\`${field.yaml}\``,
    escapePipes(field.kind.label),
    escapePipes(valueWhenAbsent(field)),
    field.since === "new" ? "new" : "",
    field.change.map((each) => ON_RELOAD[each]).join(", "),
    escapePipes(field.doc),
  ];
}

/** The default of a key, in Markdown, or what its absence means. */
export function valueWhenAbsent({ presence, default: value, unset = "unset", kind }: Field): string {
  if (presence === "required") return "**required**";
  if (presence === "section") return "see below";
  return value === undefined ? unset : code(kind.show(value));
}

function code(value: Plain): string {
  // Text that YAML would read as a number needs quotes.
  const isText = typeof value === "string" && !/^[-+]\d+$/u.test(value);
  return `\`${isText ? value : JSON.stringify(value)}\``;
}

function escapePipes(text: string): string {
  return text.replaceAll("|", "\\|");
}
