/**
 * Checks documents against the part of JSON Schema that the OpenAPI document uses. An unknown keyword is an error, so that
 * nothing passes unchecked.
 */
import assert from "node:assert/strict";

export type JsonSchema = Readonly<Record<string, unknown>>;

/** All problems of `value`, each with its path. `root` is the document that references point into. */
export function problemsOf(value: unknown, schema: JsonSchema, root: unknown, at = "$"): string[] {
  const problems: string[] = [];
  for (const [keyword, rule] of Object.entries(schema)) problems.push(...check(keyword, rule, value, schema, root, at));
  return problems;
}

function check(
  keyword: string,
  rule: unknown,
  value: unknown,
  schema: JsonSchema,
  root: unknown,
  at: string,
): string[] {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  const entries = isObject ? Object.entries(value as Record<string, unknown>) : [];
  const properties = (schema["properties"] ?? {}) as Record<string, JsonSchema>;
  switch (keyword) {
    case "$ref":
      return problemsOf(value, resolve(String(rule), root), root, at);
    case "type": {
      const types = (Array.isArray(rule) ? rule : [rule]) as string[];
      return types.some((type) => isOfType(value, type)) ? [] : [`${at} is not of type ${types.join(" or ")}`];
    }
    case "enum":
      return (rule as unknown[]).includes(value) ? [] : [`${at} is not one of ${JSON.stringify(rule)}`];
    case "const":
      return value === rule ? [] : [`${at} is not ${JSON.stringify(rule)}`];
    case "minimum":
      return typeof value === "number" && value < Number(rule) ? [`${at} is below ${rule}`] : [];
    case "maximum":
      return typeof value === "number" && value > Number(rule) ? [`${at} is above ${rule}`] : [];
    case "format":
      return typeof value === "string" && rule === "date-time" && Number.isNaN(Date.parse(value))
        ? [`${at} is not a valid time`]
        : [];
    case "required":
      // The type of a value that is not an object is checked separately.
      return (rule as string[])
        .filter((key) => isObject && !Object.hasOwn(value, key))
        .map((key) => `${at}.${key} is missing`);
    case "properties":
      return entries.flatMap(([key, each]) => {
        const inner = properties[key];
        return inner === undefined ? [] : problemsOf(each, inner, root, `${at}.${key}`);
      });
    case "additionalProperties":
      assert.equal(rule, false);
      return entries.filter(([key]) => !Object.hasOwn(properties, key)).map(([key]) => `${at}.${key} is not expected`);
    case "items":
      return Array.isArray(value)
        ? value.flatMap((each, index) => problemsOf(each, rule as JsonSchema, root, `${at}[${index}]`))
        : [];
    case "maxItems":
      return Array.isArray(value) && value.length > Number(rule) ? [`${at} has ${value.length} items`] : [];
    case "description":
    case "default":
      return [];
    default:
      return assert.fail(`unknown keyword ${keyword}`);
  }
}

function isOfType(value: unknown, type: string): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    case "integer":
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

/** The schema that a reference such as `#/components/schemas/Status` points to. */
export function resolve(reference: string, root: unknown): JsonSchema {
  let at = root;
  for (const key of reference.replace("#/", "").split("/")) at = (at as Record<string, unknown>)[key];
  assert.ok(typeof at === "object" && at !== null, `${reference} points to nothing`);
  return at as JsonSchema;
}
