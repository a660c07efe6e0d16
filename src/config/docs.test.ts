import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { configurationPage } from "./docs.ts";
import type { Kind, ObjectField } from "./field.ts";
import { configJsonSchema } from "./jsonSchema.ts";
import { configKind } from "./schema.ts";

function everyField(kind: Kind<unknown>): readonly ObjectField[] {
  if (kind.parts === undefined) return [];
  if (kind.parts.type !== "object") return everyField(kind.parts.item);
  return kind.parts.fields.flatMap((field) => [field, ...everyField(field.kind)]);
}

test("docs/configuration.md is what the schema says", () => {
  const page = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  assert.equal(page, configurationPage(), "stale: run `npm run docs`");
});

test("every key is on the page and ends with a full stop", () => {
  const page = configurationPage();
  for (const field of everyField(configKind)) {
    assert.ok(page.includes(`| \`${field.yaml}\` |`), field.yaml);
    assert.match(field.doc, /\.$/u, field.yaml);
  }
});

test("no block has a key twice", () => {
  const visit = (kind: Kind<unknown>): void => {
    if (kind.parts?.type === "object") {
      const names = kind.parts.fields.map((field) => field.yaml);
      assert.equal(new Set(names).size, names.length);
      for (const field of kind.parts.fields) visit(field.kind);
    } else if (kind.parts !== undefined) visit(kind.parts.item);
  };
  visit(configKind);
});

test("the JSON Schema is closed, has the required keys, the defaults and room for variables", () => {
  const schema = JSON.parse(JSON.stringify(configJsonSchema()));
  assert.equal(schema.additionalProperties, false);
  assert.deepEqual(schema.required, ["supervisor"]);
  const pool = schema.properties.supervisor.properties.workers.items;
  assert.deepEqual(pool.required, ["name", "exec"]);
  assert.equal(pool.properties.signal_timeout.default, "10s");
  assert.deepEqual(pool.properties.nice.anyOf, [
    { type: "integer", minimum: -20, maximum: 19 },
    { $ref: "#/$defs/variable" },
  ]);
  assert.match(`x \${NAME:-y}`, new RegExp(schema.$defs.variable.pattern, "u"));
});
