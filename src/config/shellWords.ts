/**
 * A command line → its words, by the quoting rules of the POSIX shell. No shell runs: what only a shell could carry out
 * is an error. Templates and the values of variables are parts of words, whatever they contain.
 */
import { findTemplates, joinParts, type Template, type TemplatePart, templateSource } from "./template.ts";
import type { Piece } from "./variables.ts";

export type ShellWords =
  | { readonly ok: true; readonly words: readonly Template[] }
  | { readonly ok: false; readonly message: string };

/** The words of a command line. */
export function shellWords(pieces: readonly Piece[]): ShellWords {
  const result = findTemplates(pieces);
  if (!result.ok) return result;
  const splitter = new Splitter();
  try {
    for (const each of result.found) {
      if ("name" in each) splitter.add(each);
      else if (each.isValue) splitter.addValue(each.text);
      else splitter.read(each.text);
    }
    return { ok: true, words: splitter.end() };
  } catch (error) {
    if (error instanceof SyntaxError) return { ok: false, message: error.message };
    throw error;
  }
}

/** A command line with these words. */
export function commandLineOf(words: readonly Template[]): string {
  return words.map((word) => quote(templateSource(word))).join(" ");
}

const PLAIN = /^[A-Za-z0-9_@%+:,./{}-][A-Za-z0-9_@%+=:,./{}-]*$/u;

function quote(source: string): string {
  return PLAIN.test(source) ? source : `'${source.replaceAll("'", `'\\''`)}'`;
}

/** Matches after a dollar sign that a shell would replace. */
const EXPANDS = /^[A-Za-z_{(0-9@*#?!$-]/u;

class Splitter {
  readonly #words: Template[] = [];
  /** Parts of the word that is being read; undefined between words. */
  #word: TemplatePart[] | undefined;
  #quote: "'" | '"' | undefined;
  /** Whether the last character was a backslash that quotes the next one. */
  #isEscaped = false;
  /** Whether a line with words has ended. */
  #isOver = false;

  /** Adds a template, which no quoting changes. */
  add(part: TemplatePart): void {
    this.#isEscaped = false;
    this.#openWord().push(part);
  }

  /** Adds the value of a variable. It is not split; as in a shell, an empty value alone is no word. */
  addValue(text: string): void {
    this.#isEscaped = false;
    if (text !== "") this.add(text);
  }

  read(text: string): void {
    for (let at = 0; at < text.length; at++) {
      const character = text[at] ?? "";
      const rest = text.slice(at + 1, at + 3);
      if (this.#isEscaped) this.#readEscaped(character);
      else if (this.#quote === "'") {
        if (character === "'") this.#quote = undefined;
        else this.add(character);
      } else if (this.#quote === '"') this.#readDoubleQuoted(character, rest);
      else this.#readUnquoted(character, rest);
    }
  }

  end(): readonly Template[] {
    if (this.#quote !== undefined) throw new SyntaxError(`the quote ${this.#quote} is not closed`);
    if (this.#isEscaped) throw new SyntaxError("the backslash at the end quotes nothing");
    this.#endWord();
    return this.#words;
  }

  #openWord(): TemplatePart[] {
    if (this.#word === undefined && this.#isOver)
      throw new SyntaxError(
        "a second line is a second command; end the first line with a backslash, or write command: >",
      );
    this.#word ??= [];
    return this.#word;
  }

  #endWord(): void {
    if (this.#word !== undefined) this.#words.push(joinParts(this.#word));
    this.#word = undefined;
  }

  #readEscaped(character: string): void {
    // A backslash before the end of a line continues the line.
    if (character === "\n") this.#isEscaped = false;
    else if (this.#quote === undefined || '$`"\\'.includes(character)) this.add(character);
    else this.add(`\\${character}`);
  }

  #readDoubleQuoted(character: string, rest: string): void {
    if (character === '"') this.#quote = undefined;
    else if (character === "\\") this.#isEscaped = true;
    else if (character === "`" || (character === "$" && EXPANDS.test(rest))) throw needsShell(character + rest);
    else this.add(character);
  }

  #readUnquoted(character: string, rest: string): void {
    if (character === "'" || character === '"') {
      this.#quote = character;
      this.#openWord();
    } else if (character === "\\") this.#isEscaped = true;
    else if (/[ \t\n]/u.test(character)) {
      this.#endWord();
      if (character === "\n" && this.#words.length > 0) this.#isOver = true;
    } else if (/[|&;<>()`*?[]/u.test(character) || (character === "$" && EXPANDS.test(rest)))
      throw needsShell(character + rest);
    else if (character === "#" && this.#word === undefined) throw needsShell(character);
    else if (character === "~" && this.#word === undefined)
      throw new SyntaxError(`"~" is not expanded; write \${HOME}, or quote it`);
    else this.add(character);
  }
}

function needsShell(text: string): SyntaxError {
  const what = /^\$[A-Za-z_]/u.test(text)
    ? `the unquoted "$" of a variable; write \${NAME}, which the configuration replaces`
    : `an unquoted ${JSON.stringify(text[0])}`;
  return new SyntaxError(`${what}; no shell runs: quote it in single quotes, or write exec: sh and args: [-c, "…"]`);
}
