/**
 * YAML text → a small tree of scalars, lists and maps with offsets; only this file knows the nodes of the YAML library.
 * Scalars keep their source text, aliases point to the converted anchor, merge keys (`<<`) are applied. Everything is
 * bounded: length, token count and depth are limited while reading, so hostile text costs only a fraction of a second.
 * Variables are not replaced here.
 */
import { Composer, type CST, isAlias, isMap, isScalar, isSeq, Lexer, type ParsedNode, Parser } from "yaml";

/** Maximum length of a text. */
export const MAX_TEXT_LENGTH = 1024 * 1024;
const MAX_DEPTH = 64;

/** Maximum number of tokens; a line such as `replicas: 4` has 6. The library needs 5 to 10 µs for each. */
const MAX_TOKENS = 100_000;

/** Maximum number of open collections. Nesting only slightly deeper than MAX_DEPTH is reported with its position. */
const MAX_OPEN = 2 * MAX_DEPTH;

/** Lexer tokens without text: start of a document, end of a faulty flow collection, start of a scalar. */
const EMPTY_TOKENS: ReadonlySet<string> = new Set(["\u0002", "\u0018", "\u001f"]);
const MAX_MERGED_ENTRIES = 100_000;

export interface TreeScalar {
  readonly kind: "scalar";
  readonly text: string;
  /** Not quoted, so it may be a number, a boolean and so on. */
  readonly plain: boolean;
  readonly offset: number;
}

export interface TreeNull {
  readonly kind: "null";
  readonly offset: number;
}

export interface TreeList {
  readonly kind: "list";
  readonly items: readonly TreeNode[];
  readonly offset: number;
}

export interface TreeEntry {
  readonly key: string;
  readonly keyOffset: number;
  readonly value: TreeNode;
}

export interface TreeMap {
  readonly kind: "map";
  /** In file order, merged entries last; keys are unique. */
  readonly entries: readonly TreeEntry[];
  readonly offset: number;
}

export type TreeNode = TreeScalar | TreeNull | TreeList | TreeMap;

/** Reports a problem at an offset of the text. */
export type ReportAt = (offset: number, message: string) => void;

/** Parses `text`; problems go to `report`, and the tree is then incomplete. Never throws. */
export function parseTree(text: string, report: ReportAt): TreeNode {
  const nothing: TreeNode = { kind: "null", offset: 0 };
  if (text.length > MAX_TEXT_LENGTH) {
    report(0, `the file is longer than 1 MiB (${text.length} characters)`);
    return nothing;
  }
  try {
    // Scalars stay text (failsafe), because only the schema knows their types. Duplicate keys are detected below,
    // because the library compares each key with all others of its map.
    const composer = new Composer({
      schema: "failsafe",
      resolveKnownTags: false,
      uniqueKeys: false,
      prettyErrors: false,
      logLevel: "error",
    });
    const [document, second] = composer.compose(tokensOf(text), true, text.length);
    if (document === undefined) return nothing;
    if (second !== undefined) report(second.range[0], "expected the end of the file, got another document (---)");
    const found = [...document.errors, ...document.warnings];
    // After one unexpected token, everything that follows is invalid too.
    const unexpected = found.find(({ code }) => code === "UNEXPECTED_TOKEN");
    for (const problem of found) {
      const { code, pos, message } = problem;
      if (code === "UNEXPECTED_TOKEN" && problem !== unexpected) continue;
      report(pos[0], explain(code, message, text.startsWith("${", pos[0] - 1)));
    }
    if (document.errors.length > 0 || second !== undefined) return nothing;
    return new TreeBuilder(report).build(document.contents, 0);
  } catch (error) {
    if (error instanceof Excess) {
      report(error.offset, error.message);
      return nothing;
    }
    report(0, `YAML: cannot be parsed: ${error instanceof Error ? error.message : String(error)}`);
    return nothing;
  }
}

/** Thrown and caught within this file. */
class Excess extends Error {
  readonly offset: number;

  constructor(offset: number, message: string) {
    super(message);
    this.offset = offset;
  }
}

/** The tokens of the library's parser. @throws Excess if the text has too many, or is nested too deeply */
function* tokensOf(text: string): Generator<CST.Token> {
  const parser = new Parser();
  let offset = 0;
  let count = 0;
  for (const token of new Lexer().lex(text)) {
    count += 1;
    if (count > MAX_TOKENS) throw new Excess(offset, `the file has more than ${MAX_TOKENS} YAML tokens`);
    yield* parser.next(token);
    // The library keeps open collections in a private list, and would recurse to any depth.
    if (parser["stack"].length > MAX_OPEN) throw new Excess(offset, `nested deeper than ${MAX_DEPTH} levels`);
    if (!EMPTY_TOKENS.has(token)) offset += token.length;
  }
  yield* parser.end();
}

