/**
 * Parser for env_file in the dialect of docker compose, which docs/operation.md specifies: `NAME=value` lines,
 * comments, single quotes for literal text, double quotes with escapes, `$NAME` and `${NAME:-default}` outside single
 * quotes. Input that the dialect leaves undefined or changes silently is an error. Pure; messages never contain values.
 */

/** The variables in the order of the file, or its problems. */
export type ParsedEnvFile =
  | { readonly ok: true; readonly variables: ReadonlyMap<string, string> }
  | { readonly ok: false; readonly problems: readonly EnvFileProblem[] };

export interface EnvFileProblem {
  /** Counted from 1. */
  readonly line: number;
  readonly message: string;
}

const MAX_PROBLEMS = 20;
const LITERAL_HINT = "put the value in single quotes if the dollar is part of it";
const ESCAPES: Readonly<Record<string, string>> = {
  a: "\u0007",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  "\\": "\\",
  '"': '"',
  $: "$",
};
const NAME = /[A-Za-z_][A-Za-z0-9_]*/uy;

/** Parses the content of a file. `environment` supplies variables that the file itself does not set. */
export function parseEnvFile(
  content: string,
  environment: Readonly<Record<string, string | undefined>> = {},
): ParsedEnvFile {
  return new Parser(content.startsWith("\ufeff") ? content.slice(1) : content, environment).parse();
}

/** Thrown and caught within this file. */
class Refusal extends Error {
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.line = line;
  }
}

class Parser {
  readonly #text: string;
  readonly #environment: Readonly<Record<string, string | undefined>>;
  readonly #variables = new Map<string, string>();
  readonly #problems: EnvFileProblem[] = [];
  #at = 0;
  #line = 1;

  constructor(text: string, environment: Readonly<Record<string, string | undefined>>) {
    this.#text = text;
    this.#environment = environment;
  }

