/** Prints a translated file as YAML, with the names of the source's keys, notes and ignored keys as comments. */
import { Document, type Node, Pair, Scalar, YAMLMap, YAMLSeq } from "yaml";
import { printableLines } from "../base/printable.ts";
import { type Draft, type Ignored, type Imported, type Key, PoolDraft, type Setting, type Value } from "./draft.ts";

/** Keys of a pool in this order; others follow in the order in which they were set. */
const ORDER = "name type depends_on replicas exec args env env_file cwd user group umask nice".split(" ");

const WIDTH = 120;

/** `title` is the comment at the beginning. */
export function printImport({ pools, general }: Imported, title: readonly string[]): string {
  const document = new Document({});
  document.commentBefore = commentOf([...title, ...linesOf(general)]);
  const supervisor = mapOf(general.settings, (setting) => setting.path[0] ?? "");
  const workers = new YAMLSeq();
  const enabled = pools.filter(({ isDisabled }) => !isDisabled);
  for (const pool of enabled) workers.items.push(nodeOf(pool, workers.items.length > 0));
  supervisor.items.push(new Pair(new Scalar("workers"), workers));
  const root = new YAMLMap();
  root.items.push(new Pair(new Scalar("supervisor"), supervisor));
  document.contents = root as never;
  return document.toString({ lineWidth: 0 }) + pools.map(disabledText).join("");
}

/** A pool that does not start, as a comment at the end of the list. */
function disabledText(pool: PoolDraft): string {
  if (!pool.isDisabled) return "";
  const document = new Document({});
  const list = new YAMLSeq();
  list.items.push(nodeOf(pool, false));
  document.contents = list as never;
  const lines = document.toString({ lineWidth: 0 }).trimEnd().split("\n");
  return ["", ...lines.map((line) => `    # ${line.replace(/^# /u, "")}`.trimEnd()), ""].join("\n");
}

function nodeOf(pool: PoolDraft, isSpaced: boolean): Node {
  const named: Setting[] = [{ path: ["name"], value: pool.name, keys: [] }, ...pool.settings];
  const rank = (name: string) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  const sorted = named.toSorted((a, b) => rank(a.path[0] ?? "") - rank(b.path[0] ?? ""));
  const map = mapOf(sorted, (setting) => setting.path[0] ?? "");
  map.commentBefore = commentOf([pool.title, ...linesOf(pool)]);
  map.spaceBefore = isSpaced;
  return map;
}

/** A map of settings, grouped by the name that `nameOf` returns for each. */
function mapOf(settings: readonly Setting[], nameOf: (setting: Setting) => string, depth = 0): YAMLMap {
  const map = new YAMLMap();
  const groups = Map.groupBy(settings, nameOf);
  for (const [name, members] of groups) {
    const key = new Scalar(name);
    const [only] = members;
    if (only !== undefined && only.path.length === depth + 1) {
      const value = valueNode(only.value, WIDTH - 10 - 2 * depth - name.length);
      const remark = remarkOf(only);
      const length = JSON.stringify(only.value).length + name.length + 2 * depth + remark.length;
      const isShort = length < WIDTH || value instanceof Scalar;
      if (remark !== "" && isShort && (value instanceof Scalar || value.flow === true)) value.comment = ` ${remark}`;
      else if (remark !== "") key.commentBefore = ` ${remark}`;
      map.items.push(new Pair(key, value));
      continue;
    }
    map.items.push(
      new Pair(
        key,
        mapOf(members, ({ path }) => path[depth + 1] ?? "", depth + 1),
      ),
    );
  }
  return map;
}

/** Lists and maps of scalars are printed on one line if they fit. */
function valueNode(value: Value, width: number): Scalar | YAMLMap | YAMLSeq {
  const node = new Document(value).contents;
  if (node instanceof Scalar) return node;
  if (!(node instanceof YAMLMap || node instanceof YAMLSeq)) throw new TypeError("expected a value");
  const isFlat = Object.values(value).every((item) => typeof item !== "object");
  node.flow = isFlat && JSON.stringify(value).length <= width;
  if (node instanceof YAMLSeq && !node.flow) {
    for (const item of node.items) if (item instanceof YAMLMap) item.flow = true;
  }
  return node;
}

/** The keys of the source, unless the only one has the name of ours. */
function remarkOf({ path, keys, remark }: Setting): string {
  const all = [...new Set(keys.map(({ short }) => short))];
  const names = all.length === 1 && all[0] === path.at(-1) ? "" : all.join(", ");
  return oneLine([names, remark ?? ""].filter((text) => text !== "").join(": "));
}

/** What is said about a block as a whole. */
function linesOf(draft: Draft): string[] {
  const lines = draft.notes.flatMap((note) => wrap(`Note: ${note}.`, "      "));
  if (draft.implied.length > 0) lines.push(...wrap(`No key needed for: ${impliedText(draft.implied)}.`, "  "));
  if (draft.ignored.length > 0)
    lines.push("Not translated:", ...draft.ignored.flatMap(ignoredLines(draft.ignored, !(draft instanceof PoolDraft))));
  return lines;
}

function impliedText(keys: readonly Key[]): string {
  return [...new Set(keys.map(({ short }) => short))].join(", ");
}

/** Prints keys with the same reason together. */
function ignoredLines(all: readonly Ignored[], isGeneral: boolean): (one: Ignored) => string[] {
  const groups = Map.groupBy(all, ({ reason }) => reason);
  return (one) => {
    const members = groups.get(one.reason) ?? [];
    if (members[0] !== one) return [];
    const keys = members.map(({ short, key, where }) => `${isGeneral ? key : short} (${placeOf(where)})`).join(", ");
    return wrap(`  ${keys}: ${one.reason}.`, "    ");
  };
}

/** `shop.conf:12` for `/etc/shop.conf:12`. */
function placeOf(where: string): string {
  return where.slice(where.lastIndexOf("/") + 1);
}

/** Breaks a text into lines; `indent` is that of all lines but the first. */
function wrap(text: string, indent: string): string[] {
  const [words, lines] = [oneLine(text, true).split(/(?<=\S) /u), [] as string[]];
  let line = words.shift() ?? "";
  for (const word of words) {
    if (line.length + word.length < WIDTH - 8) line += ` ${word}`;
    else {
      lines.push(line);
      line = indent + word;
    }
  }
  return [...lines, line];
}

function commentOf(lines: readonly string[]): string {
  return lines.map((line) => ` ${oneLine(line, true)}`).join("\n");
}

/** Text without line breaks and control characters. */
function oneLine(text: string, keepsIndent = false): string {
  const one = printableLines(text.replaceAll(/[\n\r\u2028\u2029]+/gu, " "));
  return keepsIndent ? one.trimEnd() : one.trim();
}
