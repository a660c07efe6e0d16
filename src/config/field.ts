/**
 * A Field declares one key: its type, default, documentation, and what a change of it takes. A Block is a Kind with such
 * keys. The types of its value and of the part that a revision holds are inferred.
 */
import { type ForeignKeys, foreignKeyHint, foreignKeys } from "./hints.ts";
import { child, describe, type JsonSchema, type Kind, type Plain } from "./kind.ts";
import { didYouMean } from "./nearest.ts";
import type { Place, Reader } from "./reader.ts";
import type { TreeMap } from "./tree.ts";

type ValueOf<K> = K extends Kind<infer T> ? T : never;

/** What a change of a key takes while the controller runs. */
export type ChangeClass =
  /** Newly started workers replace the running ones. */
  | "launch"
  /** The running Envoy is reconfigured. */
  | "proxy"
  /** It takes effect immediately; no process is replaced. */
  | "policy"
  /** It is refused until the controller restarts. */
  | "refused";

/** One key. T is the type of its property, which includes undefined if the key may be absent without a default. */
export interface Field<T = unknown, C extends ChangeClass = ChangeClass, K = Kind<unknown>> {
  /** The key in the file. */
  readonly yaml: string;
  readonly kind: K;
  /** If the key is a block that may be absent, this is for adding or removing it. */
  readonly change: readonly C[];
  /** One or two sentences: what it does. */
  readonly doc: string;
  /** Whether the predecessor also has the key. */
  readonly since: "original" | "new";
  /** An absent section is equivalent to an empty block: the keys inside have their defaults. */
  readonly presence: "required" | "optional" | "section";
  readonly default: T | undefined;
  /** What an absent value means, in a word, if there is no default. */
  readonly unset?: string;
  /** Values that are equivalent to an absent key. */
  isUnset?(value: unknown): boolean;
  /** Its values are never shown. */
  readonly secret?: true;
}

interface KeyOptions<K, C> {
  /** Empty if the key has no class, because it is compared separately. */
  readonly change: C | readonly C[];
  readonly doc: string;
  readonly since?: "original";
  readonly unset?: string;
  isUnset?(value: ValueOf<K>): boolean;
  readonly secret?: true;
}

type Present<K> = { readonly default: ValueOf<K> } | { readonly required: true };

/** Declares a key that is required, has a default, or else may be undefined. */
export function key<K extends Kind<unknown>, const C extends ChangeClass>(
  yaml: string,
  kind: K,
  options: KeyOptions<K, C> & Present<K>,
): Field<ValueOf<K>, C, K>;
export function key<K extends Kind<unknown>, const C extends ChangeClass>(
  yaml: string,
  kind: K,
  options: KeyOptions<K, C>,
): Field<ValueOf<K> | undefined, C, K>;
export function key(
  yaml: string,
  kind: Kind<unknown>,
  { change, required, ...rest }: KeyOptions<Kind<unknown>, ChangeClass> & { default?: unknown; required?: true },
): Field {
  const presence = required ? "required" : "optional";
  return { yaml, kind, change: [change].flat(), since: "new", presence, default: undefined, ...rest };
}

/** Declares a block that always has a value, because all its keys have defaults. */
export function section<T, K extends Keys>(
  yaml: string,
  kind: Block<T, K>,
  doc: string,
  since: "original" | "new" = "new",
): Field<T, ChangeOf<K>, Block<T, K>> {
  return { yaml, kind, change: [], doc, since, presence: "section", default: undefined };
}

/** The keys of a block, by the name of their property. */
export type Keys = Readonly<Record<string, Field>>;

/** A block with known keys. */
export interface Block<T, K extends Keys> extends Kind<T> {
  readonly keys: K;
}

/** The value of a block with these keys. */
export type Values<K> = { readonly [P in keyof K]: K[P] extends Field<infer T> ? T : never };

type ChangeOf<K> = K[keyof K] extends Field<unknown, infer C> ? C : never;

type IsFixed<C> = [C] extends [never] ? true : [C] extends ["policy" | "proxy"] ? false : true;

/** The part of a block that is fixed when a process is launched: keys of class `launch`, and keys that never change. */
export type Launched<K> = {
  readonly [P in keyof K as K[P] extends Field<unknown, infer C>
    ? IsFixed<C> extends true
      ? P
      : never
    : never]: K[P] extends Field<infer T, ChangeClass, Block<unknown, infer Inner>>
    ? Launched<Inner> | Extract<T, undefined>
    : K[P] extends Field<infer T>
      ? T
      : never;
};

/** The keys and sections of a block whose changes are all of class C. */
export type OfClass<K, C> = {
  readonly [P in keyof K as K[P] extends Field<unknown, infer Own>
    ? [Own] extends [never]
      ? never
      : [Own] extends [C]
        ? P
        : never
    : never]: K[P] extends Field<infer T> ? T : never;
};

/** The part of a block's value with these keys, or of its defaults, for which no such key may be required. */
export function ofClass<K extends Keys, C extends ChangeClass>(
  { keys }: Block<unknown, K>,
  change: C,
  value = defaultsOf(keys) as Values<K>,
): OfClass<K, C> {
  const names = Object.keys(keys).filter((name) => isOfClass(keys[name], change));
  return Object.fromEntries(names.map((name) => [name, value[name]])) as OfClass<K, C>;
}

