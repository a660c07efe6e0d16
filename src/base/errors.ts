/**
 * Operational errors, which can occur without a bug. Each has a code, an exit code and a one-line meaning. This table
 * is the only source of codes; docs/errors.md is generated from it. A bug is an InvariantError.
 */

import { printableLines } from "./printable.ts";

interface ErrorEntry {
  readonly exitCode: 1 | 2 | 69 | 78;
  readonly meaning: string;
}

/** Every operational error code. Exit codes: 1 failed, 2 usage, 69 no controller, 78 configuration. */
export const ERROR_CODES = {
  CONFIG_INVALID: { exitCode: 78, meaning: "The configuration has problems; each is listed with line and column." },
  CONFIG_UNREADABLE: { exitCode: 78, meaning: "The configuration file cannot be read." },
  EXEC_NOT_FOUND: { exitCode: 78, meaning: "The executable of a pool does not exist or is not on PATH." },
  EXEC_NOT_EXECUTABLE: { exitCode: 78, meaning: "The executable of a pool exists but may not be executed." },
  INTERPRETER_NOT_FOUND: {
    exitCode: 78,
    meaning:
      "The executable of a pool exists, but not what it needs to start: the interpreter of its #! line, or its dynamic loader.",
  },
  CWD_NOT_FOUND: { exitCode: 78, meaning: "The working directory of a pool does not exist." },
  ENV_FILE_INVALID: {
    exitCode: 78,
    meaning: "An env_file cannot be read, or has lines that its dialect does not allow.",
  },
  ARGUMENTS_TOO_LONG: {
    exitCode: 78,
    meaning: "An argument or a variable of a pool, or all together, are longer than the kernel accepts.",
  },
  TLS_FILE_INVALID: {
    exitCode: 78,
    meaning: "A file of server.tls is missing, is not a regular file or cannot be read.",
  },
  TOKEN_FILE_INVALID: { exitCode: 78, meaning: "The admin.token_file cannot be read or holds no token." },
  USER_NOT_FOUND: { exitCode: 78, meaning: "A user or group of a pool is not known to this system." },
  PERMISSION_REQUIRED: { exitCode: 78, meaning: "A pool asks for something that only root may do." },
  RUNTIME_DIR_UNUSABLE: {
    exitCode: 78,
    meaning:
      "There is no directory for sockets and Envoy's files that can be written, or a user that needs it may not enter it.",
  },
  SPAWN_SHIM_BLOCKED: {
    exitCode: 78,
    meaning:
      "A pool needs the spawn shim, which sets users, limits and LISTEN_PID, but this system executes it neither from memory nor from supervisor.runtime_dir.",
  },
  PORT_IN_USE: { exitCode: 1, meaning: "A port to listen on is taken; the holder is named where /proc tells." },
  ADDRESS_UNAVAILABLE: { exitCode: 1, meaning: "An address to listen on cannot be bound on this machine." },
  SOCKET_IN_USE: { exitCode: 1, meaning: "Another process listens on the Unix socket of a pool." },
  CONTROL_SOCKET_IN_USE: { exitCode: 1, meaning: "Another controller answers on the control socket." },
  CONTROL_SOCKET_UNSAFE: {
    exitCode: 1,
    meaning:
      "The path of the control socket holds something that is no socket, or another user controls its directory.",
  },
  RUNTIME_DIR_UNSAFE: {
    exitCode: 78,
    meaning: "Another user controls the directory for sockets and Envoy's files, or a directory above it.",
  },
  PROGRAM_UNTRUSTED: {
    exitCode: 78,
    meaning: "Another user could replace a program that the controller runs with its own rights.",
  },
  ENVOY_NOT_FOUND: { exitCode: 78, meaning: "A pool has a server, but there is no Envoy." },
  ENVOY_NOT_EXECUTABLE: { exitCode: 78, meaning: "What should be Envoy cannot be run, or is something else." },
  ENVOY_TOO_OLD: {
    exitCode: 78,
    meaning: "Envoy lacks what the proxy of a pool needs; 1.31 is the oldest that has it.",
  },
  ENVOY_CONFIG_REFUSED: { exitCode: 78, meaning: "Envoy does not take what a pool's server asks for." },
  INOTIFY_EXHAUSTED: {
    exitCode: 1,
    meaning:
      "The user of the controller has too few inotify instances left for its Envoys (fs.inotify.max_user_instances).",
  },
  LISTENER_PORT_IN_USE: {
    exitCode: 1,
    meaning: "The listener port of a pool is taken; the holder is named where /proc tells.",
  },
  PROC_UNUSABLE: { exitCode: 1, meaning: "The file system /proc is missing or belongs to another PID namespace." },
  SPAWN_FAILED: { exitCode: 1, meaning: "The kernel refused to start a process." },
  PROCESS_LIMIT: {
    exitCode: 1,
    meaning:
      "A limit on processes and threads was reached: pids.max of a control group, RLIMIT_NPROC or the kernel's own.",
  },
  ENVOY_NO_ANSWER: { exitCode: 1, meaning: "Envoy did not answer in time; the machine may be overloaded." },
  RESTARTS_EXHAUSTED: { exitCode: 1, meaning: "A worker had more unplanned exits than its budget allows." },
  SHUTDOWN_FORCED: {
    exitCode: 1,
    meaning: "Workers were killed: a second signal came, or supervisor.shutdown_timeout was over.",
  },
  OPERATION_FAILED: { exitCode: 1, meaning: "A restart, scale, stop, start or reload could not be carried out." },
  FILE_UNWRITABLE: { exitCode: 1, meaning: "A file that a command was to write cannot be written." },
  USAGE: { exitCode: 2, meaning: "The command line is not understood." },
  NO_CONTROLLER: { exitCode: 69, meaning: "No controller answers on the control socket." },
  WORKER_UNKNOWN: { exitCode: 1, meaning: "No worker has this id." },
  PROCESS_UNKNOWN: { exitCode: 1, meaning: "No live process of the worker has this id." },
  POOL_UNKNOWN: { exitCode: 1, meaning: "No pool has this name." },
  OPERATION_UNKNOWN: { exitCode: 1, meaning: "No operation has this id, or it ended long ago and is forgotten." },
  ACCESS_DENIED: { exitCode: 1, meaning: "The API request needs the token, or may not be made from there." },
  REQUEST_INVALID: { exitCode: 1, meaning: "The API request is not understood." },
  REQUEST_REFUSED: { exitCode: 1, meaning: "The API request is understood but not allowed or not possible now." },
} as const satisfies Record<string, ErrorEntry>;

/** A stable name of an operational error, safe to match on. */
export type ErrorCode = keyof typeof ERROR_CODES;

/**
 * An expected failure. Message form: `Cannot <verb> <object> "<name>": <what is>, <what should be>`. Names may come
 * from untrusted sources, so the constructor makes the message and hint printable.
 */
export class ControllerError extends Error {
  override readonly name = "ControllerError";
  readonly code: ErrorCode;
  /** What the operator can do, in one sentence, if there is anything. */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; hint?: string | undefined } = {}) {
    super(printableLines(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint === undefined ? undefined : printableLines(options.hint);
  }

  /** The process exit code that belongs to this error. */
  get exitCode(): number {
    return ERROR_CODES[this.code].exitCode;
  }
}

/** A bug: an impossible state. The controller logs it, stops its children gracefully and exits with 70. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/** Throws InvariantError with `message` unless `condition` holds. */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