/** A message of the library, or a better one if it is misleading. */
function explain(code: string, message: string, atVariable: boolean): string {
  if (code === "UNEXPECTED_TOKEN" && atVariable) return "a variable inside { } or [ ] needs quotes around its value";
  return `YAML: ${message}`;
}

class TreeBuilder {
  readonly #report: ReportAt;
  readonly #anchors = new Map<string, TreeNode | "open">();
  #mergedEntries = 0;

  constructor(report: ReportAt) {
    this.#report = report;
  }

  build(node: ParsedNode | null, offset: number, depth = 0): TreeNode {
    if (node === null) return { kind: "null", offset };
    const start = node.range[0];
    if (depth > MAX_DEPTH) {
      this.#report(start, `nested deeper than ${MAX_DEPTH} levels`);
      return { kind: "null", offset: start };
    }
    if (isAlias(node)) {
      const target = this.#anchors.get(node.source);
      if (target === undefined)
        this.#report(start, `unknown anchor &${node.source}, expected its definition before this alias`);
      if (target === "open") this.#report(start, `alias *${node.source} is inside its own anchor`);
      return typeof target === "object" ? target : { kind: "null", offset: start };
    }
    const anchor = node.anchor;
    if (anchor !== undefined) this.#anchors.set(anchor, "open");
    const built = this.#buildOwn(node, start, depth);
    if (anchor !== undefined) this.#anchors.set(anchor, built);
    return built;
  }

  #buildOwn(node: ParsedNode, offset: number, depth: number): TreeNode {
    if (isMap(node)) return this.#buildMap(node.items, offset, depth);
    if (isSeq(node)) {
      const items = node.items.map((item) => this.build(item as ParsedNode | null, offset, depth + 1));
      return { kind: "list", items, offset };
    }
    if (!isScalar(node)) return { kind: "null", offset };
    const text = node.source;
    const plain = node.type === "PLAIN" && node.tag === undefined;
    if (plain && /^(?:|~|null|Null|NULL)$/u.test(text)) return { kind: "null", offset };
    return { kind: "scalar", text, plain, offset };
  }

  #buildMap(
    pairs: readonly { readonly key: unknown; readonly value: unknown }[],
    offset: number,
    depth: number,
  ): TreeNode {
    const entries = new Map<string, TreeEntry>();
    const merges: { readonly source: TreeNode; readonly keyOffset: number }[] = [];
    for (const pair of pairs) {
      const key = pair.key as ParsedNode | null;
      const keyOffset = key?.range[0] ?? offset;
      const value = this.build(pair.value as ParsedNode | null, keyOffset, depth + 1);
      if (!isScalar(key)) {
        // `{{.Port}}` without quotes is read as a map in a map.
        this.#report(keyOffset, 'expected a string as key (text that begins with "{" needs quotes)');
        continue;
      }
      const text = key.source;
      if (text === "<<" && key.type === "PLAIN") {
        merges.push({ source: value, keyOffset });
      } else if (entries.has(text)) {
        this.#report(keyOffset, `duplicate key ${JSON.stringify(text.slice(0, 80))}`);
      } else {
        entries.set(text, { key: text, keyOffset, value });
      }
    }
    for (const { source, keyOffset } of merges) this.#merge(entries, source, keyOffset);
    return { kind: "map", entries: [...entries.values()], offset };
  }

  /** Keys of the map itself override merged ones, and earlier sources override later ones. */
  #merge(entries: Map<string, TreeEntry>, source: TreeNode, keyOffset: number): void {
    for (const map of source.kind === "list" ? source.items : [source]) {
      if (map.kind !== "map") {
        this.#report(keyOffset, "expected a map or a list of maps after <<");
        return;
      }
      this.#mergedEntries += map.entries.length + 1;
      if (this.#mergedEntries > MAX_MERGED_ENTRIES) {
        this.#report(keyOffset, `merge keys expand to more than ${MAX_MERGED_ENTRIES} entries`);
        return;
      }
      for (const entry of map.entries) if (!entries.has(entry.key)) entries.set(entry.key, entry);
    }
  }
}
