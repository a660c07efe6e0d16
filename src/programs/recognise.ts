/** Which program a command line runs, through wrappers and interpreters. Knows nothing but the words. */
import { namesOf, PROGRAMS, programOf, wrapperOf } from "./catalog.ts";
import { NEXT_STANDALONE } from "./node.ts";
import { PHP_SERVER } from "./php.ts";
import type { Program, Wrapper } from "./program.ts";

export interface Recognised {
  readonly program: Program;
  /** Index of the word that names it: of `uvicorn` in `python -m uvicorn app:app`. Its arguments follow. */
  readonly at: number;
  /** Programs in front of it that run it. */
  readonly wrappers: readonly Wrapper[];
  /** Variables that `env` sets. */
  readonly env: Readonly<Record<string, string>>;
}

/** Options of interpreters that take a value in the next word. */
const INTERPRETERS: Readonly<Record<string, readonly string[]>> = {
  python: ["-W", "-X", "--check-hash-based-pycs"],
  ruby: ["-I", "-r", "-E", "-C"],
  node: ["-r", "--require", "--import", "--loader", "--env-file", "-C", "--conditions"],
};

/** The program that `words` run; undefined if it is not known. */
export function recognise(words: readonly string[]): Recognised | undefined {
  const wrappers: Wrapper[] = [];
  const env: Record<string, string> = {};
  let at = 0;
  while (at < words.length) {
    const word = words[at] ?? "";
    const inner = innerCommand(words, at);
    if (inner !== undefined) {
      wrappers.push(inner.wrapper);
      at = inner.at;
      while (namesOf(word).includes("env")) {
        const assignment = assignmentOf(words[at]);
        if (assignment === undefined) break;
        env[assignment.name] = assignment.value;
        at += 1;
      }
      continue;
    }
    const found = interpreted(words, at) ?? direct(words, at);
    if (found === undefined || "program" in found) return found === undefined ? undefined : { ...found, wrappers, env };
    at = found.script;
  }
  return undefined;
}

type Found = { readonly program: Program; readonly at: number };
/** The index of a script that an interpreter runs, which may be a known program. */
type Script = { readonly script: number };

/** Where the command begins that the wrapper at `at` runs; undefined if it is no wrapper. */
function innerCommand(words: readonly string[], at: number): { wrapper: Wrapper; at: number } | undefined {
  const wrapper = wrapperOf(words[at] ?? "");
  if (wrapper === undefined) return undefined;
  const { subcommands, valueOptions = [] } = wrapper;
  let next = skipOptions(words, at + 1, valueOptions);
  if (subcommands !== undefined) {
    if (!subcommands.includes(words[next] ?? "")) return undefined;
    next = skipOptions(words, next + 1, valueOptions);
  }
  return { wrapper, at: words[next] === "--" ? next + 1 : next };
}

/** The first index from `at` on whose word is no option; `--` is none. */
function skipOptions(words: readonly string[], at: number, valueOptions: readonly string[]): number {
  let next = at;
  while (words[next]?.startsWith("-") === true && words[next] !== "--")
    next += valueOptions.includes(words[next] ?? "") ? 2 : 1;
  return next;
}

/** What an interpreter runs; undefined if `at` is no interpreter. */
function interpreted(words: readonly string[], at: number): Found | Script | undefined {
  const names = namesOf(words[at] ?? "");
  if (names.includes("php")) {
    return words.slice(at + 1).some((word) => word.startsWith("-S")) ? { program: PHP_SERVER, at } : undefined;
  }
  const interpreter = Object.keys(INTERPRETERS).find((name) => names.includes(name) || names.includes(`${name}js`));
  if (interpreter === undefined) return undefined;
  const valueOptions = INTERPRETERS[interpreter] ?? [];
  for (let next = at + 1; next < words.length; next += 1) {
    const word = words[next] ?? "";
    if (interpreter === "python" && word === "-m") {
      const program = PROGRAMS.find(({ modules }) => modules?.includes(words[next + 1] ?? ""));
      return program === undefined ? undefined : { program, at: next + 1 };
    }
    if (interpreter === "python" && word === "-c") return undefined;
    if (valueOptions.includes(word)) next += 1;
    else if (!word.startsWith("-")) return scriptOf(words, interpreter, at, next);
  }
  return interpreter === "node" ? direct(words, at) : undefined;
}

/** What the script at `script` is. Node.js programs have no name of their own. */
function scriptOf(words: readonly string[], interpreter: string, at: number, script: number): Found | Script {
  const word = words[script] ?? "";
  if (interpreter !== "node") return { script };
  const node = programOf("node") ?? NEXT_STANDALONE;
  if (/(?:^|\/)standalone\/(?:.*\/)?server\.js$/u.test(word)) return { program: NEXT_STANDALONE, at: script };
  const isPackage = /(?:^|\/)node_modules\//u.test(word) && programOf(word) !== undefined;
  return isPackage ? { script } : { program: node, at };
}

function direct(words: readonly string[], at: number): Found | undefined {
  const program = programOf(words[at] ?? "");
  if (program === undefined) return undefined;
  const { subcommands } = program;
  if (subcommands === undefined) return { program, at };
  const first = words.slice(at + 1).find((word) => !word.startsWith("-")) ?? "";
  return subcommands.includes(first) ? { program, at } : undefined;
}

function assignmentOf(word: string | undefined): { readonly name: string; readonly value: string } | undefined {
  const [, name, value = ""] = /^([^=]+)=(.*)$/su.exec(word ?? "") ?? [];
  return name === undefined ? undefined : { name, value };
}
