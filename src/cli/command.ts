/**
 * A command is data (from which parsing, help and docs/cli.md are generated) plus `run`. Heavy modules are loaded
 * inside `run`, so that help and version stay fast.
 */
import type { Terminal } from "./screen/terminal.ts";

/** One flag. Its key is its name, without the dashes. */
export interface Flag {
  readonly type: "boolean" | "string";
  /** One letter. */
  readonly short?: string;
  /** Placeholder for the value, in capitals; only for strings. */
  readonly value?: string;
  readonly isRequired?: true;
  /** Whether it may be given several times; otherwise the last value counts. Only for strings. */
  readonly isRepeatable?: true;
  /** What it does, without a full stop. */
  readonly doc: string;
}

/** One positional argument. */
export interface Argument {
  /** In capitals. */
  readonly name: string;
  readonly isRequired: boolean;
  readonly doc: string;
  /** All possible values, for completion; undefined if unknown. */
  readonly values?: readonly string[];
}

/** The words after `--`: a command to run, which replaces a flag. */
export interface Rest {
  /** In capitals. */
  readonly name: string;
  readonly doc: string;
  /** The flag that is given otherwise; exactly one of both is needed. */
  readonly insteadOf: string;
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
  /** Further sentences for the help of the command. */
  readonly details?: string;
  /** The command's own flags; COMMON_FLAGS are added. */
  readonly flags: Readonly<Record<string, Flag>>;
  /** Required ones first. */
  readonly arguments: readonly Argument[];
  /** The words after `--`, if the command takes any. They are not parsed. */
  readonly rest?: Rest;
  readonly examples: readonly Example[];
  /**
   * Runs the command and resolves with the exit code. @throws ControllerError for expected failures; the caller prints
   * it with its hint and derives the exit code from it.
   */
  run(context: Context): Promise<number>;
}

/** Commands by the heading under which the help lists them. */
export type CommandGroups = Readonly<Record<string, readonly Command[]>>;

/** What a command runs with: the parsed command line and its environment. */
export interface Context {
  /** Positional arguments; as many as the command declares. */
  readonly arguments: readonly string[];
  /** The words after `--`; undefined without `--`, or if the command takes none. */
  readonly rest: readonly string[] | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly terminal: Terminal;
  /** The value of a string flag; undefined if absent. */
  text(flag: string): string | undefined;
  /** All values of a flag that may be repeated, in their order. */
  texts(flag: string): readonly string[];
  /** Whether a flag is given. */
  isSet(flag: string): boolean;
}

/** Flags of every command. */
export const COMMON_FLAGS: Readonly<Record<string, Flag>> = {
  json: { type: "boolean", doc: "Print JSON, including errors" },
  help: { type: "boolean", short: "h", doc: "Print this help" },
};

/** Flags of every command that connects to a running controller. */
export const CLIENT_FLAGS: Readonly<Record<string, Flag>> = {
  socket: { type: "string", value: "PATH", doc: "Control socket of the controller" },
  config: {
    type: "string",
    short: "c",
    value: "FILE",
    doc: "Configuration file of the controller, to read admin.socket from",
  },
};
