/** The page docs/configuration.md, generated from the declaration in schema.ts. */
import type { Kind, ObjectField, Plain } from "./field.ts";
import { configKind } from "./schema.ts";

const INTRODUCTION = `# Configuration

This page is generated from \`src/config/schema.ts\`; do not edit it.

A configuration is one YAML file, given with \`-c\`. \`monoceros validate\` reports every problem of it at once, with line
and column; \`monoceros config show\` prints what holds, defaults included; \`monoceros config schema\` prints a JSON Schema
for editors.

- Unknown and duplicate keys are errors. A key without a value is the same as an absent key.
- Durations are written as in Go: \`500ms\`, \`15s\`, \`1h30m\`. A number alone has no unit and is refused, except 0.
- Sizes are \`512MiB\`, \`512Mi\` or \`1GB\`; a number alone is bytes. \`512M\` is refused, because it is 1000² to Kubernetes and
  1024² to systemd and docker.
- A key or notation of another process manager (supervisord, PM2, docker compose, systemd, circus, gunicorn) is answered with what
  to write here.
- \`\${NAME}\` and \`\${NAME:-default}\` in values, not in keys, are replaced from the controller's environment; \`$$\` is a
  dollar. A variable that is not set and has no default is an error. The default also stands in for an empty value.
- The value of a variable is never read again: not as YAML, not as a variable and not as a template. A secret that contains
  \`{{.Slot}}\`, \`$\`, \`%\`, quotes or newlines reaches the worker unchanged, byte for byte.
- \`{{.Name}}\` in \`args\`, \`env\`, \`value_template\` and the commands of probes stands for a value of the worker.
  \`{{"{{"}}\` is a literal \`{{\`; other double braces are left alone.
- Anchors, aliases and merge keys (\`<<\`) work. A file has one document and at most 1 MiB.
- **New** keys are those that the predecessor's files do not have.
- What a changed key takes while the controller runs is in [operation.md](operation.md#reload); files to start from are in
  [examples.md](examples.md).
`;

/** The whole page, with a newline at the end. */
export function configurationPage(): string {
  const pathsByKind = new Map<Kind<unknown>, string[]>();
  collect(configKind, "", pathsByKind);
  const sections = [...pathsByKind].map(([kind, paths]) => section(kind, paths));
  return `${[INTRODUCTION, ...sections].join("\n")}`;
}

/** Blocks in file order; a block that occurs in several places is described once. */
function collect(kind: Kind<unknown>, path: string, pathsByKind: Map<Kind<unknown>, string[]>): void {
  if (kind.parts === undefined) return;
  if (kind.parts.type !== "object") {
    collect(kind.parts.item, kind.parts.type === "list" ? `${path}[]` : `${path}.*`, pathsByKind);
    return;
  }
  const paths = pathsByKind.get(kind);
  if (paths !== undefined) {
    paths.push(path);
    return;
  }
  pathsByKind.set(kind, [path]);
  for (const field of kind.parts.fields) {
    collect(field.kind, path === "" ? field.yaml : `${path}.${field.yaml}`, pathsByKind);
  }
}

function section(kind: Kind<unknown>, paths: readonly string[]): string {
  const title = paths[0] === "" ? "The file" : paths.map((path) => `\`${path}\``).join(", ");
  const fields = kind.parts?.type === "object" ? kind.parts.fields : [];
  const rows = fields.map((field) => `| ${cells(field).join(" | ")} |`);
  return [`## ${title}`, "", "| Key | Type | Default | New | Meaning |", "|---|---|---|---|---|", ...rows, ""].join(
    "\n",
  );
}

function cells(field: ObjectField): readonly string[] {
  return [
    `\`${field.yaml}\``,
    escapePipes(field.kind.label),
    escapePipes(defaultOf(field)),
    field.since === "new" ? "new" : "",
    escapePipes(field.doc),
  ];
}

function defaultOf(field: ObjectField): string {
  if ("required" in field) return "**required**";
  if ("filled" in field) return "see below";
  return field.default === undefined ? (field.unset ?? "unset") : code(field.kind.show(field.default));
}

function code(value: Plain): string {
  // Text that YAML would read as a number needs quotes.
  const isText = typeof value === "string" && !/^[-+]\d+$/u.test(value);
  return `\`${isText ? value : JSON.stringify(value)}\``;
}

function escapePipes(text: string): string {
  return text.replaceAll("|", "\\|");
}
