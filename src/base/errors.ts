/**
 * Operational errors, which can occur without a bug. Each has a code, an exit code and a one-line meaning. This table
 * is the only source of codes; docs/errors.md is generated from it. A bug is an InvariantError.
 */

import { printableLines } from "./printable.ts";

/** The meaning of every code, by its exit code: 1 failure, 2 invalid command line, 69 no controller, 78 configuration. */
const MEANINGS = {
  1: {
    PORT_IN_USE: "A port to listen on is in use. The message names the process if /proc shows it.",
    ADDRESS_UNAVAILABLE: "An address to listen on cannot be bound on this machine.",
    SOCKET_IN_USE: "Another process listens on the Unix socket of a pool.",
    CONTROL_SOCKET_IN_USE: "Another controller listens on the control socket.",
    CONTROL_SOCKET_UNSAFE:
      "The file at the path of the control socket is not a socket, or another user controls its directory.",
    INOTIFY_EXHAUSTED:
      "The user of the controller has too few inotify instances left for its Envoys (fs.inotify.max_user_instances).",
    LISTENER_PORT_IN_USE: "The listener port of a pool is in use. The message names the process if /proc shows it.",
    PROC_UNUSABLE: "The file system /proc is not mounted, or belongs to another PID namespace.",
    SPAWN_FAILED: "The kernel could not start a process.",
    PROCESS_LIMIT:
      "A limit on processes and threads is reached: pids.max of a control group, RLIMIT_NPROC or the kernel's own limit.",
    ENVOY_NO_ANSWER: "Envoy did not respond in time. The machine may be overloaded.",
    RESTARTS_EXHAUSTED: "A worker reached its restart limit.",
    POOL_BLOCKED: "A pool cannot start, because a pool that it depends on failed.",
    SHUTDOWN_FORCED: "Workers were killed because a second signal arrived or supervisor.shutdown_timeout expired.",
    WATCH_FAILED:
      "A directory cannot be watched for changes: it does not exist, has too many subdirectories, or a limit of inotify is reached.",
    UNHEALTHY:
      "Too few workers are ready, the controller is not ready for traffic, or it does not respond (`monoceros health`).",
    OPERATION_FAILED: "A restart, scale, stop, start or reload failed.",
    FILE_UNWRITABLE: "A command could not write its output file.",
    LOG_FILE_FAILED: "A log file of a pool cannot be written to, rotated, compressed or opened again.",
    WORKER_UNKNOWN: "No worker has this id.",
    PROCESS_UNKNOWN: "The worker has no live process with this id.",
    POOL_UNKNOWN: "No pool has this name.",
    OPERATION_UNKNOWN: "No operation has this id, or it is no longer kept.",
    ACCESS_DENIED: "The API request needs the token, or is not permitted from this client.",
    REQUEST_INVALID: "The API request is malformed.",
    REQUEST_REFUSED: "The API request is not permitted or not possible in the current state.",
  },
  2: {
    USAGE: "The command line is invalid.",
  },
  69: {
    NO_CONTROLLER: "No controller listens on the control socket, or it does not respond.",
  },
  78: {
    CONFIG_INVALID: "The configuration has problems. The message lists each with line and column.",
    CONFIG_UNREADABLE: "The configuration file cannot be read.",
    EXEC_NOT_FOUND: "The executable of a pool does not exist or is not on PATH.",
    EXEC_NOT_EXECUTABLE: "The executable of a pool exists but cannot be executed.",
    INTERPRETER_NOT_FOUND:
      "The executable of a pool exists, but its interpreter (#! line) or its dynamic loader does not.",
    CWD_NOT_FOUND: "The working directory of a pool does not exist.",
    ENV_FILE_INVALID: "An env_file cannot be read, or contains invalid lines.",
    ARGUMENTS_TOO_LONG: "The arguments and environment variables of a pool are longer than the kernel accepts.",
    TLS_FILE_INVALID: "A file of server.tls is missing, is not a regular file or cannot be read.",
    TOKEN_FILE_INVALID: "The admin.token_file cannot be read, or contains no token.",
    LOG_FILE_UNUSABLE:
      "The logs.file of a pool cannot be used: its directory is missing or not writable, another user controls it, it is not a regular file, or another pool uses the same path.",
    USER_NOT_FOUND: "A user or group of a pool does not exist on this system.",
    PERMISSION_REQUIRED: "A setting of a pool requires root privileges.",
    RUNTIME_DIR_UNUSABLE:
      "No directory for sockets and Envoy's files is writable, or a user that needs the directory cannot enter it.",
    SPAWN_SHIM_BLOCKED:
      "A pool needs the spawn shim, which sets users, limits and LISTEN_PID, but the system executes it neither from memory nor from supervisor.runtime_dir.",
    RUNTIME_DIR_UNSAFE: "Another user controls the directory for sockets and Envoy's files, or a directory above it.",
    PROGRAM_UNTRUSTED: "Another user could replace a program that the controller runs with its own privileges.",
    ENVOY_NOT_FOUND: "A pool has a server, but no Envoy was found.",
    ENVOY_NOT_EXECUTABLE: "The Envoy executable cannot be run, or is another program.",
    ENVOY_TOO_OLD: "Envoy is older than 1.31, the oldest supported version.",
    ENVOY_CONFIG_REFUSED: "Envoy rejects the server settings of a pool.",
    IMPORT_SOURCE_UNREADABLE: "The file to import cannot be read, is too large, or is not text.",
    IMPORT_SOURCE_INVALID: "The file to import is not of the kind named, or starts no program.",
    IMPORT_EVALUATION_FAILED:
      "The interpreter of the file to import (node, python3) is missing, reported an error or exceeded its time limit.",
  },
} as const;

/** A stable name of an operational error, safe to match on. */
export type ErrorCode = { [Exit in keyof typeof MEANINGS]: keyof (typeof MEANINGS)[Exit] }[keyof typeof MEANINGS];

/** Every operational error code, by exit code. */
export const ERROR_CODES = Object.fromEntries(
  Object.entries(MEANINGS).flatMap(([exitCode, codes]) =>
    Object.entries(codes).map(([code, meaning]) => [code, { exitCode: Number(exitCode), meaning }]),
  ),
) as Readonly<Record<ErrorCode, { readonly exitCode: number; readonly meaning: string }>>;

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

/** The code of a system error such as ENOENT, or of another error that has one. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
