/**
 * Parses a command line into the command, its flags and arguments, or throws a USAGE error that suggests the
 * likely intent. Pure: it prints nothing and runs nothing.
 */
import { parseArgs } from "node:util";
import { ControllerError } from "../base/errors.ts";
import { didYouMean } from "../config/nearest.ts";
import { COMMON_FLAGS, type Command, type Flag } from "./command.ts";

/** The parsed command line. */
export type Request =
  | { readonly kind: "run"; readonly command: Command; readonly given: Given }
  | { readonly kind: "help"; readonly commands: readonly Command[] }
  | { readonly kind: "nothing" };

/** Flags and arguments as given, checked against the command. */
export interface Given {
  readonly flags: ReadonlyMap<string, readonly string[] | true>;
  readonly arguments: readonly string[];
  /** The words after `--`, if the command takes them. */
  readonly rest: readonly string[] | undefined;
}

/** Flags without a command, for compatibility with the original, which had no commands. */
const BARE_FLAGS: Readonly<Record<string, Flag>> = {
  version: { type: "boolean", short: "v", doc: "Print the version" },
};

/**
 * Parses `argv` (without the program's name). Without a command word the command is `run`, or `version` if
 * --version is given. @throws ControllerError USAGE
 */
export function parseCommandLine(argv: readonly string[], commands: readonly Command[]): Request {
  const [first, second] = argv;
  if (first === undefined) return { kind: "nothing" };
  if (first === "help") return parseCommandLine([...argv.slice(1), "--help"], commands);
  if (first.startsWith("-")) return parseBare(argv, commands);

  const command =
    commands.find(({ name }) => name === `${first} ${second}`) ?? commands.find(({ name }) => name === first);
  if (command !== undefined) {
    const flags = { ...command.flags, ...COMMON_FLAGS };
    const words = splitRest(argv.slice(command.name.split(" ").length), command);
    const given = readArguments(words, flags, `monoceros ${command.name}`);
    if (given.flags.has("help")) return { kind: "help", commands: [command] };
    return { kind: "run", command, given: checked(command, given) };
  }

  const group = commands.filter(({ name }) => name.startsWith(`${first} `));
  const members = group.map(({ name }) => name.slice(first.length + 1));
  if (group.length === 0) {
    const words = [...new Set(commands.map(({ name }) => name.split(" ")[0] ?? name))];
    throw usage(`unknown command "${first}"${didYouMean(first, words)}`, "monoceros");
  }
  if (second === "--help" || second === "-h") return { kind: "help", commands: group };
  const what = second === undefined || second.startsWith("-") ? "" : `, got "${second}"${didYouMean(second, members)}`;
  throw usage(`${first}: expected ${members.join(" or ")}${what}`, `monoceros ${first}`);
}

function parseBare(argv: readonly string[], commands: readonly Command[]): Request {
  const run = commands.find(({ name }) => name === "run");
  const flags = { ...run?.flags, ...BARE_FLAGS, ...COMMON_FLAGS };
  const { argv: before, rest } = splitRest(argv, run);
  const words = before.map((word) => fromGoSpelling(word, flags));
  const given = readArguments({ argv: words, rest }, flags, "monoceros");
  if (given.flags.has("help")) return { kind: "help", commands };
  const name = given.flags.has("version") ? "version" : "run";
  const command = commands.find((each) => each.name === name);
  if (command === undefined) throw usage("expected a command", "monoceros");
  const [word] = given.arguments;
  if (word !== undefined && commands.some((each) => each.name.split(" ")[0] === word)) {
    throw usage(`flags come after the command: monoceros ${word} …`, "monoceros");
  }
  return { kind: "run", command, given: checked(command, given) };
}

/**
 * The original's command line follows Go's flag package, where one dash and two mean the same (`-config FILE`,
 * `--c FILE`) and a letter takes its value after an equals sign (`-c=FILE`). Returns such a word as `--config…`.
 */
