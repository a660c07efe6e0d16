/** The content of a PM2 file: evaluated or parsed data, and where its keys are in the text. */
import { isMap, isScalar, isSeq, LineCounter, parseDocument } from "yaml";
import { messageOf } from "../../base/errors.ts";
import { type Source, SourceError } from "../draft.ts";

/** Data as JSON has it. */
export type Json = string | number | boolean | null | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The applications of a file, and `file:line` of a key of one of them. */
export interface Pm2File {
  readonly apps: readonly JsonObject[];
  /** Keys beside `apps`. */
  readonly others: readonly string[];
  whereOf(app: number, key: string): string;
}

/** Reads JSON or YAML. @throws SourceError */
export function parsePm2Text(source: Source): Pm2File {
  const { text, file } = source;
  const counter = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: counter,
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: "error",
  });
  const [error] = document.errors;
  if (error !== undefined) {
    const { line } = counter.linePos(error.pos[0]);
    throw new SourceError(`${file}:${line}: ${error.message}`);
  }
  const data = dataOf(document, file);
  const lines = (app: number, key: string): number | undefined => {
    const root = document.contents;
    const list = isMap(root) && root.has("apps") ? root.get("apps") : root;
    const node = isSeq(list) ? list.items[app] : list;
    if (!isMap(node)) return undefined;
    const name = node.items.find((item) => isScalar(item.key) && item.key.value === key)?.key;
    return isScalar(name) && name.range ? counter.linePos(name.range[0]).line : undefined;
  };
  return withApps(data, (app, key) => at(file, lines(app, key)));
}

/** @throws SourceError, for example if an alias has no anchor */
function dataOf(document: ReturnType<typeof parseDocument>, file: string): Json {
  try {
    return document.toJS({ maxAliasCount: 100 }) as Json;
  } catch (error) {
    throw new SourceError(`${file}: ${messageOf(error)}`);
  }
}

/** Reads what a JavaScript file exports. A line is known if each application with the key has one place in the text. */
export function readPm2Export(source: Source, data: Json): Pm2File {
  const { text, file } = source;
  const file2 = withApps(data, () => file);
  return {
    ...file2,
    whereOf: (app, key) => {
      const having = file2.apps.flatMap((each, index) => (Object.hasOwn(each, key) ? [index] : []));
      const lines = text
        .split("\n")
        .flatMap((line, index) => (keyPattern(key).test(line.replace(/\/\/.*$/u, "")) ? [index + 1] : []));
      return at(file, lines.length === having.length ? lines[having.indexOf(app)] : undefined);
    },
  };
}

function keyPattern(key: string): RegExp {
  return new RegExp(`(?:^|[\\s{,])["']?${RegExp.escape(key)}["']?\\s*:`, "u");
}

function at(file: string, line: number | undefined): string {
  return line === undefined ? file : `${file}:${line}`;
}

function withApps(data: Json, whereOf: Pm2File["whereOf"]): Pm2File {
  const list = isObject(data) && data["apps"] !== undefined ? data["apps"] : data;
  const apps = Array.isArray(list) ? (list as readonly Json[]) : [list as Json];
  for (const app of apps)
    if (!isObject(app) || !["script", "exec", "cmd"].some((key) => typeof app[key] === "string"))
      throw new SourceError("expected `apps`, a list of objects that have a script");
  if (apps.length === 0) throw new SourceError("it has no applications");
  const others = isObject(data) && data["apps"] !== undefined ? Object.keys(data).filter((key) => key !== "apps") : [];
  return { apps: apps as JsonObject[], others, whereOf };
}
