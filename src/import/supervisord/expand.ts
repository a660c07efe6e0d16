/** The expressions `%(name)s` in values of supervisord. */
import { literal, plain, variable } from "../text.ts";

export interface Expansion {
  /** Values by name: here, program_name, group_name, numprocs. */
  readonly values: Readonly<Record<string, string>>;
  /** What process_num becomes; undefined where our file has no template. */
  readonly slot: string | undefined;
}

/** Text in the syntax of our file, and what a reader must know about it. */
export interface Expanded {
  readonly text: string;
  readonly notes: readonly string[];
  /** Names without a value. */
  readonly unknown: readonly string[];
}

const EXPRESSION = /%(?:%|\((\w+)\)(\d*[sd]))/gu;

/** Expands `text`. `%(ENV_X)s` becomes `${X}`, because the variable belongs to the machine that runs the program. */
export function expand(text: string, { values, slot }: Expansion): Expanded {
  const escaped = slot === undefined ? plain : literal;
  const notes: string[] = [];
  const unknown: string[] = [];
  let result = "";
  let at = 0;
  for (const match of text.matchAll(EXPRESSION)) {
    result += escaped(text.slice(at, match.index));
    at = match.index + match[0].length;
    const [whole, name, format = "s"] = match;
    if (name === undefined) result += "%";
    else if (name.startsWith("ENV_")) result += variable(name.slice(4));
    else if (name === "process_num") {
      if (slot === undefined) unknown.push(whole);
      else result += slot;
      if (/^\d/u.test(format)) notes.push(`${whole} had a fixed width; {{.Slot}} has no leading zeros`);
    } else if (name === "host_node_name") result += variable("HOSTNAME");
    else if (Object.hasOwn(values, name)) result += escaped(values[name] ?? "");
    else unknown.push(whole);
  }
  return { text: result + escaped(text.slice(at)), notes, unknown };
}

/** The variables of `environment=A="1",B='x,y',C=3`, with values as written; undefined if it is malformed. */
export function parseEnvironment(text: string): (readonly [name: string, value: string])[] | undefined {
  const pairs: (readonly [string, string])[] = [];
  const pattern = /\s*([A-Za-z_][\w.()/+-]*)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^,"'\s]*))\s*(?:,|$)/uy;
  while (pattern.lastIndex < text.length && text.slice(pattern.lastIndex).trim() !== "") {
    const match = pattern.exec(text);
    if (match === null) return undefined;
    pairs.push([match[1] ?? "", match[2] ?? match[3] ?? match[4] ?? ""]);
  }
  return pairs;
}
