/**
 * The vocabulary of the declaration in schema.ts: a Field is one key, a Kind defines its allowed values. A Kind reads
 * values (reporting problems), shows them (as a file would) and describes them (JSON Schema, documentation).
 * Kinds of single values are in scalars.ts. Nothing here depends on a particular key.
 */
import { type ForeignKeys, foreignKeyHint, wordsHint } from "./hints.ts";
import { didYouMean } from "./nearest.ts";
import type { Place, Reader, ScalarText } from "./reader.ts";
import type { TreeEntry, TreeMap, TreeNode } from "./tree.ts";

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
  /** The parts of a composite value. */
  readonly parts?: Parts;
}

export type Parts =
  | { readonly type: "object"; readonly fields: readonly ObjectField[] }
  | { readonly type: "list" | "map"; readonly item: Kind<unknown> };

/** One key, declared once. */
export type Field<T> = {
  /** The key in the file. */
  readonly yaml: string;
  readonly kind: Kind<Exclude<T, undefined>>;
  /** One or two sentences: what it does. */
  readonly doc: string;
  /** Whether the predecessor also has the key. */
  readonly since: "original" | "new";
  /** What an absent value means, in a word, if the default is undefined. */
  readonly unset?: string;
  /** Values that are equivalent to an absent key. */
  isUnset?(value: Exclude<T, undefined>): boolean;
  /** Its values are never shown. */
  readonly secret?: true;
} & (
  | { readonly required: true }
  | { readonly default: T }
  /** Absent is equivalent to an empty block: the keys inside have their defaults. */
  | { readonly filled: true }
);

/** A field with the name of its property in the Config type. */
export type ObjectField = Field<unknown> & { readonly property: string };

/** One field for each property of T, of its type. */
export type Fields<T> = { readonly [Property in keyof T]-?: Field<T[Property]> };

/** The readable part of a T: invalid parts are undefined. */
export type Known<T> = T extends string | number | boolean | undefined
  ? T
  : T extends readonly (infer Item)[]
    ? readonly (Known<Item> | undefined)[]
    : { readonly [Property in keyof T]?: Known<T[Property]> | undefined };

/** For checks of an object; keys are relative: "name", "server.port_arg", "workers[1].name". */
export interface CheckContext {
  /** Whether the key is in the file with a value, valid or not. */
  has(key: string): boolean;
  /** Reports at the key, or at the nearest enclosing block that is in the file. */
  problem(key: string, message: string): void;
  warning(key: string, message: string): void;
}

/** Rules between the keys of one object. */
export type Check<T> = (value: Known<T>, context: CheckContext) => void;

/** A block with known keys; `foreign` has hints for keys of other programs. */
export function object<T>(fields: Fields<T>, check?: Check<T>, foreign: ForeignKeys = new Map()): Kind<T> {
  const all: readonly ObjectField[] = Object.entries<Field<unknown>>(fields).map(([property, field]) => ({
    ...field,
    property,
  }));
  return {
    label: "block",
    expected: `a block with ${all
      .slice(0, 3)
      .map((field) => field.yaml)
      .join(", ")}${all.length > 3 ? ", …" : ""}`,
    parts: { type: "object", fields: all },
    read(node, place, reader) {
      if (node.kind !== "map") {
        reader.problem(place, `expected ${this.expected}, got ${describe(node)}`);
        return undefined;
      }
      const value = readFields(all, node, place, reader, foreign);
      check?.(value as Known<T>, checkContext(node, place, reader));
      return value as T;
    },
    show(value) {
      const values = value as Readonly<Record<string, unknown>>;
      const shown: Record<string, Plain> = {};
      for (const field of all) {
        const inner = values[field.property];
        if (inner !== undefined)
          shown[field.yaml] = field.secret ? mask(field.kind.show(inner)) : field.kind.show(inner);
      }
      return shown;
    },
    jsonSchema() {
      const required = all.filter((field) => "required" in field).map((field) => field.yaml);
      const properties: Record<string, JsonSchema> = {};
      for (const field of all) {
        const shownDefault =
          "default" in field && field.default !== undefined ? field.kind.show(field.default) : undefined;
        properties[field.yaml] = {
          description: field.doc,
          ...(shownDefault === undefined ? {} : { default: shownDefault }),
          ...field.kind.jsonSchema(),
        };
      }
      return {
        type: "object",
        additionalProperties: false,
        ...(required.length === 0 ? {} : { required }),
        properties,
      };
    },
  };
}

