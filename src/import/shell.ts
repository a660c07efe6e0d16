/** Command lines that were written for a shell: which of them need one, and how to run both kinds. */
import type { Key, PoolDraft } from "./draft.ts";
import { literal, plain } from "./text.ts";

/** A command without a shell: variables in front of it, then its words. */
export interface SimpleCommand {
  readonly assignments: readonly (readonly [name: string, value: string])[];
  readonly words: readonly string[];
}

/** Values of shell variables that are known, in the syntax of our file. */
export type KnownVariables = Readonly<Record<string, string>>;

const SPECIAL = /[;&|<>()`*?[\]{}!#~\n]/u;
const BUILTINS = new Set(
  "cd export set if for while case until source . eval trap ulimit umask test [ : { (".split(" "),
);

/**
 * Parses a command line that uses no feature of a shell except quotes, variables of `known` and assignments in front.
 * Its words are in the syntax of our file. undefined if it needs a shell.
 */
export function withoutShell(text: string, known: KnownVariables = {}): SimpleCommand | undefined {
  const words = readWords(text.trim(), known);
  if (words === undefined) return undefined;
  const assignments: (readonly [string, string])[] = [];
  while (words.length > 0) {
    const [, name, value = ""] = /^([A-Za-z_]\w*)=(.*)$/su.exec(words[0] ?? "") ?? [];
    if (name === undefined) break;
    assignments.push([name, value]);
    words.shift();
  }
  if (words[0] === "exec") words.shift();
  const [program] = words;
  if (program === undefined || BUILTINS.has(program) || program.includes("{{")) return undefined;
  return { assignments, words };
}

function readWords(text: string, known: KnownVariables): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  let at = 0;
  while (at < text.length) {
    const char = text.charAt(at);
    if (/[^\S\n]/u.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
      at += 1;
    } else if (char === "'") {
      const end = text.indexOf("'", at + 1);
      if (end < 0) return undefined;
      word = (word ?? "") + literal(text.slice(at + 1, end));
      at = end + 1;
    } else if (char === '"') {
      const quoted = readDoubleQuoted(text, at + 1, known);
      if (quoted === undefined) return undefined;
      word = (word ?? "") + quoted.text;
      at = quoted.end;
    } else if (char === "\\" && text.charAt(at + 1) !== "") {
      word = (word ?? "") + literal(text.charAt(at + 1));
      at += 2;
    } else if (char === "$") {
      const variable = readVariable(text, at, known);
      if (variable === undefined) return undefined;
      word = (word ?? "") + variable.text;
      at = variable.end;
    } else if (SPECIAL.test(char) && !isOrdinary(char, text.charAt(at + 1), word)) return undefined;
    else {
      word = (word ?? "") + char;
      at += 1;
    }
  }
  return word === undefined ? words : [...words, word];
}

/** Whether a character that may be special is not special here. */
function isOrdinary(char: string, next: string, word: string | undefined): boolean {
  if (char === "#" || char === "~") return word !== undefined;
  return char === "!" && (word !== undefined || !/\s/u.test(next));
}

interface Piece {
  readonly text: string;
  readonly end: number;
}

function readDoubleQuoted(text: string, from: number, known: KnownVariables): Piece | undefined {
  let value = "";
  for (let at = from; at < text.length; ) {
    const char = text.charAt(at);
    if (char === '"') return { text: value, end: at + 1 };
    if (char === "`") return undefined;
    if (char === "\\" && '$`"\\'.includes(text.charAt(at + 1))) {
      value += literal(text.charAt(at + 1));
      at += 2;
    } else if (char === "$") {
      const variable = readVariable(text, at, known);
      if (variable === undefined) return undefined;
      value += variable.text;
      at = variable.end;
    } else {
      value += char;
      at += 1;
    }
  }
  return undefined;
}

/** A variable of `known` at a dollar, also with a default; undefined for any other. */
function readVariable(text: string, at: number, known: KnownVariables): Piece | undefined {
  const match = /^\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::?-[^${}"'`\\\s]*)?\})/u.exec(text.slice(at));
  const name = match?.[1] ?? match?.[2];
  if (match === null || name === undefined || !Object.hasOwn(known, name)) return undefined;
  return { text: known[name] ?? "", end: at + match[0].length };
}

/** Sets `exec`, `args` and assignments of a pool from a shell's command line. Returns whether it keeps a shell. */
export function setShellCommand(
  pool: PoolDraft,
  text: string,
  keys: Key | readonly Key[],
  known: KnownVariables = {},
): boolean {
  const [, directory, rest = ""] = /^\s*cd\s+([\w./@-]+)\s*&&\s*(\S.*)$/su.exec(text) ?? [];
  if (directory !== undefined && pool.get("cwd") === undefined && isOneCommand(rest.trim())) {
    pool.set("cwd", directory, keys);
    return setShellCommand(pool, rest, keys, known);
  }
  const simple = withoutShell(text, known);
  if (simple === undefined) {
    setInShell(pool, text.trim(), keys);
    return true;
  }
  const [program = "", ...args] = simple.words;
  for (const [name, value] of simple.assignments) pool.setEnv(name, value, keys);
  setCommand(pool, program, args, keys);
  return false;
}

/** The shell replaces itself if it has only one command to run, so that the stop signal reaches the program. */
function setInShell(pool: PoolDraft, text: string, keys: Key | readonly Key[]): void {
  let command = text;
  for (;;) {
    const [whole, name, value = ""] = /^([A-Za-z_]\w*)=([\w./:,@%+-]*)\s+(?=\S)/u.exec(command) ?? [];
    if (whole === undefined || name === undefined || !isOneCommand(command.slice(whole.length))) break;
    pool.setEnv(name, value, keys);
    command = command.slice(whole.length);
  }
  const needsExec = isOneCommand(command) && !/^exec\s/u.test(command);
  pool.set("exec", "sh", keys);
  pool.set("args", ["-c", literal(needsExec ? `exec ${command}` : command)], keys);
}

function isOneCommand(text: string): boolean {
  const withoutVariables = text.replaceAll(/\$\{[^{}]*\}/gu, "");
  const [program = ""] = text.split(/\s+/u);
  return !/[;&|(){}`\n]|<<|^\w+=/u.test(withoutVariables) && !BUILTINS.has(program);
}

/** Sets `exec` and `args`, which are in the syntax of our file already. */
export function setCommand(
  pool: PoolDraft,
  program: string,
  args: readonly string[],
  keys: Key | readonly Key[],
): void {
  pool.set("exec", program, keys);
  if (args.length > 0) pool.set("args", args, keys);
}

/** Sets `exec` and `args` from words of the source. */
export function setWords(pool: PoolDraft, words: readonly string[], keys: Key | readonly Key[]): void {
  const [program = "", ...args] = words;
  setCommand(pool, plain(program), args.map(literal), keys);
}
