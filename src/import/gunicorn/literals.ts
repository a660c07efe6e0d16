/** Assignments in a Python file: where they are, and their values as far as they are literals. Executes nothing. */

/** A value of Python that JSON has too; a tuple is a list. */
export type PythonValue =
  | string
  | number
  | boolean
  | null
  | readonly PythonValue[]
  | { readonly [name: string]: PythonValue };

export interface Assignment {
  readonly name: string;
  /** Counted from 1. */
  readonly line: number;
  /** undefined if it is computed. */
  readonly value: PythonValue | undefined;
}

/** Assignments and functions at the left margin, in the order of the file. */
export function readAssignments(text: string): Assignment[] {
  const found: Assignment[] = [];
  const pattern = /^(?:(?:async\s+)?def\s+([A-Za-z_]\w*)\s*\(|([A-Za-z_]\w*)\s*(?::[^=\n]+)?=(?!=)[^\S\n]*)/gmu;
  for (const match of text.matchAll(pattern)) {
    const line = text.slice(0, match.index).split("\n").length;
    const name = match[1] ?? match[2] ?? "";
    found.push({
      name,
      line,
      value: match[1] === undefined ? literalAt(text, match.index + match[0].length) : undefined,
    });
  }
  return found;
}

function literalAt(text: string, at: number): PythonValue | undefined {
  const reader = new LiteralReader(text, at);
  try {
    const value = reader.read();
    return /^[^\S\n]*(?:#.*)?(?:\r?\n|$)/u.test(text.slice(reader.at)) ? value : undefined;
  } catch (error) {
    if (error instanceof NotALiteral) return undefined;
    throw error;
  }
}

/** Thrown and caught within this file. */
class NotALiteral extends Error {}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", "\n": "" };
const MAX_DEPTH = 20;

class LiteralReader {
  at: number;
  readonly #text: string;

  constructor(text: string, at: number) {
    this.#text = text;
    this.at = at;
  }

  read(depth = 0): PythonValue {
    const rest = this.#text.slice(this.at, this.at + 400);
    const [word] = /^(?:True|False|None)\b/u.exec(rest) ?? [];
    if (word !== undefined) {
      this.at += word.length;
      return word === "None" ? null : word === "True";
    }
    const [number] = /^-?(?:\d[\d_]*(?:\.\d+)?|\.\d+)(?![\w.])/u.exec(rest) ?? [];
    if (number !== undefined) {
      this.at += number.length;
      return Number(number.replaceAll("_", ""));
    }
    if (/^[rbu]?(?:"(?!"")|'(?!''))/iu.test(rest)) return this.#string();
    if (/^[[(]/u.test(rest) && depth < MAX_DEPTH) return this.#list(depth);
    throw new NotALiteral();
  }

  #string(): string {
    const prefix = /^[rbu]/iu.exec(this.#text.charAt(this.at))?.[0].toLowerCase();
    if (prefix !== undefined) this.at += 1;
    const quote = this.#text.charAt(this.at);
    let value = "";
    for (this.at += 1; this.at < this.#text.length; this.at += 1) {
      const char = this.#text.charAt(this.at);
      if (char === quote) {
        this.at += 1;
        return value;
      }
      if (char === "\n") break;
      if (char === "\\" && prefix !== "r") {
        this.at += 1;
        const escaped = this.#text.charAt(this.at);
        value += ESCAPES[escaped] ?? escaped;
      } else value += char;
    }
    throw new NotALiteral();
  }

  /** A list or a tuple; `("a")` is the text itself. */
  #list(depth: number): PythonValue {
    const isTuple = this.#text.charAt(this.at) === "(";
    const items: PythonValue[] = [];
    let hasComma = false;
    this.at += 1;
    for (;;) {
      this.#skipSpace();
      if (this.#text.charAt(this.at) === (isTuple ? ")" : "]")) break;
      items.push(this.read(depth + 1));
      this.#skipSpace();
      if (this.#text.charAt(this.at) === ",") {
        hasComma = true;
        this.at += 1;
      } else if (this.#text.charAt(this.at) !== (isTuple ? ")" : "]")) throw new NotALiteral();
    }
    this.at += 1;
    const [only] = items;
    return isTuple && !hasComma && only !== undefined ? only : items;
  }

  #skipSpace(): void {
    const space = /(?:\s|#.*)*/uy;
    space.lastIndex = this.at;
    space.exec(this.#text);
    this.at = space.lastIndex;
  }
}