function readFields(
  fields: readonly ObjectField[],
  node: TreeMap,
  place: Place,
  reader: Reader,
  foreign: ForeignKeys,
): Readonly<Record<string, unknown>> {
  const value: Record<string, unknown> = {};
  const left = new Map<string, TreeEntry>();
  for (const entry of node.entries) left.set(entry.key, entry);
  for (const field of fields) {
    const entry = left.get(field.yaml);
    left.delete(field.yaml);
    const at: Place = { path: child(place.path, field.yaml), offset: entry?.keyOffset ?? place.offset };
    if (entry !== undefined && entry.value.kind !== "null") {
      if (!reader.spend(0, at)) return value;
      reader.offsets.set(at.path, at.offset);
      const read = field.kind.read(entry.value, at, reader);
      const unset = read !== undefined && field.isUnset?.(read) === true;
      value[field.property] = unset && "default" in field ? field.default : read;
    } else if ("required" in field) {
      reader.problem(at, `required, but ${entry === undefined ? "missing" : "without a value"}`);
    } else if ("filled" in field) {
      value[field.property] = field.kind.read({ kind: "map", entries: [], offset: at.offset }, at, reader);
    } else {
      value[field.property] = field.default;
    }
  }
  const names = fields.map((field) => field.yaml);
  for (const { key, keyOffset } of left.values()) {
    const shortened = JSON.stringify(key.slice(0, 80));
    reader.problem(
      { path: place.path, offset: keyOffset },
      `unknown key ${shortened}${foreignKeyHint(key, foreign) || reader.misplaced(key, place.path) || didYouMean(key, names)}`,
    );
  }
  return value;
}

function checkContext(node: TreeMap, place: Place, reader: Reader): CheckContext {
  const locate = (key: string): Place => {
    const path = key === "" ? place.path : child(place.path, key);
    for (let at = path; at.length > place.path.length; at = parent(at)) {
      const offset = reader.offsets.get(at);
      if (offset !== undefined) return { path, offset };
    }
    return { path, offset: place.offset };
  };
  return {
    has: (key) => node.entries.some((entry) => entry.key === key && entry.value.kind !== "null"),
    problem: (key, message) => reader.problem(locate(key), message),
    warning: (key, message) => reader.warning(locate(key), message),
  };
}

/** A list; `max` bounds its length. */
export function list<T>(item: Kind<T>, options: { min?: number; max?: number } = {}): Kind<readonly T[]> {
  const { min = 0, max = 1000 } = options;
  return {
    label: `list of ${plural(item.label)}`,
    expected: `a list of ${plural(item.label)}`,
    parts: { type: "list", item: item as Kind<unknown> },
    read(node, place, reader) {
      if (node.kind !== "list") {
        const hint = node.kind === "scalar" && item.label === "string" ? ` (${wordsHint(node.text)})` : "";
        reader.problem(place, `expected ${this.expected}, got ${describe(node)}${hint}`);
        return undefined;
      }
      const { length } = node.items;
      if (length < min || length > max) {
        reader.problem(
          place,
          `expected ${length < min ? `at least ${min}` : `at most ${max}`} in the list, got ${length}`,
        );
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
    parts: { type: "map", item: item as Kind<unknown> },
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

function child(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}

/** The path of the block or list around `path`; always shorter. */
function parent(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf("."), path.lastIndexOf("["), 0));
}

function plural(label: string): string {
  return label.includes(" ") ? label : `${label}s`;
}

function mask(shown: Plain): Plain {
  if (typeof shown !== "object" || shown === null || Array.isArray(shown)) return "***";
  return Object.fromEntries(Object.keys(shown).map((key) => [key, "***"]));
}
