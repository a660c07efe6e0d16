/**
 * The command line from start to exit code: finds the command, runs it and prints errors. Never throws, never
 * exits the process.
 */
import { ControllerError } from "../base/errors.ts";
import type { CommandGroups, Context } from "./command.ts";
import { type Given, parseCommandLine } from "./commandLine.ts";
import { helpOf, helpOfAll, SHORT_USAGE } from "./help.ts";
import type { Terminal } from "./screen/terminal.ts";

export interface CliOptions {
  /** All commands, by their heading in the help. */
  readonly groups: CommandGroups;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly terminal: Terminal;
}

const EXIT_USAGE = 2;
const EXIT_BUG = 70;

/** Runs `argv` (without the program's name) and resolves with the exit code. */
export async function cli(argv: readonly string[], options: CliOptions): Promise<number> {
  const { groups, terminal } = options;
  const commands = Object.values(groups).flat();
  try {
    const request = parseCommandLine(argv, commands);
    if (request.kind === "run") return await request.command.run(contextOf(request.given, options));
    if (request.kind === "nothing") {
      await terminal.write("stderr", SHORT_USAGE);
      return EXIT_USAGE;
    }
    const isAll = request.commands === commands;
    await terminal.write("stdout", isAll ? helpOfAll(groups) : request.commands.map(helpOf).join("\n"));
    return 0;
  } catch (error) {
    const isJson = argv.includes("--json");
    await terminal.write("stderr", isJson ? `${JSON.stringify(errorBody(error))}\n` : errorText(error));
    return error instanceof ControllerError ? error.exitCode : EXIT_BUG;
  }
}

function contextOf(given: Given, { env, terminal }: CliOptions): Context {
  return {
    arguments: given.arguments,
    rest: given.rest,
    env,
    terminal,
    text: (flag) => {
      const value = given.flags.get(flag);
      return value === true ? undefined : value?.at(-1);
    },
    texts: (flag) => {
      const value = given.flags.get(flag);
      return value === true || value === undefined ? [] : value;
    },
    isSet: (flag) => given.flags.has(flag),
  };
}

/** An error formatted for users: without a stack trace, unless it is a bug. */
function errorText(error: unknown): string {
  if (error instanceof ControllerError) {
    return `monoceros: ${error.message}\n${error.hint === undefined ? "" : `  hint: ${error.hint}\n`}`;
  }
  return `monoceros: bug: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`;
}

function errorBody(error: unknown): object {
  if (error instanceof ControllerError)
    return { error: { code: error.code, message: error.message, hint: error.hint } };
  return { error: { code: "BUG", message: error instanceof Error ? error.message : String(error) } };
}
