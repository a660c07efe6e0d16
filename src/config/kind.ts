/**
 * A Kind is the set of values that a key accepts. It reads values (reporting problems), shows them (as a file would)
 * and describes them (JSON Schema, documentation). Kinds of single values are in scalars.ts, blocks in field.ts.
 */
import type { Keys } from "./field.ts";
import { wordsHint } from "./hints.ts";
import type { Place, Reader, ScalarText } from "./reader.ts";
import type { TreeNode } from "./tree.ts";

/** A JSON value. */
export type Plain = null | boolean | number | string | readonly Plain[] | { readonly [key: string]: Plain };
export type JsonSchema = { readonly [key: string]: Plain };

/** The values that a key accepts. */
export interface Kind<T> {
  /** One or two words for a table: "duration", "list of strings". */
  readonly label: string;
  /** Completes "expected …". */
  readonly expected: string;
  /**
   * The value; undefined if invalid, after reporting a problem. Invalid members of a map or list are undefined, so
   * the value as a whole may be used only if the reader has no problems.
   */
  read(node: TreeNode, place: Place, reader: Reader): T | undefined;
  /** The value as a configuration file would write it. */
  show(value: T): Plain;
  jsonSchema(): JsonSchema;
  /** The keys of a block, by the name of their property. */
  readonly keys?: Keys;
  /** The items of a list. */
  readonly item?: Kind<unknown>;
}

/** A list; `max` bounds its length. */
export function list<T>(item: Kind<T>, options: { min?: number; max?: number } = {}): Kind<readonly T[]> {
  const { min = 0, max = 1000 } = options;
  return {
    label: `list of ${plural(item.label)}`,
    expected: `a list of ${plural(item.label)}`,
    item,
    read(node, place, reader) {
      if (node.kind !== "list") {
        const hint = node.kind === "scalar" && item.label === "string" ? ` (${wordsHint(node.text)})` : "";
        reader.problem(place, `expected ${this.expected}, got ${describe(node)}${hint}`);
        return undefined;
      }
      const { length } = node.items;
      if (length < min || length > max) {
        const bound = length < min ? `${min} or more` : `${max} or less`;
        reader.problem(place, `expected a list of length ${bound}, got ${length}`);
        return undefined;
      }
      const values: (T | undefined)[] = [];
      for (const [index, itemNode] of node.items.entries()) {
        const at = { path: `${place.path}[${index}]`, offset: itemNode.offset };
        if (!reader.spend(0, at)) return undefined;
        reader.offsets.set(at.path, at.offset);
        values.push(item.read(itemNode, at, reader));
      }
      return values as T[];
    },
    show: (values) => values.map((value) => item.show(value)),
    jsonSchema: () => ({
      type: "array",
      items: item.jsonSchema(),
      ...(min > 0 ? { minItems: min } : {}),
      maxItems: max,
    }),
  };
}

/** A map with arbitrary keys; `checkKey` returns what is wrong with a key. */
export function map<T>(
  item: Kind<T>,
  keys: { readonly label: string; readonly check: (key: string) => string | undefined },
): Kind<Readonly<Record<string, T>>> {
  const label = `map of ${keys.label} to ${item.label}`;
  return {
    label,
    expected: `a ${label}`,
    read(node, place, reader) {
      if (node.kind !== "map") {
        const hint = node.kind === "list" ? " (write NAME: value, without a dash)" : "";
        reader.problem(place, `expected ${this.expected}, got ${describe(node)}${hint}`);
        return undefined;
      }
      const values: [string, T][] = [];
      for (const { key, keyOffset, value } of node.entries) {
        const at = { path: child(place.path, key.slice(0, 80)), offset: keyOffset };
        if (!reader.spend(key.length, at)) return undefined;
        const wrong = keys.check(key);
        if (wrong !== undefined) reader.problem(at, wrong);
        const read = item.read(value, at, reader);
        if (read !== undefined) values.push([key, read]);
      }
      // fromEntries defines properties, so that a key such as __proto__ needs no special treatment.
      return Object.fromEntries(values);
    },
    show: (values) => Object.fromEntries(Object.entries(values).map(([key, value]) => [key, item.show(value)])),
    jsonSchema: () => ({ type: "object", additionalProperties: item.jsonSchema() }),
  };
}

const BARE = /^(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|0[xo][\da-fA-F]+|true|false)$/u;

/** Describes a node briefly, for "expected …, got …". */
export function describe(node: TreeNode, read?: ScalarText): string {
  if (node.kind === "null") return "nothing";
  if (node.kind !== "scalar") return `a ${node.kind}`;
  const isSecret = read?.isReplaced === true;
  const text = isSecret ? node.text : (read?.text ?? node.text);
  const short = text.length > 40 ? `${text.slice(0, 40)}…` : text;
  if (isSecret) return `${JSON.stringify(short)}, whose value is ${read.text === "" ? "empty" : "not shown"}`;
  const bare = (read?.plain ?? node.plain) && BARE.test(short);
  return bare ? short : JSON.stringify(short);
}

/** The path of a key inside the block at `path`. */
export function child(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}

function plural(label: string): string {
  return label.includes(" ") ? label : `${label}s`;
}
