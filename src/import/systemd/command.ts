/** Command lines of systemd: prefixes, specifiers and variables, in the syntax of our file. */
import type { Key, PoolDraft } from "../draft.ts";
import { setCommand } from "../shell.ts";
import { literal, plain, variable } from "../text.ts";
import { splitUnitWords } from "./unit.ts";

/** What specifiers and variables stand for. */
export interface UnitNames {
  /** `web@.service` or `web.service`. */
  readonly unit: string;
  /** The part before `@`, or before the suffix. */
  readonly prefix: string;
  /** Variables of `Environment=`, in the syntax of our file. */
  readonly variables: Readonly<Record<string, string>>;
  /** Whether variables may also come from a file, so that their values are known only at run time. */
  readonly hasEnvironmentFile: boolean;
}

export interface UnitCommand {
  /** Whether a failure is ignored (`-`). */
  readonly mayFail: boolean;
  /** Whether it runs as root (`+`, `!`). */
  readonly isPrivileged: boolean;
  /** Whether the second word is the name that the program sees (`@`). */
  readonly hasName: boolean;
  /** Whether variables are not expanded (`:`). */
  readonly isLiteral: boolean;
  readonly rest: string;
}

export function readPrefixes(text: string): UnitCommand {
  const prefix = /^[-@+!:|]*/u.exec(text)?.[0] ?? "";
  return {
    mayFail: prefix.includes("-"),
    isPrivileged: /[+!]/u.test(prefix),
    hasName: prefix.includes("@"),
    isLiteral: prefix.includes(":"),
    rest: text.slice(prefix.length).trim(),
  };
}

/** Replaces specifiers such as `%i`. An unknown one stays as it is, with a note. */
export function specifiers(text: string, names: UnitNames, pool: PoolDraft, slot?: string): string {
  const escaped = slot === undefined ? plain : literal;
  const values: Readonly<Record<string, string | undefined>> = {
    "%": "%",
    i: slot,
    I: slot,
    n: names.unit,
    N: names.unit.replace(/\.service$/u, ""),
    p: names.prefix,
    P: names.prefix,
    t: "/run",
    S: "/var/lib",
    C: "/var/cache",
    L: "/var/log",
    E: "/etc",
    T: "/tmp",
    V: "/var/tmp",
    h: variable("HOME"),
    H: variable("HOSTNAME"),
  };
  return text
    .split(/(%[A-Za-z%])/u)
    .map((part, index) => {
      if (index % 2 === 0) return escaped(part);
      const value = values[part.charAt(1)];
      if (value === undefined) pool.note(`the specifier ${part} has no equivalent here; replace it by its value`);
      if (part === "%h")
        pool.note(
          "%h is the home directory of the user of the unit; the variable HOME is that of the controller's user",
        );
      return value ?? part;
    })
    .join("");
}

/** Sets `exec` and `args`. A variable that only a file sets needs a shell. Returns false if the command is malformed. */
export function setUnitCommand(pool: PoolDraft, command: UnitCommand, key: Key, names: UnitNames): boolean {
  const { mayFail, isLiteral } = command;
  const words = splitUnitWords(command.rest);
  if (words?.[0] === undefined) return false;
  if (command.hasName) {
    words.splice(1, 1);
    pool.note("the prefix @ is ignored: the program sees its own name");
  }
  const isLateWord = (word: string) => variablesOf(word).some((name) => isLate(name, names));
  const needsShell = mayFail || (!isLiteral && words.some(isLateWord));
  if (needsShell) {
    const line = words.map((word) => quote(specifiers(word, names, pool, "{{.Slot}}"), isLiteral)).join(" ");
    setCommand(pool, "sh", ["-c", mayFail ? `${line} || true` : `exec ${line}`], key);
    return true;
  }
  // As in systemd, a word that is only a variable without braces becomes any number of words.
  const [program = "", ...args] = words.flatMap((word) => {
    if (isLiteral) return [specifiers(word, names, pool, "{{.Slot}}")];
    const value = expandWord(word, names, pool);
    return /^\$[A-Za-z_]\w*$/u.test(word) ? value.split(/\s+/u).filter((part) => part !== "") : [value];
  });
  if (program.includes("{{")) pool.note("exec cannot contain {{.Slot}}; write one pool for each instance");
  setCommand(pool, program, args, key);
  return true;
}

function variablesOf(word: string): string[] {
  return [...word.matchAll(/(?<!\$)\$(?:\{(\w+)\}|([A-Za-z_]\w*)$)/gu)].map(([, braced, bare]) => braced ?? bare ?? "");
}

function isLate(name: string, { variables, hasEnvironmentFile }: UnitNames): boolean {
  return hasEnvironmentFile || !Object.hasOwn(variables, name);
}

/** A word with variables and specifiers replaced, in the syntax of our file; `$$` is a dollar. */
function expandWord(word: string, names: UnitNames, pool: PoolDraft): string {
  const { variables } = names;
  return word
    .split(/(\$\$|\$\{\w+\}|^\$[A-Za-z_]\w*$)/u)
    .map((part, index) => {
      if (index % 2 === 0) return specifiers(part, names, pool, "{{.Slot}}");
      return part === "$$" ? "$$" : (variables[part.replaceAll(/[${}]/gu, "")] ?? "");
    })
    .join("");
}

/** A word for a shell. systemd's variables are the shell's, except that a whole `$NAME` is split in both. */
function quote(word: string, isLiteral: boolean): string {
  if (/^[\w@%+=:,./-]+$/u.test(word) || (!isLiteral && /^\$[A-Za-z_]\w*$/u.test(word))) return word;
  if (word.includes("$") && !isLiteral) return `"${word.replaceAll(/["\\`]/gu, "\\$&")}"`;
  return `'${word.replaceAll("'", "'\\''")}'`;
}
