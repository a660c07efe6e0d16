/**
 * What a command of the command line is: data (from which parsing, help and docs/cli.md are made) plus `run`. A command
 * loads what is heavy inside `run`, so that help and version stay quick.
 */
import type { Terminal } from "./screen/terminal.ts";

/** One flag. Its name is the key it stands under, without the dashes. */
export interface Flag {
  readonly type: "boolean" | "string";
  /** One letter. */
  readonly short?: string;
  /** What the value is, in capitals; only for strings. */
  readonly value?: string;
  readonly isRequired?: true;
  /** What it does, without a full stop. */
  readonly doc: string;
}

/** One positional argument. */
export interface Argument {
  /** In capitals. */
  readonly name: string;
  readonly isRequired: boolean;
  readonly doc: string;
  /** All that it may be, for completion; undefined where that is not known. */
  readonly values?: readonly string[];
}

export interface Example {
  readonly command: string;
  /** What it does, without a full stop. */
  readonly doc: string;
}

export interface Command {
  /** One word, or two for a command of a group: "config show". */
  readonly name: string;
  /** One line without a full stop, starting with a verb. */
  readonly summary: string;
  /** More sentences for the help of the command. */
  readonly details?: string;
  /** Own flags; those of COMMON_FLAGS are added. */
  readonly flags: Readonly<Record<string, Flag>>;
  /** Required ones first. */
  readonly arguments: readonly Argument[];
  readonly examples: readonly Example[];
  /**
   * Does it and resolves with the exit code. @throws ControllerError for what can go wrong; it is printed with its hint
   * and gives the exit code.
   */
  run(context: Context): Promise<number>;
}

/** What a command is run with: the parsed command line and its surroundings. */
export interface Context {
  /** Positional arguments; as many as the command says. */
  readonly arguments: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly terminal: Terminal;
  /** The value of a flag of type string; undefined where it is not given. */
  text(flag: string): string | undefined;
  /** Whether a flag is given. */
  isSet(flag: string): boolean;
}

/** Flags that each command has. */
export const COMMON_FLAGS: Readonly<Record<string, Flag>> = {
  json: { type: "boolean", doc: "Print JSON, errors too" },
  help: { type: "boolean", short: "h", doc: "Print this help" },
};

/** Flags of each command that talks to a running controller. */
export const CLIENT_FLAGS: Readonly<Record<string, Flag>> = {
  socket: { type: "string", value: "PATH", doc: "Control socket of the controller" },
  config: { type: "string", short: "c", value: "FILE", doc: "Configuration of the controller, for its admin.socket" },
};
