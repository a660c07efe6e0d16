/**
 * YAML text → a small tree of scalars, lists and maps with offsets; the only file that knows the YAML library's nodes.
 * Scalars keep their source text, aliases point to the converted anchor, merge keys (`<<`) are applied. Everything is
 * bounded: a hostile text costs time in proportion to its length. Variables are not replaced here.
 */
import { isAlias, isMap, isScalar, isSeq, type ParsedNode, parseDocument } from "yaml";

/** Longest text that is read. */
export const MAX_TEXT_LENGTH = 1024 * 1024;
const MAX_DEPTH = 64;
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
  /** In the order of the file, merged entries last; keys are unique. */
  readonly entries: readonly TreeEntry[];
  readonly offset: number;
}

export type TreeNode = TreeScalar | TreeNull | TreeList | TreeMap;

/** Tells what is wrong at an offset of the text. */
export type ReportAt = (offset: number, message: string) => void;

/** Parses `text`; what is wrong goes to `report`, and the tree is then incomplete. Never throws. */
export function parseTree(text: string, report: ReportAt): TreeNode {
  const nothing: TreeNode = { kind: "null", offset: 0 };
  if (text.length > MAX_TEXT_LENGTH) {
    report(0, `the file is longer than 1 MiB (${text.length} characters)`);
    return nothing;
  }
  try {
    // Scalars stay text (failsafe), because only the schema knows what each one shall be. Duplicate keys are found
    // below: the library compares each key with all others of its map.
    const document = parseDocument(text, {
      schema: "failsafe",
      resolveKnownTags: false,
      uniqueKeys: false,
      prettyErrors: false,
      logLevel: "error",
    });
    const found = [...document.errors, ...document.warnings];
    // After one unexpected token, or where the library's stack ended, everything that follows is wrong too.
    const exhausted = found.find(({ code }) => code === "RESOURCE_EXHAUSTION");
    const unexpected = found.find(({ code }) => code === "UNEXPECTED_TOKEN");
    for (const problem of exhausted === undefined ? found : [exhausted]) {
      const { code, pos, message } = problem;
      if (code === "UNEXPECTED_TOKEN" && problem !== unexpected) continue;
      report(pos[0], explain(code, message, text.startsWith("${", pos[0] - 1)));
    }
    if (document.errors.length > 0) return nothing;
    return new TreeBuilder(report).build(document.contents, 0);
  } catch (error) {
    report(0, `YAML: cannot be parsed: ${error instanceof Error ? error.message : String(error)}`);
    return nothing;
  }
}

/** A message of the library, or a better one where it would mislead. */
function explain(code: string, message: string, atVariable: boolean): string {
  if (code === "RESOURCE_EXHAUSTION") return "nested too deeply";
  if (code === "UNEXPECTED_TOKEN" && atVariable) return "a variable inside { } or [ ] needs quotes around its value";
  if (code === "MULTIPLE_DOCS") return "expected the end of the file, got another document (---)";
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
      if (target === undefined) this.#report(start, `no anchor &${node.source} stands before this alias`);
      if (target === "open") this.#report(start, `alias *${node.source} stands inside its own anchor`);
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
        this.#report(keyOffset, 'expected a word as key (text that begins with "{" needs quotes)');
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

  /** Keys of the map itself win over merged ones, earlier sources over later ones. */
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
