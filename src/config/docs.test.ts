import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { configKind } from "./config.ts";
import { configurationPage } from "./docs.ts";
import { everyKey } from "./field.ts";
import { configJsonSchema } from "./jsonSchema.ts";

test("docs/configuration.md is up to date", () => {
  const page = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  assert.equal(page, configurationPage(), "stale: run scripts/docs.ts");
});

test("the page has every key, and every description ends with a full stop", () => {
  const page = configurationPage();
  for (const { field } of everyKey(configKind)) {
    assert.ok(page.includes(`| \`${field.yaml}\` |`), field.yaml);
    assert.match(field.doc, /\.$/u, field.yaml);
  }
});

test("the page says what a change of a key takes", () => {
  const lines = configurationPage().split("\n");
  const row = (key: string) => lines.find((line) => line.startsWith(`| \`${key}\` |`)) ?? "";
  assert.match(row("umask"), /\| replaces workers \|/u);
  assert.match(row("protocol"), /\| replaces workers, reconfigures Envoy \|/u);
  assert.match(row("standby"), /\| applies at once \|/u);
  assert.match(row("runtime_dir"), /\| refused \|/u);
});

test("no block declares a key twice", () => {
  const paths = [...everyKey(configKind)].map(({ path }) => path);
  assert.equal(new Set(paths).size, paths.length);
});

test("the JSON Schema rejects unknown keys, has required keys and defaults, and accepts variables", () => {
  const schema = JSON.parse(JSON.stringify(configJsonSchema()));
  assert.equal(schema.additionalProperties, false);
  assert.deepEqual(schema.required, ["supervisor"]);
  const pool = schema.properties.supervisor.properties.workers.items;
  assert.deepEqual(pool.required, ["name"]);
  assert.deepEqual(pool.oneOf, [{ required: ["exec"] }, { required: ["command"] }]);
  assert.equal(pool.properties.signal_timeout.default, "10s");
  assert.deepEqual(pool.properties.nice.anyOf, [
    { type: "integer", minimum: -20, maximum: 19 },
    { $ref: "#/$defs/variable" },
  ]);
  assert.match(`x \${NAME:-y}`, new RegExp(schema.$defs.variable.pattern, "u"));
});