function fromGoSpelling(word: string, flags: Readonly<Record<string, Flag>>): string {
  const [, dashes, name, value = ""] = /^(--?)([\w-]+)(=.*)?$/su.exec(word) ?? [];
  if (name === undefined) return word;
  if (Object.hasOwn(flags, name)) return `--${name}${value}`;
  const long = Object.keys(flags).find((each) => flags[each]?.short === name);
  return long === undefined || (dashes === "-" && value === "") ? word : `--${long}${value}`;
}

function checked(command: Command, given: Given): Given {
  const called = `monoceros ${command.name}`;
  for (const [name, flag] of Object.entries(command.flags)) {
    if (flag.isRequired === true && !given.flags.has(name)) {
      throw usage(`missing flag ${spell(name, flag)}`, called);
    }
  }
  checkRest(command, given, called);
  const missing = command.arguments.filter(({ isRequired }) => isRequired)[given.arguments.length];
  if (missing !== undefined) throw usage(`missing argument ${missing.name}`, called);
  const extra = given.arguments[command.arguments.length];
  if (extra !== undefined) {
    const instead =
      command.rest === undefined || given.rest !== undefined ? "" : `; write ${called} -- ${extra} … to run a command`;
    throw usage(`unexpected argument "${extra}"${instead}`, called);
  }
  return given;
}

/** Exactly one of the words after `--` and the flag that they replace must be given. */
function checkRest({ rest, flags }: Command, given: Given, called: string): void {
  const flag = rest === undefined ? undefined : flags[rest.insteadOf];
  if (rest === undefined || flag === undefined) return;
  const spelled = spell(rest.insteadOf, flag);
  const hasFlag = given.flags.has(rest.insteadOf);
  if (hasFlag && given.rest !== undefined)
    throw usage(`${spelled} and a command after -- exclude each other; give one of them`, called);
  if (!hasFlag && given.rest === undefined && given.arguments.length === 0)
    throw usage(`missing ${spelled}, or -- and a command`, called);
  if (given.rest?.length === 0) throw usage(`missing ${rest.name} after --`, called);
}

/** A command line, and the words after `--`, which are not parsed. */
interface Words {
  readonly argv: readonly string[];
  readonly rest: readonly string[] | undefined;
}

function splitRest(argv: readonly string[], command: Command | undefined): Words {
  const end = command?.rest === undefined ? -1 : argv.indexOf("--");
  return end === -1 ? { argv, rest: undefined } : { argv: argv.slice(0, end), rest: argv.slice(end + 1) };
}

function readArguments({ argv, rest }: Words, flags: Readonly<Record<string, Flag>>, called: string): Given {
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, { type, short }]) => [name, { type, ...(short === undefined ? {} : { short }) }]),
  );
  // Not strict, so that our own error messages can suggest the nearest flag.
  const { tokens } = parseArgs({ args: [...argv], options, strict: false, allowPositionals: true, tokens: true });
  const given = new Map<string, readonly string[] | true>();
  const words: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind !== "option") continue;
    const flag = Object.hasOwn(flags, token.name) ? flags[token.name] : undefined;
    if (flag === undefined) {
      const names = Object.keys(flags).map((name) => `--${name}`);
      throw usage(`unknown flag ${token.rawName}${didYouMean(token.rawName, names)}`, called);
    }
    if (flag.type === "boolean") {
      if (token.value !== undefined) throw usage(`${token.rawName} takes no value, got "${token.value}"`, called);
      given.set(token.name, true);
      continue;
    }
    const isMissing = token.value === undefined || (!token.inlineValue && token.value.startsWith("-"));
    if (isMissing || token.value === "")
      throw usage(`${token.rawName} requires a value: ${flag.value ?? "VALUE"}`, called);
    const earlier = given.get(token.name);
    given.set(token.name, [...(Array.isArray(earlier) && flag.isRepeatable ? earlier : []), token.value]);
  }
  return { flags: given, arguments: words, rest };
}

/** A flag in its usual spelling, such as -c FILE: its letter if it has one. */
export function spell(name: string, { short, value }: Flag): string {
  return `${short === undefined ? `--${name}` : `-${short}`} ${value ?? ""}`.trimEnd();
}

/** The error for an invalid command line; `called` is the command to show help for. */
export function usage(message: string, called: string): ControllerError {
  return new ControllerError("USAGE", message, { hint: `Run \`${called} --help\`.` });
}