  parse(): ParsedEnvFile {
    while (this.#at < this.#text.length && this.#problems.length < MAX_PROBLEMS) {
      const line = this.#line;
      try {
        this.#statement();
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        this.#problems.push({ line: error.line, message: error.message });
        // Parsing continues on the next line.
        if (this.#line === line) this.#skipLine();
      }
    }
    return this.#problems.length > 0
      ? { ok: false, problems: this.#problems }
      : { ok: true, variables: this.#variables };
  }

  /** Parses one line, or several for a quoted value. */
  #statement(): void {
    const line = this.#line;
    const start = this.#restOfLine().trim();
    if (start === "" || start.startsWith("#")) {
      this.#skipLine();
      return;
    }
    const match = /^[^\S\n]*(?:export[^\S\n]+)?([^\s=:#'"]+)[^\S\n]*([=:])[^\S\n]*/u.exec(this.#restOfLine());
    const name = match?.[1];
    if (match === null || name === undefined) {
      const isName = /^(?:export\s+)?[A-Za-z_][A-Za-z0-9_.-]*$/u.test(start);
      const hint = isName ? "; a name without a value is not accepted" : "";
      throw new Refusal(line, `expected NAME=value${hint}`);
    }
    if (!/^[A-Za-z_][A-Za-z0-9_.-]*$/u.test(name))
      throw new Refusal(line, "a name must consist of letters, digits, _ . and -, and not begin with a digit");
    const hasSpace = /[^\S\n]$/u.test(match[0]);
    this.#at += match[0].length;
    const value = this.#value(line, hasSpace);
    if (value.includes("\0")) throw new Refusal(line, `the value of ${name} contains a zero byte`);
    this.#variables.set(name, value);
  }

  #value(line: number, hasSpace: boolean): string {
    const quote = this.#text[this.#at];
    if (quote === "'") return this.#quoted(line, quote).replaceAll("\\'", "'");
    if (quote === '"') return this.#expand(line, this.#quoted(line, quote), true);
    const raw = this.#restOfLine();
    this.#skipLine();
    // Without preceding white space, `#` is part of the value.
    const comment = hasSpace && raw.startsWith("#") ? 0 : /[^\S\n]#/u.exec(raw)?.index;
    return this.#expand(line, (comment === undefined ? raw : raw.slice(0, comment)).trimEnd(), false);
  }

  /** The text between quotes, possibly over several lines. Only a comment may follow the closing quote. */
  #quoted(line: number, quote: "'" | '"'): string {
    const start = this.#at + 1;
    let end = start;
    for (let char = this.#text[end]; char !== quote; char = this.#text[end]) {
      if (char === undefined) {
        this.#at = this.#text.length;
        throw new Refusal(line, `the value begins with ${quote}, but no closing ${quote} follows`);
      }
      end += char === "\\" ? 2 : 1;
    }
    this.#at = end + 1;
    const text = this.#text.slice(start, end);
    this.#line += text.split("\n").length - 1;
    const closedOn = this.#line;
    const behind = this.#restOfLine().trim();
    this.#skipLine();
    if (behind !== "" && !behind.startsWith("#"))
      throw new Refusal(closedOn, `only a comment may follow the closing ${quote}`);
    return text;
  }

  /** Expands `$NAME`, `${NAME}`, the forms with an operator, and escapes if `hasEscapes`; `$$` is a dollar sign. */
  #expand(line: number, text: string, hasEscapes: boolean): string {
    let result = "";
    for (let at = 0; at < text.length; ) {
      const char = text[at] ?? "";
      if (char === "\\" && hasEscapes) {
        const [written, meant] = readEscape(text, at);
        result += meant;
        at += written;
      } else if (char !== "$") {
        result += char;
        at++;
      } else if (text[at + 1] === "$") {
        result += "$";
        at += 2;
      } else if (text[at + 1] === "{") {
        const end = closingBrace(text, at + 2);
        if (end === undefined) throw new Refusal(line, `\${ without a closing brace; ${LITERAL_HINT}`);
        result += this.#braced(line, text.slice(at + 2, end), hasEscapes);
        at = end + 1;
      } else {
        NAME.lastIndex = at + 1;
        const name = NAME.exec(text)?.[0];
        result += name === undefined ? "$" : (this.#lookup(name) ?? this.#unset(line, name));
        at += 1 + (name?.length ?? 0);
      }
    }
    return result;
  }

  /** Expands the body of `${…}`. */
  #braced(line: number, body: string, hasEscapes: boolean): string {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)(?:(:?)([-?+])(.*))?$/su.exec(body);
    const name = match?.[1];
    if (match === null || name === undefined)
      throw new Refusal(line, `expected \${NAME} or \${NAME:-default}; ${LITERAL_HINT}`);
    const [, , colon, operator, operand = ""] = match;
    const value = this.#lookup(name);
    const isThere = value !== undefined && !(colon === ":" && value === "");
    if (operator === "+") return isThere ? this.#expand(line, operand, hasEscapes) : "";
    if (isThere) return value;
    if (operator === "-") return this.#expand(line, operand, hasEscapes);
    if (operator === "?")
      throw new Refusal(line, `variable ${name} is required${operand === "" ? "" : `: ${operand}`}`);
    return this.#unset(line, name);
  }

  #unset(line: number, name: string): never {
    throw new Refusal(line, `variable ${name} is not set (\${${name}:-default} gives it a default); ${LITERAL_HINT}`);
  }

  /** Earlier lines override the environment, as they do for the worker. */
  #lookup(name: string): string | undefined {
    return this.#variables.get(name) ?? (Object.hasOwn(this.#environment, name) ? this.#environment[name] : undefined);
  }

  #restOfLine(): string {
    const end = this.#text.indexOf("\n", this.#at);
    return this.#text.slice(this.#at, end === -1 ? undefined : end);
  }

  #skipLine(): void {
    const end = this.#text.indexOf("\n", this.#at);
    this.#at = end === -1 ? this.#text.length : end + 1;
    this.#line++;
  }
}

/** The length of the escape at `at` and its value. An unknown escape stays as written. */
function readEscape(text: string, at: number): readonly [written: number, meant: string] {
  const next = text[at + 1] ?? "";
  const octal = /^0([0-3][0-7]{2})/u.exec(text.slice(at + 1, at + 5))?.[1];
  if (octal !== undefined) return [5, String.fromCharCode(Number.parseInt(octal, 8))];
  return [1 + next.length, ESCAPES[next] ?? `\\${next}`];
}

/** The offset of the brace that closes the one before `at`. */
function closingBrace(text: string, at: number): number | undefined {
  let depth = 1;
  for (; at < text.length; at++) {
    if (text[at] === "{" && text[at - 1] === "$") depth++;
    else if (text[at] === "}" && --depth === 0) return at;
  }
  return undefined;
}