function isOfClass(field: Field | undefined, change: ChangeClass): boolean {
  if (field?.presence === "section")
    return Object.values(field.kind.keys ?? {}).every((inner) => isOfClass(inner, change));
  return field?.change.length === 1 && field.change[0] === change;
}

function defaultsOf(keys: Keys = {}): Readonly<Record<string, unknown>> {
  const entries = Object.entries(keys).map(([name, field]) => [
    name,
    field.presence === "section" ? defaultsOf(field.kind.keys) : field.default,
  ]);
  return Object.fromEntries(entries) as Record<string, unknown>;
}

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

interface BlockOptions<T> {
  /** Rules between the keys of the block. Invalid or missing values are undefined; they have already been reported. */
  readonly check?: (value: Known<T>, context: CheckContext) => void;
  /** What to write instead of keys of other programs, see foreignKeys. */
  readonly foreign?: Readonly<Record<string, string>>;
  /** Keys of which exactly one is required, for editors; `check` reports it. */
  readonly oneRequired?: readonly string[];
}

/** Declares a block with known keys. */
export function block<T extends Values<K>, K extends Keys>(
  keys: K,
  { check, foreign = {}, oneRequired = [] }: BlockOptions<T> = {},
): Block<T, K> {
  const fields = Object.entries<Field>(keys);
  const names = fields.map(([, { yaml }]) => yaml);
  const foreignHints = foreignKeys(foreign);
  return {
    label: "block",
    expected: `a block with ${names.slice(0, 3).join(", ")}${names.length > 3 ? ", …" : ""}`,
    keys,
    read(node, place, reader) {
      if (node.kind !== "map") {
        reader.problem(place, `expected ${this.expected}, got ${describe(node)}`);
        return undefined;
      }
      const value = readFields(fields, node, place, reader, foreignHints);
      check?.(value as Known<T>, checkContext(node, place, reader));
      return value as T;
    },
    show(value) {
      const values = value as Readonly<Record<string, unknown>>;
      const shown: Record<string, Plain> = {};
      for (const [property, { yaml, kind, secret }] of fields) {
        const inner = values[property];
        if (inner !== undefined) shown[yaml] = secret ? mask(kind.show(inner)) : kind.show(inner);
      }
      return shown;
    },
    jsonSchema() {
      const required = fields.flatMap(([, { yaml, presence }]) => (presence === "required" ? [yaml] : []));
      const properties: Record<string, JsonSchema> = {};
      for (const [, { yaml, kind, doc, default: value }] of fields) {
        const shownDefault = value === undefined ? {} : { default: kind.show(value) };
        properties[yaml] = { description: doc, ...shownDefault, ...kind.jsonSchema() };
      }
      return {
        type: "object",
        additionalProperties: false,
        ...(required.length === 0 ? {} : { required }),
        ...(oneRequired.length === 0 ? {} : { oneOf: oneRequired.map((yaml) => ({ required: [yaml] })) }),
        properties,
      };
    },
  };
}

/** Every key of a block and of the blocks inside it, in order of declaration. */
export function* everyKey(
  block: Kind<unknown>,
  path = "",
): Generator<{
  readonly block: Kind<unknown>;
  readonly blockPath: string;
  readonly path: string;
  readonly field: Field;
}> {
  for (const field of Object.values(block.keys ?? {})) {
    const at = child(path, field.yaml);
    yield { block, blockPath: path, path: at, field };
    const { kind } = field;
    yield* kind.item === undefined ? everyKey(kind, at) : everyKey(kind.item, `${at}[]`);
  }
}

function readFields(
  fields: readonly (readonly [string, Field])[],
  node: TreeMap,
  place: Place,
  reader: Reader,
  foreign: ForeignKeys,
): Readonly<Record<string, unknown>> {
  const value: Record<string, unknown> = {};
  const left = new Map(node.entries.map((entry) => [entry.key, entry]));
  for (const [property, field] of fields) {
    const entry = left.get(field.yaml);
    left.delete(field.yaml);
    const at: Place = { path: child(place.path, field.yaml), offset: entry?.keyOffset ?? place.offset };
    if (entry !== undefined && entry.value.kind !== "null") {
      if (!reader.spend(0, at)) return value;
      reader.offsets.set(at.path, at.offset);
      const read = field.kind.read(entry.value, at, reader);
      value[property] = read !== undefined && field.isUnset?.(read) ? field.default : read;
    } else if (field.presence === "required") {
      reader.problem(at, `required, but ${entry === undefined ? "missing" : "without a value"}`);
    } else if (field.presence === "section") {
      value[property] = field.kind.read({ kind: "map", entries: [], offset: at.offset }, at, reader);
    } else {
      value[property] = field.default;
    }
  }
  const names = fields.map(([, { yaml }]) => yaml);
  for (const { key, keyOffset } of left.values()) {
    const hint = foreignKeyHint(key, foreign) || reader.misplaced(key, place.path) || didYouMean(key, names);
    const message = `unknown key ${JSON.stringify(key.slice(0, 80))}${hint}`;
    reader.problem({ path: place.path, offset: keyOffset }, message);
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

/** The path of the block or list around `path`; always shorter. */
function parent(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf("."), path.lastIndexOf("["), 0));
}

function mask(shown: Plain): Plain {
  if (typeof shown !== "object" || shown === null || Array.isArray(shown)) return "***";
  return Object.fromEntries(Object.keys(shown).map((key) => [key, "***"]));
}
